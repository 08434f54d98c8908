"""A generated method or dataset passes at once, in the folder and as a package of its own."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from zsad.bench import anomaly_maps, load_backbone, prompts, registry
from zsad.bench.cli import scaffold
from zsad.bench.conformance import check_method
from zsad.bench.errors import UsageError
from zsad.bench.method import TrainableMethod

ROOT = Path(__file__).parents[3]


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
        [sys.executable, "-m", "zsad", "list", f"{kind}s"],
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
    space: dict[str, object] = {"__name__": "my_idea"}
    exec(compile(text, str(path), "exec"), space)
    check_method(space["MyIdea"], load_backbone("tiny"))


def test_what_earlier_methods_import_is_still_there():
    from zsad.methods import _maps, _prompts

    assert _maps.smooth is anomaly_maps.smooth
    assert _maps.state_probabilities is anomaly_maps.state_probabilities
    assert _maps.upsample is anomaly_maps.upsample
    assert _prompts.encode_states is prompts.encode_states


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
        opened = registry.open_dataset(dataset, root, {})
        assert opened.root == own
        assert len(opened.samples()) == 2


@pytest.mark.parametrize(
    ("name", "fit"),
    [
        ("Bad Name", "bad-name"),
        ("MyIdea", "myidea"),
        ("3d-idea", "d-idea"),
        ("idée", "idee"),
        ("class", "class-method"),
        ("my__idea", "my-idea"),
        ("-", "letters"),
    ],
)
def test_an_odd_name_is_refused_with_one_that_fits(name, fit, tmp_path):
    with pytest.raises(UsageError, match=rf"'{name}' is not a usable name: take .*{fit}"):
        scaffold.write("method", name, tmp_path / "package")
    assert not (tmp_path / "package").exists()


def test_outside_a_checkout_nothing_is_written_unless_told_where(tmp_path, monkeypatch):
    """As from site-packages: the folder can be written to, and it is not the project's."""
    (tmp_path / "methods").mkdir()
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "another"\n')
    package = SimpleNamespace(__path__=[str(tmp_path / "methods")])
    monkeypatch.setattr(scaffold, "import_module", lambda name: package)
    with pytest.raises(UsageError, match="--package FOLDER.*--out FOLDER"):
        scaffold.write("method", "my-idea")
    assert not list((tmp_path / "methods").iterdir())
    assert scaffold.write("method", "my-idea", out=tmp_path / "own") == [
        tmp_path / "own" / "my_idea.py"
    ]
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "zsad"\n')
    assert scaffold.write("method", "my-idea") == [tmp_path / "methods" / "my_idea.py"]


def test_a_new_trainable_method_passes(tmp_path):
    (path,) = scaffold.write("method", "my-idea", out=tmp_path, trainable=True)
    spec = importlib.util.spec_from_file_location("my_idea", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["my_idea"] = module  # where dataclasses look for the names of annotations
    try:
        spec.loader.exec_module(module)
        assert issubclass(module.MyIdea, TrainableMethod)
        check_method(module.MyIdea, load_backbone("tiny"))
    finally:
        del sys.modules["my_idea"]


def _write_all(root, monkeypatch):
    """Everything that can be written: into a checkout, as packages, alone."""
    for folder in ("methods", "datasets"):
        (root / "checkout" / "tests" / folder).mkdir(parents=True)
    monkeypatch.setattr(scaffold, "_folder", lambda name: root / "checkout" / name)
    written = {}
    for kind, trainable in (("method", False), ("method", True), ("dataset", False)):
        name = f"a-rather-long-name-{'trained' if trainable else kind}"
        scaffold.write(kind, name, trainable=trainable)
        scaffold.write(kind, name, root / name, trainable=trainable)
        written[name] = scaffold.write(kind, name, out=root / "out", trainable=trainable)
    return written


def test_what_is_written_passes_the_lint_of_the_project(tmp_path, monkeypatch):
    pytest.importorskip("ruff")
    written = _write_all(tmp_path, monkeypatch)
    config = ("--no-cache", "--config", str(ROOT / "pyproject.toml"), ".")
    for folder in ("checkout", "out", *written):
        for command in (("check",), ("format", "--check", "--diff")):
            done = subprocess.run(
                [sys.executable, "-m", "ruff", *command, *config],
                cwd=tmp_path / folder, capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_what_is_written_passes_the_types_of_the_project(tmp_path, monkeypatch):
    pytest.importorskip("mypy")
    if not (ROOT / ".types" / "zsad" / "bench").exists():
        pytest.skip("the folder of links for mypy is not there")
    paths = [str(path) for files in _write_all(tmp_path, monkeypatch).values() for path in files]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *paths],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


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
    code = code.replace("from ..bench", "from zsad.bench")
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
