"""The exact pixel-level metrics against scikit-learn and the released codes' PRO, in one process.

Measured: one `PixelAccumulator` fed batch by batch, whose result holds all pixel-level metrics that
a run measures; once as in a run, where the loader has labelled the regions of each mask, and once
with the labelling. Reference: scikit-learn's `roc_auc_score` and `average_precision_score` over all
pixels, and the 200-threshold PRO, written here as the released codes do it (a loop over thresholds
in which every mask is labelled again and its regions are visited one by one). A second reference
labels the masks only once, so that the ratio can be judged without that waste.

    python benchmarks/metrics.py [--maps 50] [--size 518] [--anomalous 0.03] [--device cuda]

With a device, the accumulator of devices is fed the same maps, which lie there already as those of
a method do, with the regions known; its values are compared with the host's.

Extra bytes a pixel are what is allocated beyond the masks and maps: the traced peak of all NumPy
arrays, and the growth of the process' peak resident memory (Linux). The timed pass is not traced.
Seconds are processor time of one process (set OMP_NUM_THREADS=1), best of three passes for ours, so
that other work on the machine counts for neither side; wall-clock time stands beside them, and its
ratios mean something on a quiet machine only.

Ours is mostly one `ndarray.sort` of float32. NumPy's AVX-512 sort is several times slower than its
AVX2 sort on AMD Zen 4 (numpy/x86-simd-sort, issue 6); there, set
NPY_DISABLE_CPU_FEATURES="X86_V4 AVX512_ICL AVX512_SPR".
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from _measure import peak_resident, reset_peak
from _result import Result, parser_of, result_of
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.metrics import auc, average_precision_score, roc_auc_score
from torch import Tensor
from zsad.bench.metrics import PixelAccumulator, PixelMetrics
from zsad.bench.metrics.device_accumulator import DeviceAccumulator
from zsad.bench.metrics.mask_regions import MaskRegions, regions_of
from zsad.bench.metrics.pixel_accumulator import Accumulator

EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=int)
Masks = NDArray[np.bool_]
Maps = NDArray[np.float32]
Region = tuple[NDArray[np.int64], ...]
OURS = "zsad: all pixel-level metrics"
SKLEARN = "scikit-learn: AUROC, AP"
ONCE = "200-threshold PRO, masks labelled once"
RELEASED = "200-threshold PRO, as released"


@dataclass(frozen=True)
class Cost:
    """What a computation took; bytes are beyond its inputs."""

    seconds: float
    wall: float
    traced_bytes: int | None = None
    resident_bytes: int | None = None


def smooth_maps(n: int, size: int, share: float, seed: int = 0) -> tuple[Masks, Maps]:
    """Half of the maps with some round regions that the maps find in part.

    Args:
        n: number of maps.
        size: side in pixels.
        share: of anomalous pixels over all maps.
        seed: of the random numbers.
    """
    rng = np.random.default_rng(seed)
    masks = np.zeros((n, size, size), dtype=bool)
    maps = np.empty((n, size, size), dtype=np.float32)
    rows, columns = np.ogrid[:size, :size]
    for i in range(n):
        while i % 2 == 0 and masks[i].mean() < 2 * share:
            row, column = rng.uniform(0, size, 2)
            radius = size * rng.uniform(0.2, 0.6) * np.sqrt(share / 2)
            masks[i] |= (rows - row) ** 2 + (columns - column) ** 2 < radius**2
        noise = rng.normal(size=(size, size)).astype(np.float32)
        maps[i] = 20 * ndimage.gaussian_filter(noise, 4.0)
        maps[i] += 2 * ndimage.gaussian_filter(masks[i].astype(np.float32), 8.0)
    return masks, maps


def exact(
    pixels: Accumulator,
    masks: Masks,
    maps: Maps | Tensor,
    regions: Sequence[MaskRegions] | None = None,
    batch_size: int = 1,
) -> PixelMetrics:
    """All metrics of the maps by an accumulator, from batches."""
    with pixels:
        for start in range(0, len(masks), batch_size):
            some = slice(start, start + batch_size)
            pixels.update(masks[some], maps[some], regions and regions[some])
        return pixels.result()


def visited_regions(mask: Masks) -> list[Region]:
    labelled, count = ndimage.label(mask, structure=EIGHT_NEIGHBOURS)
    boxes = ndimage.find_objects(labelled)
    regions = []
    for number, (rows, columns) in zip(range(1, count + 1), boxes, strict=True):
        inside = np.nonzero(labelled[rows, columns] == number)
        regions.append((inside[0] + rows.start, inside[1] + columns.start))
    return regions


def released_pro(masks: Masks, maps: Maps, label_once: bool, steps: int = 200) -> float:
    """Threshold by threshold, as `cal_pro_score` of the released codes does it."""
    low, high = maps.min(), maps.max()
    hit = np.zeros_like(maps, dtype=bool)
    normal = ~masks
    once = [visited_regions(mask) for mask in masks] if label_once else None
    rates, overlaps = [], []
    for threshold in np.arange(low, high, (high - low) / steps):
        hit[maps <= threshold], hit[maps > threshold] = False, True
        shares = [
            found[region].sum() / region[0].size
            for number, found in enumerate(hit)
            for region in (once[number] if once else visited_regions(masks[number]))
        ]
        overlaps.append(np.mean(shares))
        rates.append(np.logical_and(normal, hit).sum() / normal.sum())
    fpr, overlap = np.array(rates), np.array(overlaps)
    fpr, overlap = fpr[fpr < 0.3], overlap[fpr < 0.3]
    return float(auc((fpr - fpr.min()) / (fpr.max() - fpr.min()), overlap))


def timed(work: Callable[[], object]) -> Cost:
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return Cost(time.process_time() - processor, time.perf_counter() - wall)


def resident_growth(work: Callable[[], object]) -> int | None:
    before = reset_peak()
    work()
    after = peak_resident()
    return None if before is None or after is None else after - before


def traced_peak(work: Callable[[], object]) -> int:
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def best_of(work: Callable[[], object], repeats: int) -> Cost:
    return min((timed(work) for _ in range(repeats)), key=lambda it: it.seconds)


def cost(work: Callable[[], object], repeats: int = 3) -> Cost:
    grown = resident_growth(work)
    best = best_of(work, repeats)
    return Cost(best.seconds, best.wall, traced_peak(work), grown)


def row(name: str, it: Cost, n_pixels: int) -> list[object]:
    sizes = [size and size / n_pixels for size in (it.traced_bytes, it.resident_bytes)]
    return [name, it.seconds, it.wall, *sizes]


def ours(
    options: argparse.Namespace, masks: Masks, maps: Maps
) -> tuple[dict[str, Cost], dict[str, PixelMetrics]]:
    """What zsad takes, and the values, on the host and on a device where one is asked for."""
    known, step = [regions_of(mask) for mask in masks], options.batch_size
    values = {}

    def host(regions: Sequence[MaskRegions] | None) -> None:
        values["host"] = exact(PixelAccumulator(), masks, maps, regions, step)

    costs = {OURS: cost(lambda: host(None)), f"{OURS}, regions known": cost(lambda: host(known))}
    if options.device:
        device = torch.device(options.device)
        there = torch.from_numpy(maps).to(device)

        def on_device() -> None:
            values["device"] = exact(DeviceAccumulator(device), masks, there, known, step)

        on_device()
        costs[f"{OURS}, regions known, on {device}"] = best_of(on_device, 3)
    return costs, values


def references(masks: Masks, maps: Maps) -> tuple[dict[str, Cost], dict[str, float]]:
    """What others take for three of the metrics, and the values."""
    flat, values = (masks.ravel(), maps.ravel()), {}

    def sklearn() -> None:
        values["pixel_auroc"] = roc_auc_score(*flat)
        values["pixel_ap"] = average_precision_score(*flat)

    def pro(label_once: bool) -> None:
        values["pixel_pro_official200"] = released_pro(masks, maps, label_once)

    costs = {
        SKLEARN: cost(sklearn, repeats=1),
        ONCE: timed(lambda: pro(label_once=True)),
        RELEASED: timed(lambda: pro(label_once=False)),
    }
    return costs, values


def compare(result: Result, values: dict[str, PixelMetrics], expected: dict[str, float]) -> None:
    """Tables of differences to the references, and of a device to the host."""
    host, *devices = (found.defined() for found in values.values())
    rows = [[name, host[name] - value] for name, value in expected.items()]
    result.table("Differences to the references", ["metric", "difference"], rows, ".1e")
    for found in devices:
        rows = [[name, found[name] - value] for name, value in host.items()]
        result.table("Differences of the device to the host", ["metric", "difference"], rows, ".1e")


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--maps", type=int, default=50)
    parser.add_argument("--size", type=int, default=518)
    parser.add_argument("--anomalous", type=float, default=0.03, help="share of anomalous pixels")
    parser.add_argument("--batch-size", type=int, default=1, help="maps of an update")
    parser.add_argument("--device", help="measure its accumulator as well")
    options = parser.parse_args()

    masks, maps = smooth_maps(options.maps, options.size, options.anomalous)
    n_regions = sum(len(visited_regions(mask)) for mask in masks)
    costs, values = ours(options, masks, maps)
    others, expected = references(masks, maps)
    result = result_of(__file__, options)
    result.table(
        f"{options.maps} maps of {options.size}x{options.size}, {masks.mean():.1%} of the pixels "
        f"anomalous, {n_regions} regions; bytes a pixel beyond masks and maps",
        ["metrics", "processor seconds", "wall seconds", "traced bytes", "resident bytes"],
        [row(name, it, maps.size) for name, it in {**costs, **others}.items()],
        ".3f",
    )
    whole, in_run, *on_device = costs.values()
    for how, reference in [("as released", RELEASED), ("masks labelled once", ONCE)]:
        spent = [others[SKLEARN], others[reference]]
        name = f"scikit-learn and PRO {how}, against zsad"
        result.ratio(name, sum(it.seconds for it in spent) / whole.seconds)
        result.ratio(f"{name}, wall time", sum(it.wall for it in spent) / whole.wall)
    for it in on_device:
        result.ratio("host against device, wall time", in_run.wall / it.wall)
    compare(result, values, expected)
    result.write()


if __name__ == "__main__":
    main()
