"""What the paper's whole comparison takes on this device: nine methods, 19 datasets, part by part.

    python benchmarks/grid_cost.py [--device cuda] [--images 1] [--backbone NAME]

Every part is measured on a few images with the backbones that the methods were published with
(random weights: the time is the same), and multiplied by how often the comparison does it. Numbers
of images are those of the official releases.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from _backbone import add_arguments, backbone_of, images_with_squares
from _result import parser_of, result_of
from PIL import Image
from zsad.bench import create
from zsad.bench.backbone import Backbone
from zsad.bench.dataset import Dataset
from zsad.bench.images import resize_mask
from zsad.bench.method import Method, TrainableMethod
from zsad.bench.metrics import PixelAccumulator
from zsad.bench.progress import Progress
from zsad.bench.query import Query
from zsad.bench.registry import dataset_class, method_class, sound_names
from zsad.bench.running.forecast import Forecast, Part
from zsad.bench.running.plan_entries import methods_meant_by
from zsad.bench.training.loop import optimise
from zsad.bench.training.optimisation import TrainingConfig
from zsad.bench.training.sources import memory_sources
from zsad.bench.training.stages import passes
from zsad.bench.weights import load_backbone

SIZE = 518


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Wall seconds of a call, after one that does not count."""
    for _ in range(2):
        wait(device)
        started = time.perf_counter()
        work()
        wait(device)
    return time.perf_counter() - started


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def backbone_for(name: str, arguments: argparse.Namespace) -> Backbone:
    """The backbone that a method was published with, or the one that was asked for."""
    if arguments.backbone or arguments.config or arguments.narrow:
        return backbone_of(arguments)
    spec = method_class(name).backbone_spec
    return load_backbone(spec.name, "random", device=arguments.device)


def main() -> None:
    parser = parser_of(__doc__)
    add_arguments(parser)
    parser.add_argument("--images", type=int, default=1, help="of a visual forward")
    parser.add_argument("--narrow", action="store_true", help="all on the tower of width 128")
    arguments = parser.parse_args()
    datasets = [dataset_class(name) for name in sound_names("dataset")]
    benchmark = [dataset for dataset in datasets if dataset.in_benchmark]
    methods = {
        name: create(name, backbone_for(name, arguments)) for name in methods_meant_by("all")
    }
    total = sum(test_images(dataset) for dataset in benchmark)
    masked = sum(test_images(dataset) for dataset in benchmark if dataset.has_masks)
    parts = [reading(total)]
    groups: dict[object, list[Method]] = {}
    for method in methods.values():
        groups.setdefault(method.forward_key(), []).append(method)
    for members in groups.values():
        parts += scoring(members, total, arguments.images)
    parts.append(measuring(masked * len(methods)))
    for name, method in methods.items():
        if isinstance(method, TrainableMethod):
            parts += training(name, method, arguments.images)
    rows = [[p.name, p.count, p.unit, 1000 * (p.each or 0), (p.seconds or 0) / 60] for p in parts]
    result = result_of(__file__, arguments)
    result.table(
        f"Nine methods on 19 datasets, {total} test images: "
        f"{Forecast(parts).seconds / 3600:.1f} hours of one process",
        ["part", "count", "unit", "ms each", "minutes"],
        rows,
        ".3g",
    )
    result.write()


def test_images(dataset: type[Dataset]) -> int:
    """How many test images the official release has."""
    counts = dataset.total or dataset.expected()
    return (counts.test_normal or 0) + (counts.test_anomalous or 0)


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

        return Part("reading", count, "image", each=timed(read, torch.device("cpu")))


def scoring(members: list[Method], count: int, images: int) -> list[Part]:
    """One visual forward of methods that share it, and what each of them adds."""
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
            seconds = timed(lambda query=query, method=method: method.predict(query), device)
            parts.append(
                Part(f"{method.title}, its own part", count, "image", each=seconds / images)
            )
    return parts


def measuring(count: int, maps: int = 8) -> Part:
    """All pixel-level metrics of maps at 518 px, of which half have an anomalous square."""
    generator = np.random.default_rng(0)
    _, masks, _ = images_with_squares(maps, SIZE)
    scores = generator.random((maps, SIZE, SIZE), np.float32) + masks

    def measure() -> None:
        with PixelAccumulator() as pixels:
            pixels.update(masks, scores)
            pixels.result()

    seconds = timed(measure, torch.device("cpu"))
    return Part("pixel-level metrics of one map", count, "image", each=seconds / maps)


def training(name: str, method: TrainableMethod, images: int) -> list[Part]:
    """A method learns twice: from MVTec AD for all others, and from VisA for MVTec AD."""
    arrays, masks, labels = images_with_squares(2 * images)
    sources = memory_sources(method, passes(method), arrays, masks, labels, "object", images)
    config = TrainingConfig(epochs=1, batch_size=images, progress=Progress())
    seconds = timed(lambda: optimise(method, sources, config), method.backbone.device) / 2
    steps = 0
    for auxiliary in ("mvtec_ad", "visa"):
        learner = create(name, method.backbone, auxiliary=auxiliary)
        assert isinstance(learner, TrainableMethod)
        count = test_images(dataset_class(auxiliary))
        for stage in learner.stages():
            steps += count * stage.schedule.epochs
    return [Part(f"training of {method.title}, both times", steps, "image", each=seconds / images)]


if __name__ == "__main__":
    main()
