"""How far the built-in metrics move between machines, imitated on one.

    python benchmarks/noise.py [--methods all] [--out FOLDER]

Runs the built-in plan in processes that differ in what differs between machines (vector
instructions, threads, batch size), trainings included, and prints the largest move of each metric
over all methods and categories against the first. The tolerances of results/baselines/builtin.json
are these moves with a margin.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
from tabulate import tabulate
from zsad.bench import load_run
from zsad.bench.metric_table import METRICS

SETTINGS = {
    "as it is": ({}, []),
    "without vector instructions": (
        {
            "ATEN_CPU_CAPABILITY": "default",
            "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
            "ONEDNN_MAX_CPU_ISA": "SSE41",
        },
        [],
    ),
    "another thread count": ({"OMP_NUM_THREADS": "1"}, []),
    "another batch size": ({}, ["--batch-size", "5"]),
}
KEYS = ["method", "category", "metric"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", default="all")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    folder = arguments.out or Path(tempfile.mkdtemp())
    frames = {}
    for number, (name, (variables, options)) in enumerate(SETTINGS.items()):
        out = folder / str(number)
        features = {"ZSAD_FEATURES": str(out / "features")}  # each setting encodes for itself
        command = [sys.executable, "-m", "zsad", "run", "--quiet", "--gallery", "0"]
        command += ["--methods", arguments.methods, "--out", str(out), *options]
        environment = {**os.environ, **variables, **features}
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        frames[name] = load_run(out).set_index(KEYS).value
    first, *others = frames
    moves = pd.DataFrame({name: (frames[name] - frames[first]).abs() for name in others})
    table = moves.groupby("metric").max().reindex(list(METRICS))
    print(tabulate(table, headers="keys", tablefmt="github", floatfmt=".2e"))
    worst = moves.max(axis=1).groupby("method").max().sort_values(ascending=False)
    print(
        tabulate(worst.to_frame("largest move"), headers="keys", tablefmt="github", floatfmt=".2e")
    )


if __name__ == "__main__":
    main()
