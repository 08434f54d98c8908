"""Names, folders and entry points."""

from __future__ import annotations

import subprocess
import sys

import pytest
from zsad.bench import registry
from zsad.bench.errors import UsageError

BASELINES = "clip clip_ac winclip april_gan anovl coop cocoop anomalyclip faprompt"


def test_every_file_of_the_folder_is_a_name():
    assert set(BASELINES.split()) <= set(registry.names("method"))
    assert {"mvtec_ad", "visa", "elpv", "folder", "synthetic"} <= set(registry.names("dataset"))
    assert not [name for name in registry.names("method") if name.startswith("_")]


@pytest.mark.parametrize("spelling", ["clip-ac", "clip_ac", "CLIP-AC", " Clip_AC "])
def test_hyphen_underscore_and_case_are_the_same(spelling):
    assert registry.resolve("method", spelling).name == "clip_ac"


def test_unknown_name_answers_with_the_nearest_known_ones():
    with pytest.raises(UsageError, match="did you mean winclip"):
        registry.resolve("method", "winklip")
    with pytest.raises(UsageError, match="did you mean mvtec-ad"):
        registry.resolve("dataset", "mvtec")


@pytest.mark.parametrize("name", registry.names("method"))
def test_every_method_loads(name):
    cls = registry.method_class(name)
    assert cls.title
    assert cls.default_variant in cls.variants


@pytest.mark.parametrize("name", registry.names("dataset"))
def test_every_dataset_loads_and_bears_its_file_name(name):
    assert registry.canonical(registry.dataset_class(name).name) == name


@pytest.mark.parametrize("arguments", [["--help"], ["list", "methods"], ["list", "datasets"]])
def test_help_and_list_import_no_torch(arguments):
    code = (
        f"import sys; sys.argv = ['zsad', *{arguments!r}];\n"
        "from zsad.bench.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit as e:\n    assert not e.code\n"
        "heavy = [m for m in ('torch', 'pandas', 'open_clip', 'matplotlib') if m in sys.modules]\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
