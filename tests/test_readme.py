"""docs/readme.py finds what of the README is stale."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "docs" / "readme.py"


@pytest.fixture
def script(tmp_path, monkeypatch):
    """The script, working on copies of all that it reads."""
    spec = importlib.util.spec_from_file_location("zsad_test_readme", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in ("README", "PICTURE", "NOTED", "BASELINE"):
        source = getattr(module, name)
        monkeypatch.setattr(module, name, Path(shutil.copy(source, tmp_path / source.name)))
    monkeypatch.setattr(module, "PAGE", shutil.copytree(module.PAGE, tmp_path / "page"))
    noted = json.loads(module.NOTED.read_text())
    noted |= {"picture": module.digest_of_picture(), "page": module.digest_of_page()}
    module.NOTED.write_text(json.dumps(noted))
    return module


def test_the_numbers_of_the_readme_are_not_stale(script):
    assert script.stale() == []


def test_the_check_needs_nothing_that_is_installed():
    done = subprocess.run(
        [sys.executable, "-S", "-I", str(SCRIPT), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert not [line for line in done.stderr.splitlines() if "tables" in line]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("(81.8, 84.3)", "(81.9, 84.3)", "CLIP image_auroc is 81.9, the run gave 81.8"),
        ("**86.7**", "86.7", "AnoVL image_ap is marked"),
        ("CLIP-AC |", "CLIP-AD |", "other methods than those that are noted"),
        ("1,092", "1,093", "ELPV has 1,092 test images"),
    ],
)
def test_what_the_readme_says_otherwise_is_told(script, old, new, words):
    text = script.README.read_text()
    assert old in text
    script.README.write_text(text.replace(old, new))
    assert words in " ".join(script.stale())


def test_a_baseline_that_moved_makes_the_readme_stale(script):
    baseline = json.loads(script.BASELINE.read_text())
    key = next(key for key in baseline["cells"] if key.startswith("anovl"))
    for metrics in baseline["cells"][key]["categories"].values():
        metrics["pixel_auroc"] -= 0.002
    script.BASELINE.write_text(json.dumps(baseline))
    (told,) = script.stale()
    assert "AnoVL pixel_auroc was 86.5 when it was shown, and is 86.3 now" in told


def test_another_picture_or_another_page_is_told(script):
    script.PICTURE.write_bytes(script.PICTURE.read_bytes() + b"x")
    style = next(script.PAGE.rglob("*.css"))
    style.write_text(style.read_text() + "\nbody { color: red; }\n")
    told = " ".join(script.stale())
    assert "is not the picture" in told
    assert "an earlier state of the report page" in told
