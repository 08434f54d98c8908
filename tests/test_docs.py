"""Every code block and every command of README.md and docs/ does what it says, or is parsed.

Blocks are fenced and state a language, which is the rule that they are tested by: `python` blocks
of a page are run in order, `sh` and `bash` commands are given to the command line, `toml` blocks
are plan files or what a new package has, and `text` blocks are drawings. A `zsad` command that
needs data, weights or a GPU that are not here stops where its work would begin: its options are
parsed and its names resolved.
"""

from __future__ import annotations

import configparser
import importlib
import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
import typer
from safetensors.torch import save_file
from zsad.bench import registry
from zsad.bench.cli import app as cli
from zsad.bench.conformance import check_method
from zsad.bench.dataset import Dataset
from zsad.bench.export.repository import place_records
from zsad.bench.method import Method, TrainableMethod
from zsad.bench.records.maps import write_maps
from zsad.bench.records.predictions import Decision, Predictions
from zsad.bench.records.record import read_records
from zsad.bench.running.plan import read_plan

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
WORKFLOWS = sorted((ROOT / "docs").glob("*.yml"))
OF_REPOSITORY = "publish-records.yml"  # its commands are given within a results repository
FENCED = r"^```(.*)\n((?:.*\n)*?)```$"
LANGUAGES = {"python", "sh", "bash", "toml", "text"}
FOREIGN_OPTIONS = {"--nthreads"}  # of other programs: dask worker
NAMES = {
    "--dataset NAME": "--dataset visa",
    "--method NAME": "--method clip",
    "--metric NAME": "--metric image_auroc",
    "--category NAME": "--category candle",
    "--option NAME": "--option n_prompts",
    "sources NAME": "sources visa",
    "--panels N": "--panels 4",
    "--values A,B": "--values 8,16",
    "--side N": "--side 8",
    "--jobs N": "--jobs 1",
    "--figure FILE": "--figure FILE.png",
}
ANSWERS_NO = ("zsad data check", "zsad plan")  # of the few images that there are here
SAYS_WHY_NOT = {
    "--kind sweep": "sweep",
    "--layout hyperparameters": "sweep",
    "--kind tsne": "--save-prompt-scores",
    "--layout image --format parquet": "--layout tidy",
    "--over map-size --metric image_auroc": "choose pixel-level metrics",
    "--over map-size --side": "map-size has none",
    "--over image-size": "not a run directory",  # as nothing long is begun here
}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page; `line` is that of its fence."""

    page: Path
    line: int
    language: str
    text: str


def _blocks_of(text: str) -> Iterator[re.Match[str]]:
    """Matches of a page's fenced blocks: (all, language, what is inside)."""
    return re.finditer(FENCED, text, flags=re.M)


def _blocks() -> Iterator[Block]:
    for page in PAGES:
        for found in _blocks_of(page.read_text()):
            line = page.read_text()[: found.start()].count("\n") + 1
            yield Block(page, line, found[1], found[2])


BLOCKS = list(_blocks())


def _commands() -> Iterator[tuple[str, str]]:
    """(place, command) of sh and bash blocks, of `zsad ...` in a text, and of the workflows."""
    for workflow in WORKFLOWS:
        for command in re.findall(r"- run: (.*)", workflow.read_text()):
            yield workflow.name, command
    for block in BLOCKS:
        if block.language not in ("sh", "bash"):
            continue
        place = f"{block.page.name}:{block.line}"
        text = re.sub(r"\s+#.*|^#.*", "", block.text, flags=re.M)
        for line in re.sub(r"\\?\n[ \t]+", " ", text).splitlines():
            for part in line.split(" && "):
                if part.strip():
                    yield place, part.strip()
    for page in PAGES:
        prose = re.sub(FENCED, "", page.read_text(), flags=re.M)
        for span in re.findall(r"`((?:zsad|pip|python) [^`]+)`", prose):
            yield page.name, re.sub(r"\s+", " ", span)


def expanded(synopsis: str) -> list[str]:
    """The commands that a synopsis allows: each alternative and each optional part once."""
    group = r"(?<!\S)\[([^\]]+)\](?:\.\.\.)?"
    base = re.sub(group, "", synopsis).replace("RUN...", "RUN_A RUN_B")
    lines = _chosen(base)
    for optional in re.findall(group, synopsis):
        for alternative in optional.split(" | "):
            lines += _chosen(f"{lines[0]} {alternative}")
    for placeholder, name in NAMES.items():
        lines = [line.replace(placeholder, name) for line in lines]
    return list(dict.fromkeys(" ".join(line.split()) for line in lines))


def _chosen(line: str) -> list[str]:
    """The line with each word `a|b|c` as its first alternative, then with each of the others."""
    words = re.findall(r"(?<=\s)\S+\|\S+", line)
    plain = {word: word.split("|")[0] for word in words}
    choices = [plain]
    for word in words:
        for other in word.split("|")[1:]:
            written = Path(plain[word]).stem + other if other.startswith(".") else other
            choices.append({**plain, word: written})
    return [" ".join(choice.get(w, w) for w in line.split(" ")) for choice in choices]


COMMANDS = [(place, line) for place, command in _commands() for line in expanded(command)]
ZSAD = list(dict.fromkeys(c for c in COMMANDS if re.match(r"(srun )?zsad ", c[1])))
OTHERS = list(dict.fromkeys(c for c in COMMANDS if c not in ZSAD))


def untested(text: str) -> list[str]:
    """What of a page's code no rule covers."""
    blocks = list(_blocks_of(text))
    faults = [f"no rule for ```{block[1]}" for block in blocks if block[1] not in LANGUAGES]
    fences = re.findall(r"^[ \t>]*(?:```|~~~)", text, flags=re.M)
    if len(fences) != 2 * len(blocks):
        faults.append("a fence is indented, is not closed, or is not of three backticks")
    prose = re.sub(FENCED, "", text, flags=re.M)
    drawings = "".join(block[2] for block in blocks if block[1] == "text")
    command = r"(?:\$ )?(?:zsad|pip|python|tox|srun) .*"
    faults += re.findall(rf"^(?:    |\t)[ \t]*{command}", prose, flags=re.M)
    return faults + re.findall(rf"^[ \t]*{command}", drawings, flags=re.M)


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_every_block_of_a_page_has_a_rule(page):
    assert not untested(page.read_text())


@pytest.mark.parametrize(
    "text",
    [
        "```\nzsad run\n```\n",
        "```yaml\na: 1\n```\n",
        "* a list\n\n  ```sh\n  zsad run\n  ```\n",
        "~~~sh\nzsad run\n~~~\n",
        "````sh\nzsad run\n````\n",
        "```sh\nzsad run\n",
        "Text.\n\n    zsad run\n",
        "```text\nzsad run\n```\n",
    ],
)
def test_a_block_without_a_rule_is_found(text):
    assert untested(text)
    assert not untested("```sh\nzsad run\n```\n")


def test_a_synopsis_is_every_command_that_it_allows():
    assert expanded("zsad x RUN --layout a|b [--delta] [-o FILE.png|.pdf] [--in | --out]") == [
        "zsad x RUN --layout a",
        "zsad x RUN --layout b",
        "zsad x RUN --layout a --delta",
        "zsad x RUN --layout a -o FILE.png",
        "zsad x RUN --layout a -o FILE.pdf",
        "zsad x RUN --layout a --in",
        "zsad x RUN --layout a --out",
    ]


# -- commands --------------------------------------------------------------------------------------


def load(path: Path) -> ModuleType:
    """A module of the tests' own, by path."""
    name = f"zsad_test_docs_{path.stem}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    """A folder that holds all that the pages' commands name."""
    trees = load(ROOT / "tests" / "datasets" / "trees.py")
    make_run = load(ROOT / "tests" / "bench" / "made_run.py").make_run
    root = tmp_path_factory.mktemp("workplace")
    trees.mvtec(root / "DATA" / "mvtec")
    (root / "DATA" / "VisA").mkdir()
    trees.visa(root / "DATA" / "VisA")
    titles, datasets = ("CLIP", "AnomalyCLIP", "FAPrompt"), ("mvtec_ad", "visa", "btad")
    made = make_run(root / "RUN", titles, datasets, images=8)
    masks = np.arange(3 * 16 * 16).reshape(3, 16, 16) % 11 == 0
    for record in read_records(made):
        for result in record.categories:
            write_maps(made, record.cell, result.category, masks.astype(np.float32), masks)
    names = ["RUN_A", "RUN_B", "runs/a", "runs/b", "runs/guard"]
    names += ["results/runs/full", "results/runs/builtin"]
    for name in names:
        shutil.copytree(made, root / name)
    for name in ("REPOSITORY", "RECORDS"):  # the latter is named DIR on a page
        place_records(read_records(made), root / name)
    save_file({"prompt": torch.zeros(1)}, root / "anomalyclip.safetensors")
    (root / "plan.toml").write_text('methods = ["clip"]\ndatasets = ["visa"]\n')
    update = ["check", "RUN", "--update", "--reason", "first"]
    for name in ("FILE", "baseline.json", "results/baselines/builtin.json"):
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(root)
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            assert call([*update, "--baseline", name], patch) == 0
    return root


def call(arguments: list[str], patch: pytest.MonkeyPatch) -> int:
    patch.setattr(sys, "argv", ["zsad", *arguments])
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.fixture
def at_work(workplace, tmp_path, monkeypatch):
    """A copy of the workplace is the current folder, and nothing long is begun there."""
    place = tmp_path / "work"
    shutil.copytree(workplace, place)
    monkeypatch.chdir(place)
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    for module in ("run", "options"):
        monkeypatch.setattr(f"zsad.bench.cli.{module}.chosen_device", lambda name: "cpu")
    monkeypatch.setattr("zsad.bench.running.parallel.run", lambda *_, **__: None)
    monkeypatch.setattr("zsad.bench.cli.run._summary", lambda *_: None)
    monkeypatch.setattr("zsad.bench.training.trainer.train", _train_nothing)
    monkeypatch.setattr("zsad.bench.cli.train._training_backbone", lambda *_, **__: None)
    monkeypatch.setattr("zsad.bench.weights.load_backbone", lambda *_: None)
    monkeypatch.setattr("zsad.bench.factory.create", _create_nothing)
    monkeypatch.setattr("zsad.bench.running.predict_files.predict_files", _predict_nothing)
    monkeypatch.setattr("zsad.bench.cli.predict._facts", lambda *_: {})
    monkeypatch.setattr("zsad.bench.cli.scaffold._folder", lambda name: place / name)
    return place


def _predict_nothing(method, paths, class_name, out, request):
    return Predictions([], Decision())


def _train_nothing(name, dataset, backbone, out, *_, **__):
    method = SimpleNamespace(title=name)
    return SimpleNamespace(path=out, method=method, seconds=0, provenance={})


def _create_nothing(name, backbone, variant=None, checkpoint=None, auxiliary=None, **options):
    registry.method_class(name)
    return SimpleNamespace(name=name, supervision="training-free")


@pytest.mark.parametrize(("place", "command"), ZSAD, ids=[f"{p} {c}" for p, c in ZSAD])
def test_a_zsad_command_of_a_page_is_done(place, command, at_work, monkeypatch, capsys):
    if place == OF_REPOSITORY:
        monkeypatch.chdir(at_work / "REPOSITORY")
    if place.startswith("publish.md:"):
        (at_work / "RECORDS").rename(at_work / "DIR")
    if place == "datasets.md":
        (at_work / "DATA").rename(at_work / "DIR")
    elif place.startswith("datasets.md:"):
        shutil.copytree(at_work / "DATA", at_work / "DIR")
    words = shlex.split(command.removeprefix("srun ").replace("${SLURM_ARRAY_TASK_ID}", "3"))[1:]
    parsed = _verb(words)
    if parsed is not None and place in [page.name for page in PAGES]:
        unknown = {w for w in words if w.startswith("-")} - _options_of(parsed)
        assert not unknown, f"{place}: {command}"
        return
    code = call(words, monkeypatch)
    said = "".join(capsys.readouterr())
    for option, why in SAYS_WHY_NOT.items():
        if option in command:
            assert code != 0
            assert why in said
            return
    assert code in ((0, 1) if command.startswith(ANSWERS_NO) else (0,)), said


def _verb(words: list[str]) -> typer.core.TyperCommand | None:
    """The command that the first words name; None for an option."""
    found = typer.main.get_command(cli.app)
    for word in words:
        if not hasattr(found, "commands"):
            break
        assert word in found.commands, f"zsad has no verb '{word}'"
        found = found.commands[word]
    return found


def _options_of(command: typer.core.TyperCommand) -> set[str]:
    named = [parameter.opts + parameter.secondary_opts for parameter in command.params]
    return {"--help", *(name for names in named for name in names)}


def test_every_option_that_a_text_names_is_one():
    known = set(FOREIGN_OPTIONS)
    groups = [typer.main.get_command(cli.app)]
    while groups:
        group = groups.pop()
        known |= _options_of(group)
        groups += getattr(group, "commands", {}).values()
    for page in PAGES:
        prose = re.sub(FENCED, "", page.read_text(), flags=re.M)
        for span in re.findall(r"`([^`]+)`", prose):
            if not span.startswith(("pip ", "python ")):
                named = set(re.findall(r"(?<!\S)--[a-z][\w-]*", span))
                assert named <= known, f"{page.name}: `{span}`"


@pytest.mark.parametrize(("place", "command"), OTHERS, ids=[f"{p} {c}" for p, c in OTHERS])
def test_another_command_of_a_page_can_be_done(place, command):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    words = shlex.split(command)
    if words[0] == "pip":
        assert words[1] == "install"
        for wanted in (word for word in words[2:] if not word.startswith("-")):
            name, _, extras = wanted.rstrip("]").partition("[")
            written = {line.split()[-1] for _, line in ZSAD if " --package " in line}
            assert name in {".", "tox", project["name"], *written}, command
            assert set(filter(None, extras.split(","))) <= set(project["optional-dependencies"])
    elif words[0] == "tox":
        settings = configparser.ConfigParser()
        settings.read(ROOT / "tox.ini")
        for name in words[words.index("-e") + 1].split(",") if "-e" in words else []:
            assert f"testenv:{name}" in settings
        assert settings["tox"]["env_list"]
    elif words[0] == "pytest":
        tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
        assert all((ROOT / word).exists() for word in words if word.endswith(".py")), command
        assert all(f"def test_{word}" in tests for word in words[2:] if words[1] == "-k"), command
    elif words[:2] == ["python", "-m"]:
        assert importlib.util.find_spec(words[2]) is not None, command
    elif words[0] == "python":
        program = (ROOT / words[1]).read_text()
        assert all(word in program for word in words[2:] if word.startswith("-")), command
    else:
        pytest.fail(f"{place}: no rule for '{command}'")


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "bash"])
def test_a_script_of_a_page_is_a_script(block):
    subprocess.run(["bash", "-n"], input=block.text, text=True, check=True)


# -- code ------------------------------------------------------------------------------------------

PYTHON = [page for page in PAGES if any(b.page == page and b.language == "python" for b in BLOCKS)]
TOML = [block for block in BLOCKS if block.language == "toml"]
PACKAGES = [block for block in TOML if "project" in tomllib.loads(block.text)]
PLANS = [block for block in TOML if block not in PACKAGES]


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Empty methods/ and datasets/ folders whose files are registered beside the project's own."""
    for kind, name in registry.FOLDER_OF.items():
        folder = tmp_path / name
        folder.mkdir()
        package = importlib.import_module(f"{registry.NAMESPACE}.{name}")
        monkeypatch.setattr(package, "__path__", [str(folder), *package.__path__])
        registry.names(kind)
    registry.entries.cache_clear()
    before = set(sys.modules)
    yield tmp_path
    registry.entries.cache_clear()
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize("page", PYTHON, ids=[page.name for page in PYTHON])
def test_the_code_of_a_page_runs(page, folders, workplace, monkeypatch, capsys):
    """A class becomes a file of methods/ or datasets/ and is used by the command."""
    space: dict[str, object] = {}
    for block in (b for b in BLOCKS if b.page == page and b.language == "python"):
        classes = re.findall(r"^class (\w+)\((\w+)\):", block.text, flags=re.M)
        if not classes:
            exec(compile(block.text, f"{page.name}:{block.line}", "exec"), space)
            continue
        name, base = classes[-1]  # before it stand the options
        stem = re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
        folder = "datasets" if "Dataset" in base else "methods"
        (folders / folder / f"{stem}.py").write_text(block.text)
        registry.entries.cache_clear()
        made = getattr(importlib.import_module(f"{registry.NAMESPACE}.{folder}.{stem}"), name)
        space[name] = made
        if issubclass(made, Method):
            _use_method(made, stem, workplace / "DATA", folders, monkeypatch)
        else:
            _use_dataset(made, stem, folders, monkeypatch)
        assert "Traceback" not in "".join(capsys.readouterr())


def _use_method(made, stem, data, place, monkeypatch) -> None:
    if not issubclass(made, TrainableMethod):  # the page of a trainable one calls the kit itself
        check_method(made)
    words = f"run --methods {stem} --datasets visa --data-root {data} --out {place / 'run'} --quiet"
    assert call(words.split(), monkeypatch) == 0


def _use_dataset(made, stem, place, monkeypatch) -> None:
    assert issubclass(made, Dataset)
    trees = load(ROOT / "tests" / "datasets" / "trees.py")
    for category in made.categories:
        trees.category_tree(place / "data" / made.folders[0], category)
    words = f"run --methods clip --datasets {stem} --data-root {place / 'data'} --quiet"
    assert call([*words.split(), "--out", str(place / "run")], monkeypatch) == 0


@pytest.mark.parametrize("block", PLANS, ids=[f"{b.page.name}:{b.line}" for b in PLANS])
def test_the_plan_files_of_a_page_are_plans(block, tmp_path):
    (tmp_path / "plan.toml").write_text(block.text)
    cells = read_plan(tmp_path / "plan.toml").cells()
    assert len({cell.key for cell in cells}) == len(cells) > 1


@pytest.mark.parametrize("block", PACKAGES, ids=[f"{b.page.name}:{b.line}" for b in PACKAGES])
def test_the_entry_points_of_a_page_are_those_that_a_new_package_has(block, tmp_path):
    from zsad.bench.cli.scaffold import write

    points = tomllib.loads(block.text)["project"]["entry-points"]
    for group, named in points.items():
        kind = group.removeprefix(f"{registry.NAMESPACE}.").removesuffix("s")
        for name in named:
            write(kind, name, tmp_path / name)
            written = tomllib.loads((tmp_path / name / "pyproject.toml").read_text())
            assert written["project"]["entry-points"] == {group: {name: named[name]}}
