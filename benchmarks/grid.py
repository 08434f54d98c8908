"""All methods that share a visual forward together, against each of them alone.

    python benchmarks/grid.py [--methods clip,clip-ac,coop,cocoop,anomalyclip,faprompt]
                              [--images 16] [--threads 1]

Together means: one visual forward per batch with the patch tokens of all, then each method's
`predict`. The counter says how often images and prompts really went through the towers.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

import torch
from _backbone import add_arguments, backbone_of, images_with_squares
from _result import parser_of, result_of
from PIL import Image
from torch import Tensor
from zsad.bench import create
from zsad.bench.method import Method, Query


def evaluate(methods: Sequence[Method], images: Tensor, batch_size: int) -> tuple[float, int, int]:
    """Seconds, and how many images and prompts went through the towers."""
    backbone = methods[0].backbone
    before = (backbone.counter.images, backbone.counter.prompts)
    specs = frozenset().union(*(method.token_specs for method in methods))
    started = time.perf_counter()
    with torch.no_grad():
        for part in images.to(backbone.device).split(batch_size):
            features = backbone.encode_image(part, specs)
            for method in methods:
                query = Query.of(method, features, ["object"] * len(part), part)
                prediction = method.predict(query)
                assert prediction.scores is not None
                prediction.scores.sum().item()
    seconds = time.perf_counter() - started
    return seconds, backbone.counter.images - before[0], backbone.counter.prompts - before[1]


def main() -> None:
    parser = parser_of(__doc__)
    add_arguments(parser)
    parser.add_argument("--methods", default="clip,clip-ac,coop,cocoop,anomalyclip,faprompt")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    backbone = backbone_of(arguments)
    methods = [create(name, backbone) for name in arguments.methods.split(",")]
    keys = {method.forward_key() for method in methods}
    if len(keys) > 1:
        raise SystemExit("these methods do not share a visual forward: choose others")
    arrays, _, _ = images_with_squares(arguments.images)
    images = torch.stack([methods[0].preprocess(Image.fromarray(array)) for array in arrays])

    groups = {method.title: [method] for method in methods}
    groups["all together"] = methods
    for members in groups.values():  # text features of class names are computed once and kept
        evaluate(members, images[:1], 1)
    runs: dict[str, list[tuple[float, int, int]]] = {title: [] for title in groups}
    for _ in range(arguments.repeats):  # by turns, so that a busy machine slows all alike
        for title, members in groups.items():
            runs[title].append(evaluate(members, images, arguments.batch_size))

    result = result_of(__file__, arguments)
    medians = {}
    rows = []
    for title, results in runs.items():
        medians[title] = statistics.median(seconds for seconds, _, _ in results)
        _, forwards, prompts = results[-1]
        each = medians[title] / arguments.images * 1e3
        rows.append([title, medians[title], each, forwards, prompts])
    result.table(
        f"{backbone.name} on {backbone.device}, {arguments.threads} threads, "
        f"{arguments.images} images of {images.shape[-1]} px, batch {arguments.batch_size}",
        ["methods", "seconds", "ms an image", "visual forwards", "prompts encoded"],
        rows,
    )
    together = medians.pop("all together")
    slowest = max(medians, key=lambda title: medians[title])
    result.ratio(f"all together against the slowest alone ({slowest})", together / medians[slowest])
    result.ratio("all together against the sum of all alone", together / sum(medians.values()))
    result.write()


if __name__ == "__main__":
    main()
