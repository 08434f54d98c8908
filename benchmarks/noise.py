"""How far the built-in metrics move between machines, imitated on one.

    python benchmarks/noise.py [--methods all] [--out FOLDER]

Runs the built-in plan in processes that differ in what differs between machines (vector
instructions, threads, batch size), trainings included, and prints the largest move of each metric
over all methods and categories against the first. The tolerances of results/baselines/builtin.json
are these moves with a margin.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
from _result import parser_of, result_of
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
    parser = parser_of(__doc__)
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
    by_metric = moves.groupby("metric").max().reindex(list(METRICS))
    by_method = moves.max(axis=1).groupby("method").max().sort_values(ascending=False)
    result = result_of(__file__, arguments)
    rows = by_metric.reset_index().to_numpy().tolist()
    result.table("Largest move of each metric", ["metric", *others], rows, ".2e")
    rows = [[name, value] for name, value in by_method.items()]
    result.table("Largest move of each method", ["method", "largest move"], rows, ".2e")
    result.write()


if __name__ == "__main__":
    main()
