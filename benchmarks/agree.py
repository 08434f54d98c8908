"""Whether every variant of every method answers on a device as on the CPU.

    python benchmarks/agree.py [--device cuda] [--methods clip,coop]

On the built-in backbone, each variant as it is made from its seed: the largest differences of
scores and maps over six images of three sizes, in batches of one and of three.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from _result import parser_of, result_of
from numpy.typing import NDArray
from zsad.bench import create, load_backbone, predict_images
from zsad.bench.backbone import Backbone
from zsad.bench.category import observes_references
from zsad.bench.method import TrainableMethod
from zsad.bench.registry import method_class, sound_names

SIZES = ((240, 240), (300, 200), (517, 519))
BATCHES = (1, 3)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--methods", help="comma-separated; default: all of zsad's own")
    arguments = parser.parse_args()
    host = load_backbone("tiny")
    device = load_backbone("tiny", device=arguments.device)
    own = [name for name in sound_names("method") if method_class(name).package is None]
    names = arguments.methods.split(",") if arguments.methods else own
    pictures = drawn()
    rows, failed = [], 0
    for name in names:
        for variant in method_class(name).variants:
            try:
                found: Sequence[object] = differences(name, variant, host, device, pictures)
            except Exception as error:  # every variant has its row
                found, failed = [None, None, f"{type(error).__name__}: {error}"], failed + 1
            rows.append([f"{name}@{variant}", *found])
    result = result_of(__file__, arguments)
    result.table(
        f"Differences between {arguments.device} and the CPU, {len(rows)} variants",
        ["variant", "of scores", "of maps", "error"],
        rows,
        ".1e",
    )
    result.write()
    if failed:
        raise SystemExit(f"{failed} variants fail")


def drawn() -> list[NDArray[np.uint8]]:
    """Noise with a white square."""
    random = np.random.default_rng(7)
    pictures = []
    for size in SIZES * 2:
        noise = random.integers(0, 256, (*size, 3)).astype(np.uint8)
        noise[40:90, 60:120] = 255
        pictures.append(noise)
    return pictures


def differences(
    name: str,
    variant: str,
    host: Backbone,
    device: Backbone,
    pictures: Sequence[NDArray[np.uint8]],
) -> tuple[float | None, float | None, str]:
    """The largest difference of scores and of maps; None where a method gives none."""
    one, other = (create(name, backbone, variant) for backbone in (host, device))
    if isinstance(one, TrainableMethod) and isinstance(other, TrainableMethod):
        other.load_learned(one.learned_state())
    worst: dict[str, float] = {}
    for batch, what in itertools.product(BATCHES, ("scores", "maps")):
        references = pictures[:2] if observes_references(one) else ()
        predictions = [
            predict_images(method, pictures, "metal nut", None, batch, references)
            for method in (one, other)
        ]
        answers = [getattr(prediction, what) for prediction in predictions]
        if answers[0] is not None:
            moved = float((answers[0] - answers[1]).abs().max())
            worst[what] = max(worst.get(what, 0.0), moved)
    return worst.get("scores"), worst.get("maps"), ""


if __name__ == "__main__":
    main()
