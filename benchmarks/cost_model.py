"""What the paper's whole comparison takes on this device: nine methods, 19 datasets, part by part.

    python benchmarks/cost_model.py [--device cuda] [--images 1] [--backbone NAME]

Every part is measured with the backbones that the methods were published with (random weights: the
time is the same) on a few images, and multiplied by how often the comparison does it. Numbers of
images are those of the official releases. The sum is of one process without overlap; a run is
faster by what overlaps, see end_to_end.py.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from _backbone import add_arguments, backbone_of, images_with_squares
from _measure import timed
from _result import parser_of, result_of
from PIL import Image
from zsad.bench import create
from zsad.bench.at_once import AtOnce
from zsad.bench.backbone import Backbone
from zsad.bench.dataset import Dataset
from zsad.bench.images import resize_mask
from zsad.bench.method import AuxiliarySplit, Method, TrainableMethod
from zsad.bench.progress import Progress
from zsad.bench.query import Query
from zsad.bench.registry import dataset_class, method_class, sound_names
from zsad.bench.running.evaluation import accumulators
from zsad.bench.running.forecast import Forecast, Part
from zsad.bench.running.plan_entries import methods_meant_by
from zsad.bench.training.batches import Draws, Source, TrainingBatch
from zsad.bench.training.loop import optimise
from zsad.bench.training.optimisation import TrainingConfig
from zsad.bench.training.sources import can_cache, memory_sources
from zsad.bench.training.stages import passes
from zsad.bench.weights import load_backbone

SIZE = 518


def methods_on(arguments: argparse.Namespace) -> dict[str, Method]:
    """The paper's methods on the backbone that was asked for, or each on its published one."""
    one = arguments.backbone or arguments.config or arguments.narrow
    kept: dict[str | None, Backbone] = {}
    methods = {}
    for name in methods_meant_by("all"):
        published = method_class(name).backbone_spec.name
        key = None if one else published
        if key not in kept:
            kept[key] = (
                backbone_of(arguments)
                if one
                else load_backbone(published, "random", device=arguments.device)
            )
        methods[name] = create(name, kept[key])
    return methods


def main() -> None:
    parser = parser_of(__doc__)
    add_arguments(parser)
    parser.add_argument("--images", type=int, default=1, help="of a visual forward")
    parser.add_argument("--narrow", action="store_true", help="all on the tower of width 128")
    arguments = parser.parse_args()
    datasets = [dataset_class(name) for name in sound_names("dataset")]
    benchmark = [dataset for dataset in datasets if dataset.in_benchmark]
    methods = methods_on(arguments)
    total = sum(images_of(dataset) for dataset in benchmark)
    masked = sum(images_of(dataset) for dataset in benchmark if dataset.has_masks)
    words = sum(len(dataset.categories) or 1 for dataset in benchmark)
    groups: dict[object, list[Method]] = {}
    for method in methods.values():
        groups.setdefault(method.forward_key(), []).append(method)
    parts = [reading(total * len(groups))]
    forwards: dict[object, float] = {}
    for key, members in groups.items():
        forward, *own = scoring(members, total, words, arguments.images)
        forwards[key] = forward.each or 0.0
        parts += [forward, *own]
    parts.append(measuring(masked * len(methods), torch.device(arguments.device)))
    uncounted = dict(forwards)
    for name, method in methods.items():
        if isinstance(method, TrainableMethod):
            parts += training(name, method, arguments.images, uncounted)
    rows = [[p.name, p.count, p.unit, 1000 * (p.each or 0), (p.seconds or 0) / 60] for p in parts]
    seconds = Forecast(parts).seconds
    result = result_of(__file__, arguments)
    result.table(
        f"Nine methods on 19 datasets, {total} test images, {backbones(arguments)}: "
        f"{seconds / 3600:.1f} hours of one process",
        ["part", "count", "unit", "ms each", "minutes"],
        rows,
        ".3g",
    )
    alone = sum(forwards[method.forward_key()] for method in methods.values())
    shared = sum(forwards.values())
    result.ratio(
        "the whole grid, against each method with forwards of its own",
        seconds / (seconds + total * (alone - shared)),
    )
    result.write()


def backbones(arguments: argparse.Namespace) -> str:
    """Which backbones the parts were measured with."""
    if arguments.backbone or arguments.config:
        return str(arguments.backbone or Path(arguments.config).stem)
    return "the width-128 tower" if arguments.narrow else "published backbones"


def images_of(dataset: type[Dataset], split: AuxiliarySplit = "test") -> int:
    """How many images a split of the official release has; "all" is train and test."""
    counts = dataset.total or dataset.expected()
    test = (counts.test_normal or 0) + (counts.test_anomalous or 0)
    return test + (counts.train or counts.train_normal or 0) * (split == "all")


def reading(count: int) -> Part:
    """A PNG of MVTec AD's size is read and brought to 518 px, its mask too."""
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.png"
        picture.resize((1024, 1024), Image.Resampling.BICUBIC).save(path)

        def read() -> None:
            image = Image.open(path).convert("RGB")
            image.resize((SIZE, SIZE), Image.Resampling.BICUBIC)
            resize_mask(np.asarray(image)[..., 0] > 128, SIZE, Dataset.mask_rule)

        seconds = timed(read, torch.device("cpu"), repeats=5, uncounted=1)
        return Part("reading", count, "image", each=seconds)


def scoring(members: list[Method], count: int, words: int, images: int) -> list[Part]:
    """One visual forward of methods that share it, and what each of them adds.

    Args:
        members: methods with equal forwards.
        count: of all images.
        words: class names, whose text features are computed once.
        images: of the measured batch.
    """
    first = members[0]
    arrays, _, _ = images_with_squares(images, first.image_size)
    pixels = torch.stack([first.preprocess(Image.fromarray(array)) for array in arrays])
    pixels = pixels.to(first.backbone.device)
    specs = frozenset().union(*(method.token_specs for method in members))
    device, classes = first.backbone.device, ["object"] * images
    with torch.no_grad():
        features = first.preprocess.encode(first.backbone, pixels, specs)
        forward = timed(lambda: first.preprocess.encode(first.backbone, pixels, specs), device)
        titles = ", ".join(method.title for method in members)
        parts = [Part(f"visual forward of {titles}", count, "image", each=forward / images)]
        for method in members:
            query = Query.of(method, features, classes, pixels)
            work = lambda query=query, method=method: method.predict(query)  # noqa: E731
            first, again = timed(work, device), timed(work, device)
            parts += [
                Part(f"{method.title}, its own part", count, "image", each=again / images),
                Part(f"{method.title}, its text", words, "class name", each=max(first - again, 0)),
            ]
    return parts


def measuring(count: int, device: torch.device, maps: int = 8) -> Part:
    """All pixel-level metrics of maps at 518 px, of which half have an anomalous square."""
    generator = torch.Generator().manual_seed(0)
    _, masks, _ = images_with_squares(maps, SIZE)
    scores = torch.rand((maps, SIZE, SIZE), generator=generator) + torch.from_numpy(masks)
    given = scores.to(device) if device.type == "cuda" else scores.numpy()

    def measure() -> None:
        (pixels,) = accumulators(device, 1, 1)
        with pixels:
            pixels.update(masks, given)
            pixels.result()

    seconds = timed(measure, device, repeats=3, uncounted=1)
    return Part("pixel-level metrics of one map", count, "map", each=seconds / maps)


@dataclass(frozen=True)
class Repeated(Source):
    """A source whose samples come again and again, so that few images fill a batch."""

    source: Source
    times: int

    @cached_property
    def encoding(self) -> AtOnce:
        """See `Source`."""
        return self.source.encoding

    def words(self) -> Sequence[str]:
        """See `Source`."""
        return [*self.source.words()] * self.times

    def batches(
        self, order: Sequence[int], batch_size: int, draws: Draws
    ) -> Iterator[TrainingBatch]:
        """See `Source`."""
        count = len(self.source)
        return self.source.batches([number % count for number in order], batch_size, draws)


def training(
    name: str, method: TrainableMethod, images: int, forwards: dict[object, float]
) -> list[Part]:
    """A method learns twice: from MVTec AD for all others, and from VisA for MVTec AD.

    Steps from cached features are of the batch size of the schedule. Where images change from epoch
    to epoch, a step holds one batch of the measurement and counts by its images.

    Args:
        name, method: that learns.
        images: of a visual forward.
        forwards: forward key -> its seconds an image. One is taken out once its features are
            counted, as methods with equal forwards share them.
    """
    stages = passes(method)
    arrays, masks, labels = images_with_squares(images)
    sources = memory_sources(method, stages, arrays, masks, labels, "object", images)
    caches = all(can_cache(method, stage) for stage in stages)
    size = max(stage.schedule.batch_size for stage in stages) if caches else images
    filled = [Repeated(source, 2 * size // images) for source in sources]
    config = TrainingConfig(epochs=1, batch_size=size, progress=Progress())
    seconds = timed(lambda: optimise(method, filled, config), method.backbone.device, uncounted=1)
    samples = steps = 0
    for auxiliary in ("mvtec_ad", "visa"):
        learner = create(name, method.backbone, auxiliary=auxiliary)
        assert isinstance(learner, TrainableMethod)
        count = images_of(dataset_class(auxiliary), learner.split_of(learner.options))
        samples += count
        steps += sum(-(-count // size) * stage.schedule.epochs for stage in learner.stages())
    title = f"training of {method.title}, both times"
    each = seconds / (2 * len(stages))
    if not caches:
        return [Part(title, steps * images, "image", each=each / images)]
    key = method.forward_key()
    parts = [Part(title, steps, "step", each=each)]
    if key in forwards:
        about = f"features that {method.title} and others learn from"
        parts.insert(0, Part(about, samples, "image", each=forwards.pop(key)))
    return parts


if __name__ == "__main__":
    main()
