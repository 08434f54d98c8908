"""What goes wrong overnight: methods that fail, broken data, kills, full disks, stops."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import textwrap
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from joblib.externals.loky import get_reusable_executor
from matplotlib.figure import Figure
from PIL import Image
from zsad.bench import load_run, registry
from zsad.bench.analysis import merge
from zsad.bench.checkpoint import write_tensors
from zsad.bench.cli import results as cli_results
from zsad.bench.cli import scaffold
from zsad.bench.data import contact_sheet
from zsad.bench.errors import DataError, FileError, Stopped, UsageError
from zsad.bench.files import write_png
from zsad.bench.progress import Progress
from zsad.bench.records.cell import Cell
from zsad.bench.records.maps import write_maps
from zsad.bench.records.prompt_scores import PromptScores, write_prompt_scores
from zsad.bench.records.record import read_records
from zsad.bench.report import canvas
from zsad.bench.running.dry_run import dry_run
from zsad.bench.running.parallel import run as run_parallel
from zsad.bench.running.plan import Plan, make_plan
from zsad.bench.running.runner import run
from zsad.bench.training.sharded_array import ShardedArray
from zsad.bench.training.state import StateFile, TrainingState

CATEGORIES = ("alpha", "beta", "gamma", "delta")
KILLS = 30

PLUGIN = """
import os
import pathlib
import signal
import time
import torch
from zsad.bench.backbone import TokenSpec
from zsad.bench.method import Method, Prediction
from zsad.bench.anomaly_maps import upsample


class Plain(Method):
    title = "Plain"

    @property
    def token_specs(self):
        return frozenset({TokenSpec(self.backbone.depth)})

    def predict(self, query):
        (tokens,) = query.features.tokens.values()
        patches = tokens.norm(dim=-1)
        return Prediction(patches.amax(1), upsample(patches, query.features.grid, self.map_size))


class Slow(Plain):
    title = "Slow"

    def predict(self, query):
        time.sleep(0.05)
        return super().predict(query)


class Raising(Plain):
    title = "Raising"

    def predict(self, query):
        raise RuntimeError("the moon was full")


class Killed(Plain):
    title = "Killed"

    def predict(self, query):
        marker = pathlib.Path(os.environ["ZSAD_TEST_MARKER"])
        assert os.getpid() != int(os.environ["ZSAD_TEST_PARENT"])
        if "always" in marker.name or not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().predict(query)


class OutOfMemory(Plain):
    title = "Out of memory"

    def predict(self, query):
        raise torch.OutOfMemoryError("CUDA out of memory: tried to allocate 80 GiB")


class NotANumber(Plain):
    title = "NaN"

    def predict(self, query):
        answer = super().predict(query)
        return Prediction(answer.scores * float("nan"), answer.maps)


class WrongShape(Plain):
    title = "Wrong shape"

    def predict(self, query):
        answer = super().predict(query)
        return Prediction(answer.scores[:, None], answer.maps)
"""
METHODS = {
    "plain": "Plain",
    "slow": "Slow",
    "raising": "Raising",
    "out_of_memory": "OutOfMemory",
    "not_a_number": "NotANumber",
    "wrong_shape": "WrongShape",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A folder that looks like an installed distribution with the methods above."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "zsad_faulty.py").write_text(textwrap.dedent(PLUGIN))
    info = folder / "zsad_faulty-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: zsad-faulty\nVersion: 1.0\n")
    registered = {**METHODS, "killed": "Killed"}
    points = "\n".join(f"{name} = zsad_faulty:{cls}" for name, cls in registered.items())
    (info / "entry_points.txt").write_text(f"[zsad.methods]\n{points}\n")
    return folder


@pytest.fixture(autouse=True)
def plugins(site, monkeypatch):
    """The methods are registered here and in child processes."""
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]))
    registry.entries.cache_clear()
    yield
    registry.entries.cache_clear()


@pytest.fixture(scope="module")
def data(tmp_path_factory, draw_parts) -> Path:
    """Four categories of two normal and two anomalous images with masks."""
    return draw_parts(tmp_path_factory.mktemp("data"), *CATEGORIES)


def plan_for(data: Path, out: Path, *methods: str, **settings) -> Plan:
    settings = {"batch_size": 2, "gallery": 0, **settings}
    datasets = [{"name": "folder", "root": str(data)}]
    return make_plan(methods, datasets, out=out, **settings)


def values(out: Path, method: str | None = None) -> pd.DataFrame:
    """The numbers of a run, in an order of their own."""
    frame = load_run(out)[["method", "dataset", "category", "metric", "value"]]
    frame = frame if method is None else frame[frame.method == method]
    assert len(frame), "nothing was scored"
    return frame.sort_values(list(frame.columns[:4])).reset_index(drop=True)


def error_of(out: Path, method: str):
    (record,) = [r for r in read_records(out) if r.cell.method == method]
    assert record.status == "error"
    return record.error


# -- methods that fail --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "says"),
    [
        ("raising", "the moon was full"),
        ("out_of_memory", "memory of cpu ran out with one image at once"),
        ("not_a_number", "NaN"),
        ("wrong_shape", "shape"),
    ],
)
def test_a_failing_method_says_why_and_leaves_the_others_alone(data, tmp_path, method, says):
    run(plan_for(data, tmp_path / "alone", "plain"))
    run(plan_for(data, tmp_path / "together", "plain", method))
    assert says in error_of(tmp_path / "together", method).message
    assert error_of(tmp_path / "together", method).traceback
    pd.testing.assert_frame_equal(values(tmp_path / "alone"), values(tmp_path / "together"))


def test_every_cell_that_can_be_scored_is_scored_beside_all_that_fail(data, tmp_path):
    run(plan_for(data, tmp_path, *METHODS))
    states = {r.cell.method: r.status for r in read_records(tmp_path)}
    assert states == {
        "plain": "ok",
        "slow": "ok",
        "raising": "error",
        "out_of_memory": "error",
        "not_a_number": "error",
        "wrong_shape": "error",
    }


# -- broken data --------------------------------------------------------------------------------


def test_a_truncated_image_is_named_and_the_next_dataset_is_unharmed(data, tmp_path):
    broken = tmp_path / "broken"
    for path in data.rglob("*.png"):
        target = broken / path.relative_to(data)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    victim = broken / "beta" / "normal" / "1.png"
    victim.write_bytes(victim.read_bytes()[:60])
    run(plan_for(broken, tmp_path / "run", "plain"))
    assert "beta/normal/1.png" in error_of(tmp_path / "run", "plain").message
    victim.write_bytes((data / "beta" / "normal" / "1.png").read_bytes())
    run(plan_for(broken, tmp_path / "run", "plain"))
    run(plan_for(data, tmp_path / "whole", "plain"))
    pd.testing.assert_frame_equal(values(tmp_path / "run"), values(tmp_path / "whole"))


def _dangling_link(root: Path) -> None:
    (root / "part" / "normal" / "9.png").symlink_to(root / "nowhere.png")


def _name_that_is_not_utf8(root: Path) -> None:
    image = (root / "part" / "normal" / "0.png").read_bytes()
    Path(os.fsdecode(os.fsencode(root) + b"/part/normal/\xff.png")).write_bytes(image)


def _pipe(root: Path) -> None:
    os.mkfifo(root / "part" / "normal" / "9.png")


@pytest.mark.parametrize(
    ("spoil", "options", "says"),
    [
        (_dangling_link, {}, "9.png"),
        (_name_that_is_not_utf8, {}, "is not UTF-8"),
        (_pipe, {}, "9.png"),
        (None, {"mask_threshold": "high"}, "mask threshold"),
        (None, {"categories": 3}, "categories|options"),
    ],
    ids=["dangling link", "name", "pipe", "threshold", "categories"],
)
def test_a_bad_dataset_is_an_error_record_and_the_others_finish(tmp_path, spoil, options, says):
    root = tmp_path / "data"
    for folder in ("normal", "anomalous"):
        (root / "part" / folder).mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (48, 48), (40 * number, 9, 9)).save(
                root / "part" / folder / f"{number}.png"
            )
    good = tmp_path / "good"
    shutil.copytree(root / "part" / "normal", good / "no")
    shutil.copytree(root / "part" / "anomalous", good / "yes")
    if spoil is not None:
        spoil(root)
    bad = {"name": "folder", "root": str(root), "options": options}
    datasets = [bad, {"name": "br35h", "root": str(good)}]
    plan = make_plan(["plain"], datasets, out=tmp_path / "run", gallery=0, map_size=32)
    run(plan)
    records_of = {r.cell.dataset: r for r in read_records(tmp_path / "run")}
    assert records_of["br35h"].status == "ok"
    assert re.search(says, records_of["folder"].error.message)
    assert dry_run(plan).to_text()


def test_a_missing_data_root_is_an_error_record_that_names_it(tmp_path):
    run(plan_for(tmp_path / "nowhere", tmp_path / "run", "plain"))
    assert "nowhere" in error_of(tmp_path / "run", "plain").message


# -- stopping and resuming ----------------------------------------------------------------------


def test_the_same_command_again_does_nothing(data, tmp_path):
    plan = plan_for(data, tmp_path, "plain")
    run(plan)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "cells").iterdir()}
    run(plan)
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "cells").iterdir()} == before


def test_retry_decides_which_records_are_done_again(data, tmp_path):
    def stamps():
        return {p.name.split("--")[0]: p.stat().st_mtime_ns for p in (tmp_path / "cells").iterdir()}

    run(plan_for(data, tmp_path, "plain", "raising"))
    first = stamps()
    run(plan_for(data, tmp_path, "plain", "raising", retry="never"))
    assert stamps() == first
    run(plan_for(data, tmp_path, "plain", "raising", retry="failed"))
    second = stamps()
    assert second["plain"] == first["plain"]
    assert second["raising"] > first["raising"]
    run(plan_for(data, tmp_path, "plain", "raising", retry="always"))
    assert stamps()["plain"] > second["plain"]


def test_retry_always_keeps_old_results_besides(data, tmp_path):
    again = plan_for(data, tmp_path, "plain", retry="always")
    run(again)
    assert not (tmp_path / "superseded").exists()
    (record,) = (tmp_path / "cells").iterdir()
    old = record.read_bytes()
    part = tmp_path / "parts" / record.stem / "beta.json"
    part.parent.mkdir(parents=True)
    part.write_text("{}")
    run(again)
    assert (tmp_path / "superseded" / "cells" / f"{record.stem}.1.json").read_bytes() == old
    assert (tmp_path / "superseded" / "parts" / record.stem / "beta.1.json").read_text() == "{}"
    assert read_records(tmp_path)[0].status == "ok"


def test_a_stop_keeps_what_is_finished_and_the_rest_follows(data, tmp_path):
    progress = Progress()
    batches = 0

    def check():
        nonlocal batches
        batches += 1
        if batches == 4:  # in the second category
            progress.stop.set()
        Progress.check(progress)

    progress.check = check
    with pytest.raises(Stopped):
        run(plan_for(data, tmp_path / "run", "plain"), progress)
    assert [p.stem for p in (tmp_path / "run" / "parts").rglob("*.json")] == ["alpha"]
    run(plan_for(data, tmp_path / "run", "plain"))
    run(plan_for(data, tmp_path / "whole", "plain"))
    pd.testing.assert_frame_equal(values(tmp_path / "run"), values(tmp_path / "whole"))
    assert not list((tmp_path / "run" / "parts").rglob("*.json"))


def test_a_run_directory_refuses_other_settings(data, tmp_path):
    run(plan_for(data, tmp_path, "plain"))
    with pytest.raises(UsageError, match="map-size"):
        run(plan_for(data, tmp_path, "plain", map_size=64))


@pytest.mark.parametrize("retry", ["failed", "never"])
def test_a_broken_record_is_done_again(data, tmp_path, retry):
    plan = plan_for(data, tmp_path, "plain", retry=retry)
    run(plan)
    (path,) = (tmp_path / "cells").iterdir()
    good = json.loads(path.read_text())["categories"]
    path.write_text(path.read_text()[:100])
    run(plan)
    assert json.loads(path.read_text())["categories"] == good


def test_a_full_disk_is_said_plainly_and_the_run_resumes_once_there_is_room(
    data, tmp_path, monkeypatch
):
    plan = plan_for(data, tmp_path / "run", "plain")
    written = 0
    fsync = os.fsync

    def full(descriptor):
        nonlocal written
        written += 1
        if written > 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(FileError, match="No space left"):
        run(plan)
    monkeypatch.setattr("os.fsync", fsync)
    assert not list((tmp_path / "run").rglob("*.tmp"))
    run(plan)
    run(plan_for(data, tmp_path / "whole", "plain"))
    pd.testing.assert_frame_equal(values(tmp_path / "run"), values(tmp_path / "whole"))


def _written_by_a_run(folder: Path) -> list:
    """(file, function that writes it) of everything that a run writes beside JSON."""
    cell = Cell("plain", "official", "folder", 111)
    maps, masks = np.zeros((1, 2, 2), np.float32), np.zeros((1, 2, 2), bool)
    scores = PromptScores(np.zeros((1, 2, 3), np.float32), np.zeros(1, np.int64))
    array = ShardedArray(folder / "class_token", 2, (3,), np.dtype(np.float32))
    strip = Image.new("RGBA", (8, 8))
    state = StateFile(folder / "a.state", "me")
    return [
        ("plain", lambda: write_prompt_scores(folder, cell, "part", scores)),
        ("part.npz", lambda: write_maps(folder, cell, "part", maps, masks)),
        ("0.png", lambda: write_png(folder / "0.png", strip)),
        ("00000.npy", lambda: array.write(0, np.zeros((2, 3)))),
        (
            "a.safetensors",
            lambda: write_tensors(folder / "a.safetensors", {"x": torch.ones(1)}, {}),
        ),
        ("a.state", lambda: state.keep(SimpleNamespace(state_dict=dict), TrainingState())),
    ]


@pytest.mark.parametrize("number", range(6))
def test_a_full_disk_names_the_file_whatever_is_written(tmp_path, monkeypatch, number):
    name, write = _written_by_a_run(tmp_path)[number]

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(FileError, match=f"{name}.* cannot be written .*No space left"):
        write()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def _written_for_a_user(folder: Path, source: Path) -> list:
    """(file, function that writes it) of what the verbs write where they are told."""
    grey = Image.new("RGB", (8, 8))
    return [
        ("table.md", lambda: cli_results.emit(b"text", folder / "table.md")),
        ("sheet.png", lambda: contact_sheet.save(grey, folder / "sheet.png")),
        ("figure.svg", lambda: canvas.save(Figure(), folder / "figure.svg")),
        ("cut.png", lambda: write_png(folder / "cut.png", grey)),
        ("method.py", lambda: scaffold._write_new({folder / "method.py": "text"})),
        ("maps.npz", lambda: merge._copy(str(source), str(folder / "maps.npz"))),
    ]


@pytest.mark.parametrize("number", range(6))
def test_a_full_disk_names_the_file_and_keeps_the_one_before(tmp_path_factory, monkeypatch, number):
    folder, source = tmp_path_factory.mktemp("out"), tmp_path_factory.mktemp("in") / "maps.npz"
    source.write_bytes(b"maps")
    name, write = _written_for_a_user(folder, source)[number]
    if name != "method.py":  # which never replaces a file
        (folder / name).write_bytes(b"before")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(FileError, match=f"{name} cannot be written .*No space left.*make room"):
        write()
    assert [path.read_bytes() for path in folder.iterdir()] == [b"before"] * (name != "method.py")


def test_a_full_disk_leaves_no_half_drawn_set(tmp_path, monkeypatch):
    monkeypatch.setenv("ZSAD_CACHE", str(tmp_path))

    def full(image, path):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(DataError, match="No space left"):
        registry.load_dataset("synthetic")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


# -- killed processes ---------------------------------------------------------------------------


def _children():
    """Processes that start quickly, forked from a server that has imported everything.

    They run a function of the package: this test's own module cannot be imported by name.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["zsad.bench.running.runner", "zsad.bench.weights", "pandas"])
    return context


@pytest.mark.slow
def test_thirty_kills_at_random_moments_end_in_the_same_table(data, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run(plan_for(data, whole, "slow", "plain"))
    plan = plan_for(data, killed, "slow", "plain")
    dice = random.Random(0)
    context, deadline = _children(), time.monotonic() + 150
    kills = 0
    while kills < KILLS and time.monotonic() < deadline:
        child = context.Process(target=run, args=(plan,))
        child.start()
        child.join(timeout=dice.uniform(0.05, 1.2))
        child.kill()  # does nothing to one that has already ended
        child.join()
        kills += child.exitcode == -signal.SIGKILL
        done = killed / "cells"
        if done.is_dir() and len(list(done.glob("*.json"))) == 2:  # finished: begin again
            pd.testing.assert_frame_equal(values(killed), values(whole))
            for path in done.glob("*.json"):
                path.unlink()
    assert kills >= 10
    run(plan)
    pd.testing.assert_frame_equal(values(killed), values(whole))


@pytest.mark.slow
def test_two_processes_fill_one_run(data, tmp_path):
    whole, shared = tmp_path / "whole", tmp_path / "shared"
    run(plan_for(data, whole, "slow", "plain"))
    plan = plan_for(data, shared, "slow", "plain")
    context = _children()
    pair = [context.Process(target=run, args=(plan,)) for _ in range(2)]
    for child in pair:
        child.start()
    for child in pair:
        child.join(timeout=120)
        assert child.exitcode == 0
    pd.testing.assert_frame_equal(values(shared), values(whole))


def test_shards_cover_the_plan_and_do_not_meet(data, tmp_path, monkeypatch):
    from zsad.bench.running import runner

    monkeypatch.setattr(runner, "SPLIT_ABOVE", 4)
    run(plan_for(data, tmp_path / "whole", "plain"))
    plan = plan_for(data, tmp_path / "shards", "plain")
    run(plan, shard=(0, 2))
    halves = sorted(p.stem for p in (tmp_path / "shards" / "parts").rglob("*.json"))
    assert halves == sorted(("alpha", "delta")) or len(halves) == 2
    run(plan, shard=(1, 2))
    pd.testing.assert_frame_equal(values(tmp_path / "shards"), values(tmp_path / "whole"))


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["loky", "threads"])
def test_two_workers_give_the_sequential_table(data, tmp_path, monkeypatch, backend):
    from zsad.bench.running import runner

    monkeypatch.setattr(runner, "SPLIT_ABOVE", 4)
    run(plan_for(data, tmp_path / "whole", "plain", "raising"))
    plan = plan_for(data, tmp_path / "workers", "plain", "raising")
    run_parallel(plan, Progress(), jobs=2, backend=backend)
    pd.testing.assert_frame_equal(values(tmp_path / "workers"), values(tmp_path / "whole"))
    assert "moon" in error_of(tmp_path / "workers", "raising").message


@pytest.mark.slow
@pytest.mark.parametrize("when", ["once", "always"])
def test_a_killed_worker_is_told_in_one_line_and_its_unit_is_done_again_or_recorded(
    data, tmp_path, monkeypatch, caplog, when
):
    monkeypatch.setenv("ZSAD_TEST_MARKER", str(tmp_path / when))
    monkeypatch.setenv("ZSAD_TEST_PARENT", str(os.getpid()))
    get_reusable_executor().shutdown(wait=True)  # workers of earlier tests lack the variables
    run_parallel(plan_for(data, tmp_path / "run", "killed"), Progress(), jobs=2)
    assert len([r for r in caplog.records if "worker process was killed" in r.message]) == 1
    if when == "always":
        assert "was killed twice" in error_of(tmp_path / "run", "killed").message
    else:
        run(plan_for(data, tmp_path / "whole", "plain"))
        got, wanted = values(tmp_path / "run"), values(tmp_path / "whole")
        assert got["value"].tolist() == pytest.approx(
            wanted["value"].tolist(), rel=0, abs=0, nan_ok=True
        )


@pytest.mark.slow
def test_a_dask_cluster_that_loses_a_worker_gives_the_sequential_table(data, tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed")
    from zsad.bench.running import runner

    monkeypatch.setattr(runner, "SPLIT_ABOVE", 4)
    run(plan_for(data, tmp_path / "whole", "slow"))
    plan = plan_for(data, tmp_path / "cluster", "slow")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        pids = client.run(os.getpid)
        victim = next(iter(pids.values()))
        killer = multiprocessing.get_context("fork").Process(
            target=_kill_when_busy, args=(victim, tmp_path / "cluster" / "locks")
        )
        killer.start()
        run_parallel(plan, Progress(), jobs=2, backend="dask", scheduler=cluster.scheduler_address)
        killer.join()
    pd.testing.assert_frame_equal(values(tmp_path / "cluster"), values(tmp_path / "whole"))


def _kill_when_busy(pid: int, locks: Path) -> None:
    """Kill a worker once units are under way."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not list(locks.glob("folder--*.lock")):
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
