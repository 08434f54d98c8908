"""All benchmarks, one after another; one JSON file of each in a folder.

    python benchmarks/all.py --quick                    # on a CPU, under ten minutes
    python benchmarks/all.py --device cuda              # the list for a GPU, under eight minutes
    python benchmarks/performance_page.py               # brings docs/performance.md up to date

Each script runs in a process of its own with a time limit of its own, so that one that hangs costs
no other. All of them work without a network: backbones have random weights.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from _result import device_name
from tabulate import tabulate

HERE = Path(__file__).parent
LARGE = ("--backbone", "ViT-L-14-336-quickgelu", "--pretrained", "random", "--device", "cuda")

UNTRAINED = "clip,clip-ac,winclip"

# name -> arguments and the most seconds that it may take
Runs = Mapping[str, tuple[Sequence[str], int]]
QUICK: Runs = {
    "cost_model": (["--narrow"], 180),
    "forward": (["--images", "2", "--repeats", "1"], 90),
    "grid": (["--images", "4", "--batch-size", "4", "--repeats", "1"], 120),
    "training": (["--images", "4", "--batch-size", "4"], 180),
    "cached_training": (["--images", "64", "--steps", "2"], 120),
    "metrics": (["--maps", "20"], 90),
    "end_to_end": (["--methods", UNTRAINED, "--limit", "20", "--repeats", "3"], 150),
    "memory": (["--images", "50", "200", "--methods", UNTRAINED], 120),
    "precision": (["--methods", UNTRAINED, "--limit", "20"], 90),
    "loading": (["--rounds", "2"], 60),
    "second_start": (["--images", "1000"], 90),
    "musc": (["--images", "50", "100"], 60),
    "builtin": ([], 60),
}
FULL: Runs = {
    "cost_model": ([], 3600),
    "forward": ([], 600),
    "grid": ([], 1200),
    "training": ([], 1200),
    "cached_training": ([], 900),
    "metrics": (["--maps", "200"], 900),
    "metrics_stream": ([], 900),
    "end_to_end": ([], 1800),
    "memory": ([], 1800),
    "precision": ([], 900),
    "loading": ([], 120),
    "second_start": ([], 300),
    "musc": ([], 600),
    "builtin": ([], 120),
    "noise": ([], 3600),
}
ON_GPU = ("--device", "cuda")
CUDA: Runs = {
    "agree": (ON_GPU, 90),
    "forward": ([*LARGE, "--images", "64"], 60),
    "grid": ([*LARGE, "--images", "64", "--batch-size", "16"], 60),
    "training": ([*LARGE, "--images", "64", "--batch-size", "16"], 90),
    "cached_training": ([*ON_GPU, "--images", "512", "--steps", "32"], 90),
    "cost_model": ([*ON_GPU, "--images", "8"], 120),
    "end_to_end": (
        [*ON_GPU, "--images", "2000", "--batch-size", "64", "--workers", "8", "--repeats", "1"],
        120,
    ),
    "metrics": ([*ON_GPU, "--maps", "40", "--batch-size", "8"], 90),
    "precision": (
        [*ON_GPU, "--precisions", *("fp32", "tf32", "bf16", "fp16"), "--methods", UNTRAINED],
        120,
    ),
    "musc": ([*ON_GPU, "--backbone", "ViT-L-14-336"], 30),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, for a CPU")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("results/performance/cpu"))
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these scripts alone")
    arguments = parser.parse_args()
    runs = CUDA if arguments.device.startswith("cuda") else QUICK if arguments.quick else FULL
    arguments.out.mkdir(parents=True, exist_ok=True)
    print(f"{device_name(arguments.device)}: {', '.join(arguments.only or runs)}")
    outcomes = []
    for name in arguments.only or runs:
        options, limit = runs[name]
        print(f"\n=== {name} {' '.join(options)}", flush=True)
        started, before = time.perf_counter(), processor_seconds()
        outcome = run(name, [*options, "--json", str(arguments.out / f"{name}.json")], limit)
        wall, busy = time.perf_counter() - started, processor_seconds() - before
        outcomes.append([name, outcome, wall, busy])
    outcomes.append(["all", "", sum(row[2] for row in outcomes), sum(row[3] for row in outcomes)])
    headers = ["script", "outcome", "seconds", "processor seconds"]
    print(f"\n{tabulate(outcomes, headers, floatfmt='.0f')}")
    sys.exit(any(outcome != "done" for _, outcome, *_ in outcomes[:-1]))


def processor_seconds() -> float:
    """What the processes of ended scripts have taken."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(name: str, options: Sequence[str], limit: int) -> str:
    """Run one script; returns "done" or what went wrong."""
    command = [sys.executable, str(HERE / f"{name}.py"), *options]
    try:
        code = subprocess.run(command, timeout=limit, check=False).returncode
    except subprocess.TimeoutExpired:
        return f"stopped after {limit} s"
    return "done" if code == 0 else f"exit {code}"


if __name__ == "__main__":
    main()
