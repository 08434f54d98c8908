"""What caching frozen features and batching prompts buy, measured in one process.

1. Seconds of an epoch from cached features against the same loop with the visual encoder in it, and
   of its matrix products alone: were nothing else left of it, the ratio could rise so far.
2. Seconds of FAPrompt's `predict` per image with the prompts of all images in one text batch,
   against one prompt at a time: at the length that is needed, and at all 77 positions, which is
   how the released code runs its text tower.

    python benchmarks/training.py [--methods anomalyclip,faprompt] [--images 16] [--threads 1]
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial

import torch
from _backbone import add_arguments, backbone_of, images_with_squares
from _measure import timed
from _result import parser_of, result_of
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from zsad.bench import create
from zsad.bench.backbone import Backbone
from zsad.bench.blocks import attend, feed_forward
from zsad.bench.method import Query, TrainableMethod
from zsad.bench.options import DEFAULT_SEED
from zsad.bench.training.batches import ImageSource, MemorySource, Source
from zsad.bench.training.loop import optimise
from zsad.bench.training.optimisation import TrainingConfig
from zsad.bench.training.sources import memory_sources


class OneByOne(Backbone):
    """The same towers, but every prompt goes through the text tower alone."""

    whole_context = False

    def encode_embeddings(
        self,
        embeddings: Tensor,
        ends: Tensor,
        deep_tokens: Sequence[Tensor] = (),
        shared: int = 0,
        groups: int = 1,
        **_: object,
    ) -> Tensor:
        """Nothing is shared: what prompts begin with alike is computed for each of them."""
        encode = self._encode_whole if self.whole_context else super().encode_embeddings
        rows = zip(embeddings.split(1), ends.split(1), strict=True)
        parts = []
        for number, (row, end) in enumerate(rows):
            deep = [t.expand(len(ends), -1, -1)[number] for t in deep_tokens]
            parts.append(encode(row, end, deep))
        return torch.cat(parts)

    def _encode_whole(
        self, embeddings: Tensor, ends: Tensor, deep_tokens: Sequence[Tensor]
    ) -> Tensor:
        """All 77 positions, the padding after the end-of-text token too."""
        positions = self.text.positional_embedding
        x = F.pad(embeddings, (0, 0, 0, len(positions) - embeddings.shape[1])) + positions
        for number, block in enumerate(self.text.transformer.resblocks):
            if 1 <= number <= len(deep_tokens):
                deep = deep_tokens[number - 1].to(x.dtype).expand(len(x), -1, -1)
                x = torch.cat([x[:, :1], deep, x[:, 1 + deep.shape[1] :]], dim=1)
            x = feed_forward(block, x + attend(block, x, causal=True), self._activation)
        last = self.text.ln_final(x[torch.arange(len(x), device=x.device), ends])
        features: Tensor = last @ self.text.text_projection
        return features.float()


def one_by_one(method: TrainableMethod, whole_context: bool) -> TrainableMethod:
    """A method with the same parameters whose prompts are encoded one at a time."""
    backbone = copy.copy(method.backbone)
    backbone.__class__ = OneByOne
    backbone.whole_context = whole_context
    other = copy.copy(method)
    other.backbone = backbone
    return other


class Products(TorchDispatchMode):
    """Keeps the matrix products that are made inside, with what they multiply."""

    KINDS = (torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.bmm, torch.ops.aten.baddbmm)

    def __init__(self) -> None:
        super().__init__()
        self.made: list[Callable[[], object]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Make the product, or whatever else it is."""
        work = partial(func, *args, **(kwargs or {}))
        if func.overloadpacket in self.KINDS:
            self.made.append(work)
        return work()

    def again(self) -> None:
        """Make them all once more."""
        for product in self.made:
            product()


def epochs(method: TrainableMethod, count: int, batch_size: int) -> dict[str, float]:
    """Seconds of an epoch from the cache, of its products, of one with the encoder; to cache."""
    images, masks, labels = images_with_squares(count)
    device = method.backbone.device
    cached: list[Source] = []

    def cache() -> None:
        stages = method.stages()
        cached.extend(memory_sources(method, stages, images, masks, labels, "object", batch_size))

    to_cache = timed(cache, device)
    source = cached[0]
    if not isinstance(source, MemorySource):
        raise SystemExit(f"{method.name} augments images: nothing can be cached")
    (stage,) = method.stages()
    live = ImageSource(method, stage, images, masks, source.labels, source.class_names)
    config = TrainingConfig(epochs=1, batch_size=batch_size, shuffle=True, seed=DEFAULT_SEED)
    optimise(method, [source], config)  # the first steps allocate memory
    fast = timed(lambda: optimise(method, [source], config), device, repeats=3)
    slow = timed(lambda: optimise(method, [live], config), device)
    with Products() as products:
        optimise(method, [source], config)
    alone = timed(products.again, device, repeats=3)
    return {"cached": fast, "its products": alone, "with encoder": slow, "once, to cache": to_cache}


def _picture(image):
    from PIL import Image

    return Image.fromarray(image)


def predictions(method: TrainableMethod, count: int) -> dict[str, float]:
    """Seconds of `predict` per image for each way of encoding prompts."""
    images, _, _ = images_with_squares(count)
    pixels = torch.stack([method.preprocess(_picture(image)) for image in images])
    backbone = method.backbone
    query = Query.encoded(method, pixels, ["object"] * count)
    ways = {
        "all images' prompts in one batch": method,
        "one prompt at a time, needed length": one_by_one(method, whole_context=False),
        "one prompt at a time, 77 positions": one_by_one(method, whole_context=True),
    }
    seconds, answers = {}, []
    with torch.no_grad():
        for way, chosen in ways.items():
            answers.append(chosen.predict(query).scores)
            work = lambda chosen=chosen: chosen.predict(query)  # noqa: E731
            seconds[way] = timed(work, backbone.device, repeats=3) / count
    for other in answers[1:]:
        torch.testing.assert_close(other, answers[0], rtol=0, atol=1e-5)
    return seconds


def main() -> None:
    parser = parser_of(__doc__)
    add_arguments(parser)
    parser.add_argument("--methods", default="anomalyclip,faprompt")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    backbone = backbone_of(arguments)
    result = result_of(__file__, arguments)
    about = (
        f"{backbone.name} on {backbone.device}, {arguments.threads} threads, "
        f"{arguments.images} images of 518 px, batch {arguments.batch_size}"
    )
    rows = []
    for name in arguments.methods.split(","):
        method = create(name, backbone)
        epoch = epochs(method, arguments.images, arguments.batch_size)
        rows.append([method.title, *epoch.values()])
        fast, alone, slow, _ = epoch.values()
        what = f"{method.title}: an epoch with the encoder, against a cached one"
        result.ratio(what, slow / fast)
        result.ratio(f"{what}, were it products alone", 1 + (slow - fast) / alone)
    result.table(f"Seconds per epoch, {about}", ["method", *epoch], rows)
    seconds = predictions(create("faprompt", backbone), min(arguments.images, 8))
    rows = [[way, 1000 * value] for way, value in seconds.items()]
    result.table("FAPrompt, predict", ["prompts", "ms an image"], rows, ".1f")
    batched, *others = seconds.items()
    for way, value in others:
        result.ratio(f"FAPrompt: {way}, against {batched[0]}", value / batched[1])
    result.write()


if __name__ == "__main__":
    main()
