"""Exact pixel-level metrics of a long stream of maps in one category, in bounded memory.

The maps are random, with values on a grid, so that an independent count is possible: a histogram of
the normal and of the anomalous pixels, from which the same metrics follow. As many maps as the
largest categories of Real-IAD have images, and a budget far below the 5 GB that they take.

    python benchmarks/metrics_stream.py [--maps 5000] [--size 518] [--budget-mb 500]

Peak memory is the greatest resident memory of the process (Linux) while the metrics are computed,
beyond what it had before the first map: the budget, all anomalous pixels and their table.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
from _measure import peak_resident, reset_peak
from _result import parser_of, result_of
from metrics import Maps, Masks
from numpy.typing import NDArray
from zsad.bench.metrics import PixelAccumulator

LEVELS = 1 << 18
AT_A_TIME = 25
FPR_LIMIT = 0.3


def stream(n: int, size: int, seed: int = 0) -> tuple[Masks, NDArray[np.int64], NDArray[np.int64]]:
    """Masks and levels of maps [n, S, S], and the pixels of each anomalous one's region.

    Every other image has one square region, in which levels are higher.
    """
    rng = np.random.default_rng(seed)
    levels = rng.integers(0, LEVELS * 3 // 4, (n, size, size))
    masks, areas = np.zeros((n, size, size), bool), []
    for i in range(0, n, 2):
        side = int(rng.integers(size // 40 + 1, size // 5))
        row, column = rng.integers(0, size - side, 2)
        square = (i, slice(row, row + side), slice(column, column + side))
        masks[square] = True
        levels[square] += rng.integers(0, LEVELS // 4)
        areas.append(side * side)
    return masks, levels, np.repeat(np.array(areas), areas)


@dataclass
class Histogram:
    """Pixels by level: an independent way to the same metrics."""

    normal: NDArray[np.int64] = field(default_factory=lambda: np.zeros(LEVELS, np.int64))
    anomalous: NDArray[np.int64] = field(default_factory=lambda: np.zeros(LEVELS, np.int64))
    overlap: NDArray[np.float64] = field(default_factory=lambda: np.zeros(LEVELS))
    regions: int = 0

    def add(self, masks: Masks, levels: NDArray[np.int64], areas: NDArray[np.int64]) -> None:
        """Count images; `areas` are those of the anomalous pixels' regions."""
        inside = levels[masks]
        self.normal += np.bincount(levels[~masks], minlength=LEVELS)
        self.anomalous += np.bincount(inside, minlength=LEVELS)
        self.overlap += np.bincount(inside, 1 / areas, LEVELS)
        self.regions += int(masks.any(axis=(1, 2)).sum())

    def metrics(self) -> dict[str, float]:
        """AUROC, AP, F1-max and PRO, from the highest level down."""
        alarms = np.cumsum(self.normal[::-1])
        found = np.cumsum(self.anomalous[::-1])
        precision = found / np.maximum(found + alarms, 1)
        recall = found / found[-1]
        rates = np.append(0, alarms / alarms[-1])
        overlap = np.append(0, np.cumsum(self.overlap[::-1]) / self.regions)
        inside = np.append(rates[rates < FPR_LIMIT], FPR_LIMIT)
        return {
            "pixel_auroc": float(np.trapezoid(np.append(0, recall), rates)),
            "pixel_ap": float(np.sum(np.diff(recall, prepend=0) * precision)),
            "pixel_f1max": float(np.max(2 * found / (found + alarms + found[-1]))),
            "pixel_pro": float(np.trapezoid(np.interp(inside, rates, overlap), inside)) / FPR_LIMIT,
        }


@dataclass(frozen=True)
class Streamed:
    """What a stream came to.

    Attributes:
        found: metrics of the accumulator.
        expected: the same from histograms.
        spilled: bytes that went to a file.
        seconds: of updates, and of the result.
        resident: most bytes in memory during the result, beyond those before the first map; None
            where they cannot be read.
    """

    found: dict[str, float]
    expected: dict[str, float]
    spilled: int
    seconds: tuple[float, float]
    resident: int | None


def measure(maps: int, size: int, budget_bytes: int) -> Streamed:
    """Measure a stream of maps batch by batch."""
    histogram, updates, before = Histogram(), 0.0, reset_peak()
    with PixelAccumulator(budget_bytes) as pixels:
        for start in range(0, maps, AT_A_TIME):
            masks, levels, areas = stream(min(AT_A_TIME, maps - start), size, start)
            histogram.add(masks, levels, areas)
            values: Maps = (levels / np.float32(LEVELS)).astype(np.float32)
            began = time.perf_counter()
            pixels.update(masks, values)
            updates += time.perf_counter() - began
        del masks, levels, areas, values
        reset_peak()
        began = time.perf_counter()
        found = pixels.result().defined()
        seconds = updates, time.perf_counter() - began
        after = peak_resident()
        spilled = pixels.spilled_bytes()
    resident = None if before is None or after is None else after - before
    return Streamed(found, histogram.metrics(), spilled, seconds, resident)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--maps", type=int, default=5000)
    parser.add_argument("--size", type=int, default=518)
    parser.add_argument("--budget-mb", type=int, default=500)
    options = parser.parse_args()
    done = measure(options.maps, options.size, options.budget_mb * 10**6)
    result = result_of(__file__, options)
    result.table(
        f"{options.maps} maps of {options.size}x{options.size}, budget {options.budget_mb} MB",
        ["seconds of updates", "of the result", "MB spilled", "MB resident at the peak"],
        [[*done.seconds, done.spilled / 1e6, done.resident and done.resident / 1e6]],
    )
    rows = [[name, done.found[name] - value] for name, value in done.expected.items()]
    result.table("Differences to a histogram", ["metric", "difference"], rows, ".1e")
    result.write()


if __name__ == "__main__":
    main()
