"""A whole run's scoring, with and without overlap, in one process.

    python benchmarks/end_to_end.py [--dataset synthetic] [--map-size 518] [--device cuda]
    python benchmarks/end_to_end.py --dataset elpv --data-root DIR
    python benchmarks/end_to_end.py --images 2000    # drawn for it

The run learns first, which does not count; then its images are scored by turns with the metrics in
a thread beside the next batch, as a run does, and one after the other. The stages are those of
`zsad run --profile`; the ratio that bounds what overlap can save is the largest stage's share.
"""

from __future__ import annotations

import logging
import statistics
import tempfile
import time
from pathlib import Path
from types import TracebackType
from unittest import mock

from _pictures import draw_pictures
from _result import parser_of, result_of
from zsad.bench.progress import Progress
from zsad.bench.records.record import Record, read_records
from zsad.bench.running.background import Work
from zsad.bench.running.plan import make_plan
from zsad.bench.running.runner import run


class AtOnce:
    """Does work when it is handed in, instead of in a thread."""

    seconds_waited = 0.0

    def __init__(self, behind: int, progress: Progress) -> None:
        del behind, progress

    def submit(self, work: Work) -> None:
        work()

    def __enter__(self) -> AtOnce:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        del kind, error, traceback


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
    parser.add_argument("--dataset", default="synthetic")
    parser.add_argument("--data-root")
    parser.add_argument("--images", type=int, help="draw so many instead of taking a dataset")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--map-size", type=int, default=518)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)  # each repetition does the cells again, and says so
    walls: dict[str, list[float]] = {"overlapping": [], "one after the other": []}
    sums: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        dataset: object = arguments.dataset
        if arguments.images is not None:
            draw_pictures(Path(folder) / "drawn", arguments.images)
            dataset = {"name": "folder", "root": str(Path(folder) / "drawn")}
        settings = {
            "methods": arguments.methods.split(","),
            "datasets": [dataset],
            "data_root": arguments.data_root,
            "auxiliary": "synthetic-aux",
            "map_size": arguments.map_size,
            "batch_size": arguments.batch_size,
            "workers": arguments.workers,
            "device": arguments.device,
            "out": str(Path(folder) / "run"),
            "profile": True,
            "retry": "always",
        }
        run(make_plan(**settings, limit=1))
        for _ in range(arguments.repeats):
            for way, seconds in walls.items():
                engine = AtOnce if way == "one after the other" else None
                seconds.append(scored(settings, arguments.limit, engine))
                if engine is not None:
                    sums.append(stages(read_records(Path(folder) / "run")))
    medians = {way: statistics.median(seconds) for way, seconds in walls.items()}
    whole = {stage: statistics.median(one[stage] for one in sums) for stage in sums[0]}
    result = result_of(__file__, arguments)
    name = f"{arguments.images} images" if arguments.images else arguments.dataset
    title = f"Scoring {name} with maps of {arguments.map_size} px, one process"
    rows = [*medians.items(), *((f"stage: {stage}", taken) for stage, taken in whole.items())]
    result.table(title, ["what", "seconds"], rows)
    result.ratio(
        "overlapping, against the sum of the stages without overlap",
        medians["overlapping"] / sum(whole.values()),
    )
    result.ratio(
        "overlapping, against one after the other",
        medians["overlapping"] / medians["one after the other"],
    )
    result.write()


def scored(settings: dict[str, object], limit: int | None, engine: type[AtOnce] | None) -> float:
    """Wall seconds of scoring all images of the run."""
    plan = make_plan(**settings, limit=limit)  # type: ignore[arg-type]
    started = time.perf_counter()
    if engine is None:
        run(plan)
    else:
        with mock.patch("zsad.bench.running.evaluation.Background", engine):
            run(plan)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
