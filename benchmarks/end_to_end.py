"""A whole run's scoring, with and without overlap, in one process.

    python benchmarks/end_to_end.py [--datasets synthetic,elpv] [--map-size 518] [--device cuda]
    python benchmarks/end_to_end.py --images 2000    # drawn for it, instead of datasets
    python benchmarks/end_to_end.py --against DIR    # and a checkout of another version

The run learns first, which does not count; then its images are scored by turns with the metrics in
a thread beside the next batch, as a run does where a core is free, and one after the other, as it
does where torch takes all cores (set OMP_NUM_THREADS to leave some free). The stages are those of
`zsad run --profile`. Two ratios bound what overlap can save: the largest stage's share, and, on a
CPU, the processor time spread over all cores.
Another version is run in turn in a process of its own, and so is this one beside it; the seconds
are those of scoring alone.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

from _pictures import draw_pictures
from _result import Result, parser_of, result_of
from zsad.bench.errors import ZsadError
from zsad.bench.records.record import Record, read_records
from zsad.bench.running.open_datasets import OpenDatasets
from zsad.bench.running.plan import make_plan
from zsad.bench.running.runner import run


def stages(records: list[Record]) -> dict[str, float]:
    """Seconds of each stage; reading and forward count once for methods that share them."""
    shared: dict[tuple[float, float], None] = {}
    found = {"read": 0.0, "forward": 0.0, "predict": 0.0, "metrics": 0.0}
    for record in records:
        timing = record.timing
        shared[timing["seconds_read"], timing["seconds_forward"]] = None
        found["predict"] += timing["seconds_predict"]
        found["metrics"] += timing["seconds_metrics"]
    found["read"] = sum(read for read, _ in shared)
    found["forward"] = sum(forward for _, forward in shared)
    return found


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--methods", default="all")
    parser.add_argument("--datasets", default="synthetic,elpv")
    parser.add_argument("--data-root")
    parser.add_argument("--images", type=int, help="draw so many instead of taking datasets")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--map-size", type=int, default=518)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--against", type=Path, metavar="DIR", help="checkout of another version")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)  # each repetition does the cells again, and says so
    result = result_of(__file__, arguments)
    with tempfile.TemporaryDirectory() as folder:
        for name, dataset in sets_of(arguments, Path(folder, "drawn")).items():
            settings = settings_of(dataset, arguments, str(Path(folder, f"run-{name}")))
            of_stages(result, name, arguments, settings)
            if arguments.against is not None:
                of_versions(result, name, arguments, settings)
    result.write()


def sets_of(arguments: argparse.Namespace, drawn: Path) -> dict[str, object]:
    """What is scored, by name: drawn pictures, or the datasets that can be read; says which not."""
    if arguments.images is not None:
        draw_pictures(drawn, arguments.images)
        return {f"{arguments.images} images": {"name": "folder", "root": str(drawn)}}
    found: dict[str, object] = {}
    for name in arguments.datasets.split(","):
        plan = make_plan(methods=["clip"], datasets=[name], data_root=arguments.data_root)
        try:
            OpenDatasets(None).target(plan.jobs()[0].dataset)
        except ZsadError as error:
            print(f"{name} is left out: {error}")
        else:
            found[name] = name
    return found


def settings_of(dataset: object, arguments: argparse.Namespace, folder: str) -> dict[str, object]:
    """What `make_plan` is told, but for a limit."""
    return {
        "methods": arguments.methods.split(","),
        "datasets": [dataset],
        "data_root": arguments.data_root,
        "auxiliary": "synthetic-aux",
        "map_size": arguments.map_size,
        "batch_size": arguments.batch_size,
        "workers": arguments.workers,
        "device": arguments.device,
        "out": folder,
        "retry": "always",
    }


def of_stages(
    result: Result, dataset: str, arguments: argparse.Namespace, settings: dict[str, object]
) -> None:
    """Wall time against the sum of the stages, both measured in this process by turns."""
    settings = {**settings, "profile": True}
    run(make_plan(**settings, limit=arguments.limit or 1))  # type: ignore[arg-type]
    walls: dict[str, list[float]] = {"overlapping": [], "one after the other": []}
    sums: list[dict[str, float]] = []
    busy: list[float] = []
    for _ in range(arguments.repeats):
        for way, seconds in walls.items():
            serial = way == "one after the other"
            before = time.process_time()
            seconds.append(scored(settings, arguments.limit, serial))
            if serial:
                busy.append(time.process_time() - before)
                sums.append(stages(read_records(Path(str(settings["out"])))))
    medians = {way: statistics.median(seconds) for way, seconds in walls.items()}
    whole = {stage: statistics.median(one[stage] for one in sums) for stage in sums[0]}
    title = f"Scoring {dataset} with maps of {arguments.map_size} px, one process"
    rows = [*medians.items(), *((f"stage: {stage}", taken) for stage, taken in whole.items())]
    result.table(title, ["what", "seconds"], rows)
    total = sum(whole.values())
    result.ratio(
        f"{dataset}: overlapping, against the sum of the stages without overlap",
        medians["overlapping"] / total,
    )
    result.ratio(
        f"{dataset}: overlapping, against one after the other",
        medians["overlapping"] / medians["one after the other"],
    )
    result.ratio(f"{dataset}: the largest stage, against their sum", max(whole.values()) / total)
    if arguments.device == "cpu":
        result.ratio(
            f"{dataset}: processor time on all cores, against one after the other",
            statistics.median(busy) / (os.cpu_count() or 1) / medians["one after the other"],
        )


def scored(settings: dict[str, object], limit: int | None, serial: bool) -> float:
    """Wall seconds of scoring all images of the run; `serial` leaves no core free for metrics."""
    plan = make_plan(**settings, limit=limit)  # type: ignore[arg-type]
    started = time.perf_counter()
    with mock.patch("zsad.bench.running.evaluation.free_cores", lambda _: 0 if serial else 1):
        run(plan)
    return time.perf_counter() - started


HERE = Path(__file__).resolve().parents[1]
IN_A_PROCESS = """
import json, logging, sys, time
from zsad.bench.running.plan import make_plan
from zsad.bench.running.runner import run
logging.disable(logging.WARNING)
settings, limit = json.loads(sys.argv[1])
run(make_plan(**settings, limit=1))
plan = make_plan(**settings, limit=limit)
started = time.perf_counter()
run(plan)
print("seconds", time.perf_counter() - started)
"""


def of_versions(
    result: Result, dataset: str, arguments: argparse.Namespace, settings: dict[str, object]
) -> None:
    """Wall time of this version against another's, each in a process of its own, by turns."""
    with tempfile.TemporaryDirectory() as folder:
        versions = {"this version": HERE, "the other version": arguments.against.resolve()}
        seconds: dict[str, list[float]] = {name: [] for name in versions}
        for number, name in enumerate(versions):
            place = Path(folder, str(number))
            place.mkdir()
            (place / "zsad").symlink_to(versions[name])
            versions[name] = place
        for _ in range(arguments.repeats):
            for name, place in versions.items():
                own = {**settings, "out": str(place / "run")}
                seconds[name].append(scored_by(place, own, arguments.limit))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    result.table(f"Scoring {dataset} by two versions", ["what", "seconds"], medians.items())
    result.ratio(
        f"{dataset}: this version, against the other",
        medians["this version"] / medians["the other version"],
    )


def scored_by(place: Path, settings: dict[str, object], limit: int | None) -> float:
    """Wall seconds of scoring by the package zsad that lies in a folder.

    Raises:
        SystemExit: it fails; with what it says.
    """
    paths = [str(place), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "ZSAD_FEATURES": str(place / "features"),
    }
    command = [sys.executable, "-c", IN_A_PROCESS, json.dumps([settings, limit])]
    done = subprocess.run(command, env=environment, cwd=place, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"the version in {place.resolve()} failed:\n{done.stderr}")
    return float(done.stdout.split("seconds ")[-1])


if __name__ == "__main__":
    main()
