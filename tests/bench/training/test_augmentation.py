from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F
from zsad.bench.backbone import BackboneSpec, TokenSpec
from zsad.bench.errors import ContractError, DataError, Stopped
from zsad.bench.images import MaskRule, resize_mask
from zsad.bench.method import Options, Schedule, Stage, TrainableMethod
from zsad.bench.training.augmentation import Draws
from zsad.bench.training.batches import DiskSource
from zsad.bench.training.optimisation import TrainingConfig
from zsad.bench.training.sources import dataset_sources, memory_sources
from zsad.bench.training.trainer import fit, train_method

COUNT = 6
PATCHES = TokenSpec(2)
CHANGING = Schedule(epochs=2, batch_size=4, augments_images=True)


class Turning(TrainableMethod):
    """Turns image and mask by chance, and darkens the image by a factor of its own."""

    title = "Turning"
    backbone_spec = BackboneSpec(image_size=32)
    variants: ClassVar = {"official": Options()}
    schedule = CHANGING
    needs_images = True

    def __init__(self, backbone, options=None):
        super().__init__(backbone, options)
        self.name = "turning"
        self.head = nn.Linear(backbone.width, 1)
        nn.init.constant_(self.head.weight, 0.01)
        nn.init.zeros_(self.head.bias)

    @property
    def token_specs(self):
        return frozenset({PATCHES})

    def augment_image(self, image, mask, class_name, generator):
        turns = int(torch.randint(4, (1,), generator=generator))
        dark = float(torch.rand((), generator=generator))
        pixels = np.asarray(image.point(lambda value: int(value * dark)))
        return Image.fromarray(np.rot90(pixels, turns).copy()), np.rot90(mask, turns).copy()

    def predict(self, query):
        raise NotImplementedError

    def loss(self, query, labels, masks):
        logits = self.head(query.features.tokens[PATCHES])[..., 0]
        truth = F.adaptive_max_pool2d(masks[:, None], query.features.grid).flatten(1)
        return {"total": F.binary_cross_entropy_with_logits(logits, truth)}


@pytest.fixture
def arrays():
    """White images with a black corner where the mask is, whatever way they are turned."""
    images = np.full((COUNT, 48, 40, 3), 255, dtype=np.uint8)
    mask = np.zeros((48, 40), dtype=bool)
    mask[:20, :20] = True
    images[1::2, mask] = 0
    masks = [mask if n % 2 else np.zeros_like(mask) for n in range(COUNT)]
    return images, masks, [n % 2 for n in range(COUNT)]


def seen(method, drawn, order=range(COUNT), batch_size=4, workers=0, seed=1, epoch=0):
    """Sample -> the image and the mask that a training sees of it."""
    (stage,) = method.stages()
    source = DiskSource(method, stage, drawn, drawn.samples(), workers)
    found = {}
    left = list(order)
    for batch in source.batches(left, batch_size, Draws(torch.Generator(), seed, epoch)):
        for image, mask in zip(batch.query.images, batch.masks, strict=True):
            found[left[len(found)]] = (image, mask)
    return found


def same(one, other):
    return all(
        torch.equal(a, b) for n in range(COUNT) for a, b in zip(one[n], other[n], strict=True)
    )


@pytest.mark.parametrize(
    "how", [{"order": [5, 3, 1, 0, 2, 4]}, {"batch_size": 1}, {"workers": 2, "batch_size": 3}]
)
def test_a_change_depends_on_neither_order_nor_batch_nor_worker(backbone, drawn, how):
    method = Turning(backbone)
    assert same(seen(method, drawn), seen(method, drawn, **how))


@pytest.mark.parametrize("how", [{"seed": 2}, {"epoch": 1}])
def test_every_seed_and_epoch_has_changes_of_its_own(backbone, drawn, how):
    method = Turning(backbone)
    first, other = seen(method, drawn), seen(method, drawn, **how)
    assert sum(torch.equal(first[n][0], other[n][0]) for n in range(COUNT)) == 0
    assert len({float(image.max()) for image, _ in first.values()}) == COUNT


def test_image_and_mask_are_changed_together_before_they_are_resized(backbone, drawn):
    images = seen(Turning(backbone), drawn)
    corners = set()
    for number in range(1, COUNT, 2):
        image, mask = images[number]
        assert torch.equal(image[0] < (image[0].max() + image[0].min()) / 2, mask > 0.5)
        corners.add((int(mask[0, 0]), int(mask[0, -1])))
    assert len(corners) > 1, "the drawings are turned in different ways"


def test_a_label_stays_where_the_mask_leaves_the_image(backbone, drawn):
    class Erasing(Turning):
        def augment_image(self, image, mask, class_name, generator):
            return image, np.zeros_like(mask)

    method = Erasing(backbone)
    source = DiskSource(method, method.stages()[0], drawn, drawn.samples())
    (batch,) = source.batches(range(COUNT), COUNT, Draws(torch.Generator()))
    assert batch.labels.tolist() == [0, 1] * (COUNT // 2)
    assert not batch.masks.any()


def test_fit_changes_arrays_likewise(backbone, arrays):
    method = Turning(backbone)
    (source,) = memory_sources(method, method.stages(), *arrays, "c", 4)
    draws = Draws(torch.Generator(), 1, 0)
    whole = [batch.query.images for batch in source.batches(range(COUNT), 4, draws)]
    singly = [batch.query.images for batch in source.batches(range(COUNT), 1, draws)]
    assert torch.equal(torch.cat(whole), torch.cat(singly))
    history = fit(method, *arrays, "c", epochs=3, batch_size=COUNT)
    assert len({step["total"] for step in history}) == 3


def test_a_training_that_resumes_sees_the_same_changes(backbone, drawn, cache, tmp_path, stop_at):
    whole = train_method(Turning(backbone), drawn, tmp_path / "whole", cache=cache)
    config = TrainingConfig(progress=stop_at(3))
    with pytest.raises(Stopped):
        train_method(Turning(backbone), drawn, tmp_path / "stopped", config, cache=cache)
    resumed = train_method(Turning(backbone), drawn, tmp_path / "stopped", cache=cache)
    assert resumed.history == whole.history
    assert cache.used() == 0
    still = Turning(backbone)
    still.schedule = replace(CHANGING, augments_images=False)
    other = train_method(still, drawn, tmp_path / "still", cache=cache)
    assert other.history != whole.history


def test_only_the_stage_that_changes_images_reads_them_each_epoch(backbone, drawn, cache, tmp_path):
    class Later(Turning):
        needs_images = False

        def stages(self):
            first = replace(CHANGING, augments_images=False)
            return [Stage(first, "still"), Stage(CHANGING, "changing")]

    train_method(Later(backbone), drawn, tmp_path / "a", cache=cache)
    assert backbone.counter.images == COUNT + 2 * COUNT


@pytest.mark.parametrize("answer", ["grey", "array", "size", "numbers"])
def test_a_change_that_does_not_fit_is_refused(backbone, arrays, drawn, cache, tmp_path, answer):
    class Odd(Turning):
        def augment_image(self, image, mask, class_name, generator):
            return {
                "grey": (image.convert("L"), mask),
                "array": (np.asarray(image), mask),
                "size": (image, mask[1:]),
                "numbers": (image, mask.astype(float)),
            }[answer]

    with pytest.raises(ContractError, match="'turning': augment_image gives an RGB image"):
        fit(Odd(backbone), *arrays, "c")
    with pytest.raises((ContractError, DataError), match="augment_image gives"):
        train_method(Odd(backbone), drawn, tmp_path / "a", cache=cache)


@pytest.mark.parametrize("rule", [None, "nearest"])
def test_masks_are_resized_as_the_training_wants_them(backbone, arrays, drawn, cache, rule):
    class Still(Turning):
        needs_images = False
        mask_resize = rule
        schedule = Schedule(epochs=1)

    method, live = Still(backbone), Turning(backbone)
    mask = np.zeros((48, 40), dtype=bool)
    mask[5::7, 3::5] = True  # lines that only the nearest pixel keeps
    Image.fromarray(mask.astype(np.uint8) * 255).save(drawn.root / "m.png")
    expected = torch.from_numpy(resize_mask(mask, 32, MaskRule(resize=rule or "official"))[0] * 1.0)
    arrays = arrays[0], [mask] * COUNT, [1] * COUNT
    assert bool(expected.any()) == (rule == "nearest")
    (stored,) = dataset_sources(
        method, method.stages(), drawn, drawn.samples(), cache, TrainingConfig()
    )
    (memory,) = memory_sources(method, method.stages(), *arrays, "c", 4)
    live.mask_resize, live.augment_image = rule, lambda image, mask, *_: (image, mask)
    sources = [
        stored,
        memory,
        *dataset_sources(live, live.stages(), drawn, drawn.samples(), cache, TrainingConfig()),
        *memory_sources(live, live.stages(), *arrays, "c", 4),
    ]
    for source in sources:
        batch = next(source.batches([1], 1, Draws(torch.Generator())))
        assert torch.equal(batch.masks[0], expected.float())
