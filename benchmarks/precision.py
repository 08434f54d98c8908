"""How far the metrics of the built-in set move with the device and the precision of the forward.

    python benchmarks/precision.py [--device cuda] [--precisions fp32 bf16] [--methods all]

Each setting is a whole run in a process of its own, trainings included, and is compared with fp32
on the CPU. Moves are in points (hundredths of a metric): of each method the largest of a dataset's
mean and the largest of a category, over all metrics that a run measures. Those at one threshold
move in steps, of an image or a region, and stand in a table of their own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from _result import parser_of, result_of
from zsad.bench import load_run
from zsad.bench.backbone import PRECISIONS
from zsad.bench.metric_table import DEFAULT_METRICS

KEYS = ["method", "category", "metric"]


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--methods", default="all")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"], choices=PRECISIONS)
    parser.add_argument("--limit", type=int, help="images per category and label")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    folder = arguments.out or Path(tempfile.mkdtemp())
    asked = [(arguments.device, precision) for precision in arguments.precisions]
    settings = list(dict.fromkeys([("cpu", "fp32"), *asked]))
    frames = {one: values_of(folder / "-".join(one), one, arguments) for one in settings}
    reference = frames[settings[0]]
    moved = {setting: 100 * (frames[setting] - reference).dropna() for setting in settings[1:]}
    result = result_of(__file__, arguments)
    for title, chosen in (
        ("over all thresholds", lambda metric: not at_a_threshold(metric)),
        ("at one threshold", at_a_threshold),
    ):
        result.table(
            f"Moves against fp32 on the CPU, in points, of metrics {title}; {arguments.methods}",
            ["device", "precision", "method", "of a mean", "where", "of a category", "where"],
            [
                [*setting, *row]
                for setting in moved
                for row in largest_moves(moved[setting], chosen)
            ],
            ".3f",
        )
    result.write()


def values_of(out: Path, setting: tuple[str, str], arguments) -> pd.Series:
    """The metrics of a whole run, by `KEYS`."""
    device, precision = setting
    command = [sys.executable, "-m", "zsad", "run", "--quiet", "--gallery", "0"]
    command += ["--methods", arguments.methods, "--device", device, "--precision", precision]
    command += ["--out", str(out)]
    if arguments.limit is not None:
        command += ["--limit", str(arguments.limit)]
    features = {"ZSAD_FEATURES": str(out / "features")}  # each setting encodes for itself
    environment = {**os.environ, **features}
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    values = load_run(out).set_index(KEYS).value
    return values[values.index.get_level_values("metric").isin(DEFAULT_METRICS)]


def at_a_threshold(metric: str) -> bool:
    """Whether a metric is a rate where another rate has some value, or counts found regions."""
    return "_at_" in metric or "_recall_" in metric


def largest_moves(moved: pd.Series, chosen: Callable[[str], bool]) -> list[list[object]]:
    """Of each method the largest move of a mean over the categories and that of a category."""
    moved = moved[[chosen(metric) for metric in moved.index.get_level_values("metric")]]
    return [
        [method, *largest(of_it.groupby("metric").mean()), *largest(of_it)]
        for method, of_it in moved.groupby("method")
    ]


def largest(moved: pd.Series) -> list[object]:
    """The largest of some moves, and where it is, without the method."""
    place = moved.abs().idxmax()
    return [abs(moved[place]), place if isinstance(place, str) else " ".join(place[1:])]


if __name__ == "__main__":
    main()
