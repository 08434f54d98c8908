"""Whether training from cached features waits for the disk, with features as large as ViT-L/14's.

Features of the shape that the backbone gives are drawn and written to a feature cache; the visual
tower is not run. They are read as a training reads them, in shuffled order, with the page cache
dropped and without; then the method learns from some of them by the loop of `zsad train`, with its
whole text tower, and waiting for a batch is told from the step. The last table extrapolates both to
a whole training on a dataset of another size.

    python benchmarks/cached_training.py [--method anomalyclip] [--images 256] [--steps 8]

It needs some GB of disk for as long as it runs: --folder says where.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from _backbone import add_arguments
from _result import Result, parser_of, result_of
from zsad.bench import create, load_dataset
from zsad.bench.at_once import AtOnce
from zsad.bench.backbone import VisualFeatures
from zsad.bench.dataset import Sample
from zsad.bench.method import TrainableMethod
from zsad.bench.options import DEFAULT_SEED
from zsad.bench.training.augmentation import Draws
from zsad.bench.training.batches import CachedSource, Source, TrainingBatch
from zsad.bench.training.feature_cache import CachedFeatures, CachedMasks, FeatureCache
from zsad.bench.training.loop import optimise
from zsad.bench.training.optimisation import TrainingConfig
from zsad.bench.training.sharded_array import SHARD, ShardedArray
from zsad.bench.weights import load_backbone

PIECE = 8 << 20  # bytes of a plain read


@dataclass
class TimedSource(Source):
    """Another source, with the seconds that its reader waits for each batch."""

    source: Source
    waits: list[float] = field(default_factory=list)

    @cached_property
    def encoding(self) -> AtOnce:
        """See `Source`."""
        return self.source.encoding

    def words(self) -> Sequence[str]:
        """See `Source`."""
        return self.source.words()

    def batches(
        self, order: Sequence[int], batch_size: int, draws: Draws
    ) -> Iterator[TrainingBatch]:
        """See `Source`."""
        batches = self.source.batches(order, batch_size, draws)
        while True:
            started = time.perf_counter()
            batch = next(batches, None)
            self.waits.append(time.perf_counter() - started)
            if batch is None:
                return
            yield batch


@dataclass(frozen=True)
class Bench:
    """A method, and a cache of drawn features that it learns from.

    Attributes:
        root: of the cache.
        images: how many it holds.
        stored: "full" or "fp16".
    """

    method: TrainableMethod
    root: Path
    images: int
    stored: str

    def features(self) -> CachedFeatures:
        """The arrays, mapped by nobody yet."""
        method = self.method
        cache = FeatureCache(self.root, self.stored)
        return cache.arrays(
            self.root / "features",
            method.backbone,
            method.image_size,
            method.token_specs,
            self.images,
        )

    def fill(self) -> None:
        """Write drawn features and masks, the same in each shard."""
        features, masks = self.features(), self.masks()
        generator = torch.Generator().manual_seed(DEFAULT_SEED)

        def draw(array: ShardedArray) -> torch.Tensor:
            return torch.randn(SHARD, *array.row, generator=generator)

        drawn = VisualFeatures(
            draw(features.class_token),
            draw(features.class_token_no_ln),
            {spec: draw(array) for spec, array in features.tokens.items()},
            features.grid,
        )
        size = self.method.map_size
        truth = torch.zeros(SHARD, size, size, dtype=torch.bool)
        truth[1::2, size // 4 : size // 2, size // 4 : size // 2] = True
        for shard in range(features.class_token.shards):
            rows = slice(min(SHARD, self.images - shard * SHARD))
            features.write(shard, drawn.map(lambda tensor, rows=rows: tensor[rows]))
            masks.write(shard, truth[rows])

    def masks(self) -> CachedMasks:
        """The masks, a bit a pixel."""
        size = self.method.map_size
        row = (-(-size * size // 8),)
        return CachedMasks(
            ShardedArray(self.root / "masks", self.images, row, np.dtype(np.uint8)), size
        )

    def source(self, images: int) -> CachedSource:
        """The first images, freshly opened."""
        samples = [Sample(Path(f"{n}.png"), n % 2, "object", "object") for n in range(images)]
        dataset = load_dataset("synthetic")
        return CachedSource(self.method, self.features(), self.masks(), dataset, samples)

    def files(self) -> list[Path]:
        """All files of features, in their order."""
        return sorted((self.root / "features").rglob("*.npy"))

    def drop(self) -> bool:
        """Ask the system to forget the files' pages; False where it cannot be asked."""
        if not hasattr(os, "posix_fadvise"):
            return False
        for path in [*self.files(), *(self.root / "masks").rglob("*.npy")]:
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return True


def read_plainly(files: Sequence[Path]) -> None:
    """Read files one after another in large pieces."""
    piece = bytearray(PIECE)
    for path in files:
        with path.open("rb", buffering=0) as file:
            while file.readinto(piece):
                pass


def seconds_of(work: Callable[[], object]) -> float:
    """Wall seconds of a call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def reading(bench: Bench, batch_size: int, result: Result) -> float:
    """Read all features in each way; returns the seconds of a batch that is not in memory."""
    features = bench.features()
    total = features.nbytes(bench.method.token_specs)
    order = torch.randperm(bench.images, generator=torch.Generator().manual_seed(0)).tolist()
    batches = [order[at : at + batch_size] for at in range(0, len(order), batch_size)]

    def rows() -> None:
        fresh = bench.features()
        for chosen in batches:
            fresh.batch(chosen, bench.method.token_specs)

    seconds = {}
    dropped = bench.drop()
    seconds["first opening, checksums compared"] = seconds_of(lambda: bench.features().missing())
    for way, work in (
        ("files one after another", lambda: read_plainly(bench.files())),
        ("rows in shuffled order", rows),
    ):
        bench.drop()
        seconds[f"{way}, page cache {'dropped' if dropped else 'not dropped'}"] = seconds_of(work)
        seconds[f"{way}, from memory"] = seconds_of(work)
    table = [[way, total / s / 1e9, 1000 * s / len(batches)] for way, s in seconds.items()]
    about = f"{bench.images} images of {total / bench.images / 1e6:.2f} MB ({bench.stored})"
    result.table(f"Reading features of {about}", ["way", "GB/s", f"ms for {batch_size}"], table)
    plain, shuffled = [s for way, s in seconds.items() if "page cache" in way]
    result.ratio("plain reading of the files, against rows in shuffled order", plain / shuffled)
    return shuffled / len(batches)


def training(bench: Bench, arguments: argparse.Namespace, result: Result, reads: float) -> None:
    """Learn for some steps with the page cache dropped, and say what a whole training waits."""
    size, images = arguments.batch_size, arguments.steps * arguments.batch_size
    config = TrainingConfig(epochs=1, batch_size=size, shuffle=True, seed=DEFAULT_SEED)
    optimise(bench.method, [bench.source(size)], config)  # the first step allocates memory
    bench.drop()
    timed = TimedSource(bench.source(images))
    whole = optimise(bench.method, [timed], config).seconds
    first, *later, _ = timed.waits  # the last answer says that there are no more
    step = (whole - sum(timed.waits)) / arguments.steps
    threads = torch.get_num_threads()
    result.table(
        f"Seconds of a step of {bench.method.title}, batch {size}, {threads} threads",
        ["computing", "waiting for an epoch's first batch", "for a later one", "reading one alone"],
        [[step, first, sum(later) / len(later), reads]],
        ".3f",
    )
    steps = -(-arguments.of // size) * arguments.epochs
    held = bench.features().nbytes(bench.method.token_specs) * arguments.of / bench.images
    waiting = arguments.epochs * first + (steps - arguments.epochs) * sum(later) / len(later)
    hours, share = (steps * step + waiting) / 3600, 100 * waiting / (steps * step + waiting)
    result.table(
        f"{arguments.epochs} epochs on {arguments.of:,} images, extrapolated from these steps",
        ["steps", "GB kept", "GB read", "hours", "of them waiting", "% waiting"],
        [[steps, held / 1e9, held * arguments.epochs / 1e9, hours, waiting / 3600, share]],
        ".3f",
    )
    result.ratio("a step, against reading its batch from disk", step / reads)


def main() -> None:
    parser = parser_of(__doc__)
    add_arguments(parser)
    parser.set_defaults(backbone="ViT-L-14-336-quickgelu")
    parser.add_argument("--method", default="anomalyclip")
    parser.add_argument("--images", type=int, default=256, help="in the cache")
    parser.add_argument("--steps", type=int, default=8, help="to learn from them")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--stored", default="full", help="full or fp16")
    parser.add_argument("--of", type=int, default=1725, help="images to extrapolate to")
    parser.add_argument("--epochs", type=int, default=15, help="to extrapolate to")
    parser.add_argument("--folder", type=Path, help="for the cache (default: the system's)")
    arguments = parser.parse_args()
    backbone = load_backbone(
        arguments.backbone, arguments.pretrained, arguments.config, arguments.device
    )
    method = create(arguments.method, backbone)
    if not isinstance(method, TrainableMethod):
        parser.error(f"{method.title} learns nothing")
    result = result_of(__file__, arguments)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        bench = Bench(method, Path(folder), arguments.images, arguments.stored)
        bench.fill()
        reads = reading(bench, arguments.batch_size, result)
        training(bench, arguments, result, reads)
    result.write()


if __name__ == "__main__":
    main()
