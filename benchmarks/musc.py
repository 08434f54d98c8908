"""What MuSc costs: seconds of mutual scoring by the number of images, measured and computed.

    python benchmarks/musc.py --images 200 400
    python benchmarks/musc.py --backbone ViT-L-14-336 --images 200 400 1000

On the built-in backbone a whole category is scored. For a published backbone the products alone are
timed, on tokens drawn at random, for one pair of images; a category of N has N (N - 1) / 2 pairs,
each for every layer and degree.
"""

from __future__ import annotations

import argparse
import resource
import time

import torch
from _result import Result, parser_of, result_of
from torch.nn import functional as F
from zsad.bench import create, load_backbone
from zsad.bench.backbone import TokenSpec, VisualFeatures
from zsad.bench.category import KeptImages, observe
from zsad.bench.query import Query
from zsad.methods.musc import TILE_BYTES, MuSc, MuScOptions, greatest_similarities

PUBLISHED = {"ViT-L-14-336": (37 * 37, 1024, 768)}  # patches at 518 px, width, embedding
BATCH = 8


def measured(images: int) -> float:
    """Seconds in which a category of drawn tokens is scored on the built-in backbone."""
    method = create("musc", load_backbone("tiny"), max_images=0)
    side = method.image_size // method.backbone.patch_size
    kept, generator = KeptImages(images), torch.Generator().manual_seed(0)
    for start in range(0, images, BATCH):
        count = min(BATCH, images - start)
        token = torch.randn(count, method.backbone.embed_dim, generator=generator)
        tokens: dict[TokenSpec, torch.Tensor] = {
            spec: torch.randn(count, side * side, method.backbone.width, generator=generator)
            for spec in method.specs
        }
        features = VisualFeatures(token, token, tokens, (side, side))
        keys = range(start, start + count)
        kept.add(Query(features, ["object"] * count, keys=tuple(keys)))
    start_time = time.perf_counter()
    observe(method, kept)
    return time.perf_counter() - start_time


def pair_seconds(patches: int, width: int, device: str) -> float:
    """Seconds of the products of one pair of images for one layer and degree."""
    others = max(1, TILE_BYTES // (4 * patches**2))
    tokens = F.normalize(torch.randn(1 + others, patches, width, device=device), dim=-1)
    best = torch.zeros(1 + others, patches, 1 + others, device=device)

    def run() -> float:
        start = time.perf_counter()
        greatest_similarities(tokens, best, lambda: None)
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    run()
    pairs = others * (others + 1) / 2
    return min(run() for _ in range(3)) / pairs


def main() -> None:
    """Print a row for each number of images."""
    parser = parser_of(__doc__)
    parser.add_argument("--backbone", default="tiny", choices=["tiny", *PUBLISHED])
    parser.add_argument("--images", type=int, nargs="+", default=[200, 400])
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    result = result_of(__file__, arguments)
    if arguments.backbone == "tiny":
        rows = []
        for images in arguments.images:
            seconds = measured(images)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
            rows.append([images, seconds, 1000 * seconds / images, peak])
        headers = ["images", "seconds", "ms an image", "MiB at most in this process"]
        result.table("MuSc on the built-in backbone, measured", headers, rows, ".4g")
    else:
        computed(arguments, result)
    result.write()


def computed(arguments: argparse.Namespace, result: Result) -> None:
    """The seconds of a published backbone, from its measured products."""
    options = MuSc.variants["fixed"]
    assert isinstance(options, MuScOptions)
    patches, width, _ = PUBLISHED[arguments.backbone]
    one = pair_seconds(patches, width, arguments.device)
    rate = 2 * patches**2 * width / one / 1e9
    print(f"a pair of images, one layer and degree: {1000 * one:.2f} ms ({rate:.0f} GFLOP/s)")
    rows = []
    for images in arguments.images:
        seconds = len(options.layers) * len(options.degrees) * images * (images - 1) / 2 * one
        tokens = images * patches * width * 4 * len(options.layers) / 2**30
        compared = images * patches * (width + images) * 4 / 2**30
        rows.append([images, seconds, seconds / images, tokens, compared])
    headers = ["images", "seconds", "seconds an image", "GiB of tokens", "GiB compared at once"]
    result.table(f"MuSc on {arguments.backbone}, from measured products", headers, rows, ".4g")


if __name__ == "__main__":
    main()
