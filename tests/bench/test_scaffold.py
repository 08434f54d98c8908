"""A generated method or dataset passes at once, in the folder and as a package of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from zsad.bench import load_backbone, registry, scaffold
from zsad.bench.conformance import check_method
from zsad.bench.errors import UsageError

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["method", "dataset"])
def test_a_new_package_installs_is_listed_and_passes_its_own_tests(kind, tmp_path):
    """Really pip-installed, into a folder of its own that only this test sees."""
    package, site = tmp_path / "package", tmp_path / "site"
    scaffold.write(kind, "my-idea", package)
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"),
            *("--target", str(site), str(package)),
        ],
        check=True,
    )
    shutil.rmtree(package / "build", ignore_errors=True)
    (package / "zsad_my_idea.py").unlink()  # what is tested is what was installed
    environment = {**os.environ, "PYTHONPATH": str(site)}
    listed = subprocess.run(
        [sys.executable, "-m", "zsad.bench.cli", "list", f"{kind}s"],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "my-idea" in listed.stdout.split()
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(package / "tests")],
        env=environment, cwd=package, check=True,
    )  # fmt: skip


def test_a_new_method_in_the_folder_passes(tmp_path, monkeypatch):
    monkeypatch.setattr(scaffold, "_folder", lambda name: tmp_path / name)
    (path,) = scaffold.write("method", "my-idea")
    text = path.read_text().replace("from ..bench", "from zsad.bench")
    text = text.replace("from ._", "from zsad.methods._")
    space: dict[str, object] = {"__name__": "my_idea"}
    exec(compile(text, str(path), "exec"), space)
    check_method(space["MyIdea"], load_backbone("tiny"))


def test_a_new_dataset_is_found_under_a_shared_data_root(tmp_path, trees):
    (source, *_) = (
        path
        for path in scaffold.write("dataset", "my-parts", tmp_path / "package")
        if path.name == "zsad_my_parts.py"
    )
    space: dict[str, object] = {"__name__": "zsad_my_parts"}
    exec(compile(source.read_text(), str(source), "exec"), space)
    dataset = space["MyParts"]
    own = tmp_path / "data" / "archive" / "My-Parts"
    for folder in ("good", "bad"):
        trees.paint(own / folder / "0.png")
    trees.mask(own / "masks" / "0.png")
    trees.mvtec(tmp_path / "data" / "mvtec")
    for root in (tmp_path / "data", own):
        opened = dataset.open(root)
        assert opened.root == own
        assert len(opened.samples()) == 2


@pytest.mark.parametrize("name", ["clip", "CLIP-AC", "_hidden", "a b/c", "class", "../x", ""])
def test_a_name_that_is_taken_or_no_name_is_refused(name, tmp_path):
    with pytest.raises(UsageError):
        scaffold.write("method", name, tmp_path / "package")
    assert not (tmp_path / "package").exists()


def test_nothing_is_overwritten(tmp_path):
    scaffold.write("method", "my-idea", tmp_path)
    with pytest.raises(UsageError, match="exists already"):
        scaffold.write("method", "my-idea", tmp_path)


def test_the_method_of_the_documentation_is_short_and_passes():
    text = (ROOT / "docs" / "add-a-method.md").read_text()
    (code,) = re.findall(r"```python\n(\"\"\"Patch adapter.*?)```", text, flags=re.S)
    assert len([line for line in code.splitlines() if line.strip()]) < 40
    code = code.replace("from ..bench", "from zsad.bench").replace("from ._", "from zsad.methods._")
    space: dict[str, object] = {"__name__": "patch_adapter"}
    exec(compile(code, "patch_adapter", "exec"), space)
    check_method(space["PatchAdapter"], load_backbone("tiny"))


def test_a_plug_in_of_a_name_that_is_taken_is_left_out(tmp_path, monkeypatch, caplog):
    info = tmp_path / "other-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[zsad.methods]\nclip = other:Clip\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry.entries.cache_clear()
    try:
        assert registry.resolve("method", "clip").module == "zsad.methods.clip"
        assert "'clip' of entry point 'other:Clip' exists already" in caplog.text
    finally:
        registry.entries.cache_clear()
