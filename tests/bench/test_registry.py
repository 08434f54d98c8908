"""Names, folders and entry points."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

import pytest
import zsad.bench
from zsad.bench import registry
from zsad.bench.cli import describe
from zsad.bench.errors import ContractError, UsageError
from zsad.bench.method import Method, Options, Prediction
from zsad.bench.names import display_name, registry_name
from zsad.bench.running.dry_run import dry_run
from zsad.bench.running.plan import make_plan

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
def test_every_dataset_loads_and_has_its_file_name(name):
    assert registry_name(registry.dataset_class(name).name) == name


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


# -- broken files and plug-ins -------------------------------------------------------------------

BROKEN = {
    "cut_off": "def predict(",
    "exits": "import sys; sys.exit(0)",
    "lacks": "import a_module_that_does_not_exist",
    "empty": "",
}


@pytest.fixture(params=BROKEN)
def broken(request, tmp_path, monkeypatch):
    """A plug-in of this name, as method and as dataset, that cannot be used."""
    name = request.param
    module = f"zsad_broken_{name}"
    (tmp_path / f"{module}.py").write_text(BROKEN[name])
    info = tmp_path / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    points = "".join(f"[zsad.{kind}]\n{name} = {module}:X\n" for kind in ("methods", "datasets"))
    (info / "entry_points.txt").write_text(points)
    monkeypatch.syspath_prepend(str(tmp_path))
    registry.entries.cache_clear()
    yield name
    registry.entries.cache_clear()


def test_a_broken_plug_in_is_left_out_of_all_and_named_where_it_is_asked_for(
    broken, caplog, monkeypatch
):
    monkeypatch.setattr("zsad.bench.cli.describe._effective", lambda cls: 0)
    plan = make_plan(["all"], ["synthetic"], limit=1)
    assert broken not in {method.name for method in plan.methods}
    assert "left out" in caplog.text
    assert dry_run(make_plan(["clip"], ["synthetic"], limit=1)).ready
    shown = display_name(broken)
    for described, kind in ((describe.methods(), "method"), (describe.datasets(), "dataset")):
        (why,) = described.broken
        assert f"{kind} '{shown}' is broken, zsad_broken_{broken}" in why
    with pytest.raises(UsageError, match=f"method '{shown}' is broken"):
        make_plan(["clip", broken], ["synthetic"])
    with pytest.raises(UsageError, match=f"dataset '{shown}' is broken"):
        make_plan(["clip"], [broken])


PAPERS_NINE = {
    "anomalyclip",
    "anovl",
    "april_gan",
    "clip",
    "clip_ac",
    "cocoop",
    "coop",
    "faprompt",
    "winclip",
}


def test_all_are_the_papers_nine_and_all_known_is_every_method():
    assert {method.name for method in make_plan(["all"]).methods} == PAPERS_NINE
    for word in ("all-known", "all_known"):
        known = [method.name for method in make_plan([word]).methods]
        assert known == registry.names("method")
    assert {"vcp_clip", "tcp"} <= set(known)


def test_all_known_leaves_out_what_cannot_be_loaded(broken, caplog):
    known = {method.name for method in make_plan(["all-known"]).methods}
    assert broken not in known and known > PAPERS_NINE
    assert "left out" in caplog.text


# -- classes that are refused when they are defined ----------------------------------------------


def define(**attributes):
    return type(
        "Mine", (Method,), {"predict": lambda self, query: Prediction(None, None)} | attributes
    )


@dataclass(frozen=True)
class Good(Options):
    strength: float = 1.0


class NoDataclass(Options):
    strength: float = 1.0


@dataclass(frozen=True)
class Foreign:
    strength: float = 1.0


@pytest.mark.parametrize(
    ("attributes", "says"),
    [
        ({}, "Mine has no title: add title"),
        ({"title": " "}, "has no title"),
        ({"title": "Mine", "default_variant": "paper"}, "no variant 'paper'.*set default_variant"),
        ({"title": "Mine", "variants": {}}, "no variant 'official'"),
        ({"title": "Mine", "variants": {"official": NoDataclass()}}, "NoDataclass.*@dataclass"),
        (
            {"title": "Mine", "variants": {"official": Foreign()}},
            "Foreign.*derive them from Options",
        ),
        ({"title": "Mine", "variants": {"official": Good}}, "Good.*give an instance"),
    ],
)
def test_a_class_that_could_not_run_is_refused_when_it_is_defined(attributes, says):
    with pytest.raises(ContractError, match=says):
        define(**attributes)


def test_a_whole_class_and_an_abstract_one_without_a_title_may_be_defined():
    assert define(title="Mine", variants={"official": Good()}).title == "Mine"
    type("Abstract", (Method,), {})


def test_create_is_found_by_its_earlier_place():
    assert registry.create is zsad.bench.create
    with pytest.raises(AttributeError, match="no attribute 'creat'"):
        registry.creat  # noqa: B018
