"""Time a second start of a finished run, and the first one, which hashes its images.

    python benchmarks/second_start.py [--images 10000] [--keep DIR]

Makes a folder of tiny images, runs CLIP on it with the built-in backbone, and starts the same
command again three times.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from _result import parser_of, result_of
from PIL import Image

SIDE = 8


def make_images(root: Path, count: int) -> None:
    """Half of them normal, half anomalous, with pixels of their own."""
    random_numbers = np.random.default_rng(0)
    for label in ("normal", "anomalous"):
        (root / "all" / label).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pixels = random_numbers.integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
        label = ("normal", "anomalous")[number % 2]
        Image.fromarray(pixels).save(root / "all" / label / f"{number:06d}.png")


def timed(command: list[str], environment: dict[str, str]) -> float:
    """Wall seconds of a command."""
    started = time.perf_counter()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> None:
    """Print the seconds of each start."""
    parser = parser_of(__doc__)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--keep", type=Path, help="work here and leave everything")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.keep or Path(temporary)
        if not (work / "data").exists():
            make_images(work / "data", arguments.images)
        (work / "plan.toml").write_text(
            f'methods = ["clip"]\nout = "{work / "run"}"\ngallery = 0\nbatch_size = 64\n'
            f'[[dataset]]\nname = "folder"\nroot = "{work / "data"}"\n'
        )
        environment = {**os.environ, "ZSAD_HASHES": str(work / "hashes")}
        zsad = [sys.executable, "-m", "zsad", "run", str(work / "plan.toml"), "--quiet"]
        starts = {"import torch": timed([sys.executable, "-c", "import torch"], environment)}
        starts["first start"] = timed(zsad, environment)
        for turn in range(3):
            starts[f"second start, {turn + 1}"] = timed(zsad, environment)
    result = result_of(__file__, arguments)
    result.table(f"{arguments.images} images", ["command", "seconds"], starts.items())
    result.write()


if __name__ == "__main__":
    main()
