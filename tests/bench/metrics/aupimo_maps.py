"""Maps whose AUPIMO anomalib has computed, drawn by a hash so that they are the same everywhere.

    pip install anomalib && python tests/bench/metrics/aupimo_maps.py

computes the AUPIMO of each image again with anomalib's implementation, at its own 300,000
thresholds, and writes `recorded/aupimo.json`. It takes a few gigabytes.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

RECORDED = Path(__file__).with_name("recorded") / "aupimo.json"
NORMAL, ANOMALOUS, SIDE = 40, 6, 512
SHIFTS = (1.5, 2.0, 2.5, 3.0, 3.5, 4.0)  # how far anomalous pixels lie above normal ones


def drawn_maps():
    """Masks bool and maps float32 [46, 512, 512]; the last 6 images have a square region.

    A score is the sum of twelve hashed 16-bit numbers, which float32 holds exactly: nearly normal
    noise, without a sample that another version of a library draws differently.
    """
    count = NORMAL + ANOMALOUS
    masks = np.zeros((count, SIDE, SIDE), bool)
    maps = np.empty(masks.shape, np.float32)
    for n in range(count):
        maps[n] = _noise(n)
        if n >= NORMAL:
            masks[n, 100:140, 200:240] = True
            maps[n][masks[n]] += np.float32(round(SHIFTS[n - NORMAL] * 65536))
    return masks, maps


def _noise(image):
    """Sums of twelve hashed numbers in [0, 65536) [512, 512]; their deviation is 65536."""
    place = np.arange(SIDE * SIDE, dtype=np.uint64) + np.uint64(image * SIDE * SIDE)
    total = np.zeros(place.size, np.uint64)
    for draw in range(3):
        word = _splitmix64(place + np.uint64((draw + 1) << 40))
        for shift in (0, 16, 32, 48):
            total += (word >> np.uint64(shift)) & np.uint64(0xFFFF)
    return total.astype(np.float32).reshape(SIDE, SIDE)


def _splitmix64(words):
    """A mixing function: Steele et al., Fast splittable pseudorandom number generators, 2014."""
    words = words * np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def main():
    import anomalib
    import torch
    from anomalib.metrics.pimo.functional import aupimo_scores

    masks, maps = drawn_maps()
    *_, scores, points = aupimo_scores(torch.from_numpy(maps), torch.from_numpy(masks))
    found = {
        "anomalib": anomalib.__version__,
        "thresholds": 300_000,
        "thresholds_in_range": points,
        "scores": [float(score) for score in scores[NORMAL:]],
    }
    RECORDED.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(found)


if __name__ == "__main__":
    main()
