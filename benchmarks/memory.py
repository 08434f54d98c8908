"""The most memory that a run takes, by the number of its images and of its methods.

    python benchmarks/memory.py [--images 100 1000 3000] [--budget 16]

Each run is a process of its own on the built-in backbone, which scores one category of drawn
pictures; methods have learned before. Normal pixels are kept up to the budget (in MiB, over all
methods; that of a run is 2 GiB), so that a small one is used up by few images. What grows beyond
it shows in the peak of resident memory: with images, and with methods against the one of them that
takes most alone.
"""

from __future__ import annotations

import logging
import multiprocessing
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest import mock

from _measure import peak_resident
from _pictures import draw_pictures
from _result import parser_of, result_of
from zsad.bench.records.record import read_records
from zsad.bench.running.plan import make_plan
from zsad.bench.running.plan_entries import methods_meant_by
from zsad.bench.running.runner import run

MIB = 1 << 20


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[100, 1000, 3000])
    parser.add_argument("--methods", default=",".join(methods_meant_by("all")))
    parser.add_argument("--budget", type=int, default=16, metavar="MIB")
    parser.add_argument("--auxiliary-limit", type=int, default=4, help="images to learn from")
    arguments = parser.parse_args()
    methods = arguments.methods.split(",")
    peaks: dict[tuple[int, int], float] = {}
    with tempfile.TemporaryDirectory() as temporary:
        settings: dict[str, Any] = {
            "auxiliary": "synthetic-aux",
            "auxiliary_limit": arguments.auxiliary_limit,
            "out": str(Path(temporary) / "run"),
            "retry": "always",
        }
        for count in arguments.images:
            root = Path(temporary) / str(count)
            draw_pictures(root, count)
            settings["datasets"] = [{"name": "folder", "root": str(root)}]
            if not peaks:  # all runs take what this one has learned
                alone({**settings, "methods": methods, "limit": 1}, arguments.budget)
                greediest = most_alone(settings, methods, arguments.budget)
            for chosen in ([greediest], methods):
                found = alone({**settings, "methods": chosen}, arguments.budget)
                peaks[count, len(chosen)] = found / MIB
                print(f"{count} images, methods: {len(chosen)}: {found / MIB:.0f} MiB", flush=True)
    result = result_of(__file__, arguments)
    result.table(
        f"Peak memory of a run, {arguments.budget} MiB of normal pixels, {greediest} alone",
        ["images", "methods", "MiB", "against the first"],
        [[*key, peak, peak / next(iter(peaks.values()))] for key, peak in peaks.items()],
    )
    few, many = min(arguments.images), max(arguments.images)
    several = len(methods)
    name = f"peak of {many} images against {few}"
    result.ratio(f"{name}, methods: {several}", peaks[many, several] / peaks[few, several])
    result.ratio(f"{name}, one method", peaks[many, 1] / peaks[few, 1])
    result.ratio(
        f"peak of methods: {several} against one, {many} images",
        peaks[many, several] / peaks[many, 1],
    )
    result.write()


def most_alone(settings: Mapping[str, Any], methods: Sequence[str], budget: int) -> str:
    """The method that takes most memory alone; the arguments are those of `alone`."""
    if len(methods) == 1:
        return methods[0]
    peaks = {name: alone({**settings, "methods": [name]}, budget) for name in methods}
    for name, peak in peaks.items():
        print(f"{name} alone: {peak / MIB:.0f} MiB", flush=True)
    return max(methods, key=peaks.__getitem__)


def alone(settings: Mapping[str, Any], budget: int) -> int:
    """Peak resident bytes of a process that does one run.

    Args:
        settings: of its plan.
        budget: MiB of normal pixels.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=score, args=(settings, budget, sender))
    process.start()
    sender.close()
    try:
        peak: int = receiver.recv()
    except EOFError:
        raise SystemExit("a run failed, see above") from None
    process.join()
    return peak


def score(settings: Mapping[str, Any], budget: int, sender: Connection) -> None:
    """What the process does: the run, and its peak into the pipe."""
    logging.disable(logging.WARNING)  # cells are done again, and it says so
    with mock.patch("zsad.bench.running.evaluation.BYTES_OF_PIXELS", budget * MIB):
        run(make_plan(**settings))
    failed = [r for r in read_records(Path(settings["out"])) if r.status != "ok"]
    if failed:
        raise SystemExit(f"{failed[0].cell.key}: {failed[0].error}")
    peak = peak_resident()
    if peak is None:
        raise SystemExit("peak memory is read from /proc, which is not here")
    sender.send(peak)


if __name__ == "__main__":
    main()
