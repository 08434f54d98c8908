"""What is installed is what is in the folders, and nobody else's `datasets` is touched."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("bench", "methods", "datasets")


def test_import_datasets_is_not_ours():
    """From the repository root too, `datasets` is Hugging Face's package or nothing."""
    code = (
        "import importlib.util as u; s = u.find_spec('datasets');"
        "print(getattr(s, 'origin', None) if s else None)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() in ("None", "") or str(ROOT) not in done.stdout
    for name in ("methods", "datasets"):
        assert not (ROOT / name / "__init__.py").exists()


def test_the_namespace_is_open_to_other_distributions():
    spec = importlib.util.find_spec("zsad")
    assert spec is not None
    assert spec.origin is None


@pytest.mark.slow
def test_wheel_holds_exactly_the_files_of_the_folders(tmp_path):
    source = tmp_path / "source"
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout, so what belongs to the project is unknown")
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file() and not name.startswith(".types"):
            target = source / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "-q", "-w", str(tmp_path), str(source)],
        check=True,
    )
    (wheel,) = tmp_path.glob("zsad-*.whl")
    inside = {n for n in zipfile.ZipFile(wheel).namelist() if n.startswith("zsad/")}
    expected = {
        f"zsad/{path.relative_to(source).as_posix()}"
        for folder in FOLDERS
        for path in (source / folder).rglob("*")
        if path.is_file() and path.parent.name != "main"
    }
    assert {n for n in inside if n.split("/")[1] in FOLDERS} == expected
    assert any(n.endswith("image_level.csv") for n in inside), "printed numbers are not installed"
    assert {n for n in inside if n.count("/") == 1} == {"zsad/__main__.py"}  # no __init__.py
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    done = subprocess.run(
        [sys.executable, "-m", "zsad", "--version"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert re.fullmatch(r"zsad \S+\n", done.stdout), done.stderr
