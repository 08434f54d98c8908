"""Run as a script, this file is the training process that the kill test kills."""

import json
import logging
import math
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F
from zsad.bench import create, load_dataset
from zsad.bench.backbone import BackboneSpec, TokenSpec
from zsad.bench.checkpoint import read_header, read_payload, read_tensors
from zsad.bench.data.loading import load_batches
from zsad.bench.dataset import Dataset, Sample
from zsad.bench.errors import ContractError, DataError, Stopped, UsageError, WeightsError
from zsad.bench.method import Options, Prediction, Query, Schedule, TrainableMethod, build
from zsad.bench.metrics import auroc
from zsad.bench.progress import Progress
from zsad.bench.schedule import Position
from zsad.bench.training.augmentation import Draws
from zsad.bench.training.batches import CachedSource, DiskSource
from zsad.bench.training.feature_cache import FeatureCache
from zsad.bench.training.leakage import refuse_leakage
from zsad.bench.training.loop import epoch_means, optimise
from zsad.bench.training.optimisation import TrainingConfig
from zsad.bench.training.sources import cache_features, dataset_sources, memory_sources
from zsad.bench.training.stages import checked_stages
from zsad.bench.training.trainer import fit, train, train_method
from zsad.bench.weights import load_backbone
from zsad.datasets import _kinds as catalogue
from zsad.datasets import _synthetic as drawings
from zsad.datasets.synthetic_aux import SyntheticAux

CONFIG = {
    "embed_dim": 32,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "layers": 4, "width": 64, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
COUNT = 12
ADAM = Schedule(epochs=3, batch_size=5, lr=0.01)
PATCHES = TokenSpec(3, value_from=2)


@dataclass(frozen=True)
class ProbeOptions(Options):
    schedule: Schedule = ADAM
    layer: TokenSpec = PATCHES
    noise: float = 0.1
    map_side: int = 16


class Probe(TrainableMethod):
    """A linear layer on patch tokens, with noise of its own so that every generator matters."""

    title = "Probe"
    backbone_spec = BackboneSpec(image_size=32)
    variants: ClassVar = {"official": ProbeOptions()}

    def __init__(self, backbone, options=None):
        super().__init__(backbone, options)
        self.name = "probe"
        self.head = nn.Linear(backbone.width, 1)
        self.fixed = nn.Parameter(torch.ones(2), requires_grad=False)
        with torch.no_grad():
            self.head.weight.copy_(torch.linspace(-0.1, 0.1, backbone.width)[None])
            self.head.bias.zero_()

    @property
    def schedule(self):
        return self.options.schedule

    @property
    def token_specs(self):
        return frozenset({self.options.layer})

    @property
    def map_size(self):
        return self.options.map_side

    def _logits(self, query):
        return self.head(query.features.tokens[self.options.layer])[..., 0]  # [B, L]

    def predict(self, query):
        logits = self._logits(query)
        maps = logits.sigmoid().reshape(len(query), *query.features.grid)
        return Prediction(maps.flatten(1).amax(1), maps)

    def loss(self, query, labels, masks):
        logits = self._logits(query)
        if self.training:
            logits = logits + self.options.noise * torch.randn(logits.shape)
        truth = F.adaptive_max_pool2d(masks[:, None], query.features.grid).flatten(1)
        pixel = F.binary_cross_entropy_with_logits(logits, truth)
        image = F.binary_cross_entropy_with_logits(logits.amax(1), labels.float())
        return {"pixel": pixel, "image": image, "total": pixel + 0.5 * image}


class Flipper(Probe):
    """Flips images by chance while it learns."""

    def augment(self, images, masks, class_names, generator):
        flips = torch.rand(len(images), generator=generator) < 0.5
        images, masks = images.clone(), masks.clone()
        images[flips], masks[flips] = images[flips].flip(-1), masks[flips].flip(-1)
        return images, masks


class Mixer(Probe):
    """Puts the left half of another image of the class over an image, by way of mosaic partners."""

    mosaic_partners = 2

    def augment(self, images, masks, class_names, generator):
        self.seen = (len(images), list(class_names))
        count = len(images) // 3
        partners = torch.arange(count) * 2 + count
        images, masks = images.clone(), masks.clone()
        half = images.shape[-1] // 2
        images[:count, ..., :half] = images[partners, ..., :half]
        half = masks.shape[-1] // 2
        masks[:count, :, :half] = masks[partners, :, :half]
        return images, masks


class Squares(Dataset):
    """Grey noise; anomalous images have a bright square, which the mask marks."""

    name = "squares"
    title = "Squares"
    domain = "synthetic"

    def samples(self, split="test"):
        if split == "train":
            return []
        found = []
        for number in range(COUNT):
            label = number % 2
            mask = self.root / f"{number:02d}_mask.png" if label else None
            path = self.root / f"{number:02d}.png"
            found.append(Sample(path, label, "squares", "square", mask))
        return found


def draw_squares(root, seed=0):
    rng = np.random.default_rng(seed)
    root.mkdir(parents=True, exist_ok=True)
    images, masks, labels = [], [], []
    for number in range(COUNT):
        image = rng.integers(60, 120, (40, 40, 3), dtype=np.uint8)
        mask = np.zeros((40, 40), dtype=bool)
        if number % 2:
            top, left = rng.integers(2, 20, 2)
            mask[top : top + 12, left : left + 12] = True
            image[mask] = 250
            Image.fromarray(mask.astype(np.uint8) * 255).save(root / f"{number:02d}_mask.png")
        Image.fromarray(image).save(root / f"{number:02d}.png")
        images.append(image)
        masks.append(mask)
        labels.append(number % 2)
    return images, masks, labels


def small_backbone(folder, precision="fp32"):
    config = Path(folder) / "small.json"
    config.write_text(json.dumps(CONFIG))
    return load_backbone(config=config, pretrained="random", precision=precision)


@pytest.fixture
def backbone(tmp_path):
    return small_backbone(tmp_path)


@pytest.fixture
def arrays(tmp_path):
    return draw_squares(tmp_path / "squares")


@pytest.fixture
def squares(arrays, tmp_path):
    return Squares(tmp_path / "squares")


def shuffled(method, arrays, **config):
    """The history of fitting a method to arrays by any configuration."""
    sources = in_memory(method, *arrays, "square", config["batch_size"])
    return optimise(method, sources, TrainingConfig(**config)).history


def in_memory(method, *arrays):
    return memory_sources(method, checked_stages(method), *arrays)


def learned(method):
    return {name: tensor.clone() for name, tensor in method.learned_state().items()}


def assert_same_weights(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


# -- the loop -------------------------------------------------------------------------------------


def test_fit_tells_every_term_of_every_step(backbone, arrays):
    history = fit(Probe(backbone), *arrays, "square", epochs=2, batch_size=5)
    assert [entry["step"] for entry in history] == list(range(6))
    assert [entry["epoch"] for entry in history] == [0, 0, 0, 1, 1, 1]
    assert set(history[0]) == {"epoch", "step", "lr", "pixel", "image", "total"}
    for entry in history:
        assert entry["total"] == pytest.approx(entry["pixel"] + 0.5 * entry["image"], rel=1e-5)


def test_fit_equals_a_loop_written_out_by_hand(backbone, arrays):
    images, masks, labels = arrays
    quiet = ProbeOptions(noise=0.0, map_side=40)
    method, reference = Probe(backbone, quiet), Probe(backbone, quiet)
    history = fit(method, images, masks, labels, "square", epochs=2, batch_size=5)

    optimizer = torch.optim.Adam(reference.parameters(), lr=0.01, betas=(0.5, 0.999))
    totals = []
    for _ in range(2):
        for start in range(0, COUNT, 5):
            part = slice(start, start + 5)
            pixels = torch.stack(
                [reference.preprocess(Image.fromarray(image)) for image in images[part]]
            )
            query = type("Q", (), {"features": backbone.encode_image(pixels, [PATCHES])})
            truth = torch.from_numpy(np.stack(masks[part])).float()
            total = reference.loss(query, torch.tensor(labels[part]), truth)["total"]
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
            totals.append(total.item())
    assert [entry["total"] for entry in history] == pytest.approx(totals, rel=1e-6)
    for name, tensor in reference.learned_state().items():
        torch.testing.assert_close(method.learned_state()[name], tensor, rtol=1e-5, atol=1e-7)


def test_learning_lowers_the_loss_and_finds_the_squares(backbone, arrays):
    images, masks, _ = arrays
    method = Probe(backbone)
    before = fit(Probe(backbone), *arrays, "square", epochs=1, batch_size=12)[0]["total"]
    history = fit(method, *arrays, "square", epochs=60, batch_size=12)
    assert history[-1]["total"] < 0.5 * before
    pixels = torch.stack([method.preprocess(Image.fromarray(image)) for image in images])
    query = type("Q", (), {"features": backbone.encode_image(pixels, [PATCHES]), "__len__": len})
    with torch.no_grad():
        maps = method._logits(query).reshape(COUNT, 4, 4)
    truth = F.adaptive_max_pool2d(torch.from_numpy(np.stack(masks)).float()[:, None], 4)[:, 0] > 0
    assert maps[truth].mean() > maps[~truth].mean() + 1


def test_frozen_weights_and_parameters_stay_and_randomness_is_left_alone(backbone, arrays):
    before = {name: p.clone() for name, p in backbone.model.named_parameters()}
    method = Probe(backbone)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fit(method, *arrays, "square", epochs=2)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(method.fixed, torch.ones(2))
    assert not method.training
    assert all(torch.equal(p, before[name]) for name, p in backbone.model.named_parameters())
    assert all(p.grad is None for p in backbone.model.parameters())


def test_the_order_is_the_samples_own_or_shuffled_by_the_seed(backbone, arrays):
    quiet = ProbeOptions(noise=0.0)

    def totals(**how):
        history = shuffled(Probe(backbone, quiet), arrays, epochs=2, batch_size=5, **how)
        return [entry["total"] for entry in history]

    in_order = totals(shuffle=False)
    assert in_order == totals(shuffle=False, seed=9), "only shuffling and noise are random"
    assert totals(seed=9) == totals(seed=9)
    assert totals(seed=9) != totals(seed=10)
    assert totals(seed=9) != in_order


def test_learning_rates_follow_dassl():
    schedule = Schedule(epochs=4, lr=0.002, cosine=True, warmup_epochs=1, warmup_lr=1e-5)
    rates = [schedule.rate(Position(epoch, 4)) for epoch in range(4)]
    half = [0.5 * (1 + math.cos(math.pi * e / 4)) for e in range(3)]
    assert rates == pytest.approx([1e-5, *(0.002 * h for h in half)])
    assert Schedule(epochs=4, lr=0.1).rate(Position(3, 4)) == 0.1


def test_cosine_without_warmup_equals_torch():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.3)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 7)
    schedule = Schedule(epochs=7, lr=0.3, cosine=True)
    for epoch in range(7):
        assert schedule.rate(Position(epoch, 7)) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()


def test_sgd_steps_use_the_scheduled_rate_momentum_and_decay(backbone, arrays):
    schedule = Schedule(
        epochs=3, lr=0.2, optimizer="sgd", weight_decay=0.01, cosine=True, warmup_epochs=1
    )
    options = ProbeOptions(schedule=schedule, noise=0.0)
    method, reference = Probe(backbone, options), Probe(backbone, options)
    history = fit(method, *arrays, "square", epochs=None, batch_size=12)
    assert [entry["lr"] for entry in history] == pytest.approx([1e-5, 0.2, 0.15])

    optimizer = torch.optim.SGD(reference.parameters(), lr=1, momentum=0.9, weight_decay=0.01)
    (source,) = [batch_of(reference, arrays)]
    for rate in (1e-5, 0.2, 0.15):
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        reference.loss(source.query, source.labels, source.masks)["total"].backward()
        optimizer.step()
    torch.testing.assert_close(method.head.weight, reference.head.weight, rtol=1e-6, atol=1e-8)


def batch_of(method, arrays):
    (source,) = in_memory(method, *arrays, "square", 12)
    return next(source.batches(range(COUNT), COUNT, Draws(torch.Generator())))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_explodes_names_method_epoch_step_and_term(backbone, arrays, bad):
    class Exploding(Probe):
        steps = 0

        def loss(self, query, labels, masks):
            self.steps += 1
            terms = super().loss(query, labels, masks)
            return {**terms, "pixel": terms["pixel"] * bad} if self.steps == 5 else terms

    method = Exploding(backbone)
    with pytest.raises(ContractError, match=r"'probe', epoch 2, step 5: loss term 'pixel'"):
        fit(method, *arrays, "square", epochs=2, batch_size=3 + 1)
    assert not method.training


@pytest.mark.parametrize("relabels", [True, False])
def test_an_image_that_gets_a_defect_counts_as_anomalous_where_labels_follow(
    backbone, arrays, relabels
):
    class Marking(Probe):
        def augment(self, images, masks, class_names, generator):
            return images, torch.ones_like(masks)

    schedule = replace(ADAM, augments=True, relabels=relabels)
    batch = batch_of(Marking(backbone, ProbeOptions(schedule=schedule)), arrays)
    assert batch.labels.tolist() == ([1] * COUNT if relabels else list(arrays[2]))
    assert batch.masks.all()


class BeforeProjection(Probe):
    """Learns before `Backbone.project`."""

    def __init__(self, backbone, options=None):
        super().__init__(backbone, options)
        self.shift = nn.Parameter(torch.zeros(backbone.width))
        self.head = nn.Linear(backbone.embed_dim, 1)

    def _logits(self, query):
        tokens = query.features.tokens[self.options.layer] + self.shift
        return self.head(self.backbone.project(tokens))[..., 0]


def test_a_method_learns_in_front_of_the_projection(backbone, arrays):
    method = BeforeProjection(backbone)
    fit(method, *arrays, "square", epochs=1)
    assert (method.shift != 0).all()


class PartlyIdle(Probe):
    """One parameter has no path to the loss."""

    def __init__(self, backbone, options=None):
        super().__init__(backbone, options)
        self.unused = nn.Parameter(torch.ones(2))


class Cut(Probe):
    """No parameter has a path to the loss."""

    def _logits(self, query):
        return super()._logits(query).detach()


class SometimesUsed(Probe):
    """A parameter has a gradient in one step of the first epoch, and a zero one at that."""

    steps = 0

    def __init__(self, backbone, options=None):
        super().__init__(backbone, options)
        self.rare = nn.Parameter(torch.ones(2))

    def loss(self, query, labels, masks):
        self.steps += 1
        terms = super().loss(query, labels, masks)
        extra = 0 * self.rare.sum() if self.steps == 2 else 0
        return {**terms, "total": terms["total"] + extra}


@pytest.mark.parametrize(("cls", "named"), [(PartlyIdle, "'unused'"), (Cut, "'head.weight'")])
def test_a_parameter_without_a_gradient_in_the_first_epoch_is_named(
    backbone, squares, cache, tmp_path, cls, named
):
    path = tmp_path / "probe"
    with pytest.raises(ContractError, match=f"method 'probe': .*no gradient to {named}"):
        train_method(cls(backbone), squares, path, cache=cache)
    assert not path.exists() and not path.with_name("probe.state").exists()


def test_a_parameter_that_had_a_gradient_once_or_needs_none_is_accepted(backbone, arrays):
    fit(SometimesUsed(backbone), *arrays, "square", epochs=2, batch_size=5)
    method = PartlyIdle(backbone)
    method.unused.requires_grad_(False)
    fit(method, *arrays, "square")


def test_a_loss_without_a_total_or_with_a_vector_is_refused(backbone, arrays):
    class Totalless(Probe):
        def loss(self, query, labels, masks):
            return {"pixel": super().loss(query, labels, masks)["pixel"]}

    class Vector(Probe):
        def loss(self, query, labels, masks):
            return {"total": self._logits(query).mean(1)}

    with pytest.raises(ContractError, match="no term 'total' but pixel"):
        fit(Totalless(backbone), *arrays, "square")
    with pytest.raises(ContractError, match=r"'total' has shape \(8,\)"):
        fit(Vector(backbone), *arrays, "square")


def test_arrays_that_do_not_fit_are_refused(backbone, arrays):
    images, masks, labels = arrays
    method = Probe(backbone)
    with pytest.raises(UsageError, match="12 images, 11 masks"):
        fit(method, images, masks[1:], labels, "square")
    with pytest.raises(UsageError, match="labels are 0"):
        fit(method, images, masks, [2] * COUNT, "square")
    with pytest.raises(UsageError, match="image 0 is not a uint8"):
        fit(method, [i.astype(np.float32) for i in images], masks, labels, "square")
    with pytest.raises(UsageError, match="mask 0 has shape"):
        fit(method, images, [m[:5] for m in masks], labels, "square")
    with pytest.raises(UsageError, match="12 labels, 1 class names"):
        fit(method, images, masks, labels, ["square"])
    with pytest.raises(UsageError, match="must be positive"):
        fit(method, images, masks, labels, "square", epochs=0)
    with pytest.raises(UsageError, match="must be positive"):
        fit(method, images, masks, labels, "square", batch_size=0)
    with pytest.raises(UsageError, match="masks"):
        fit(method, images, None, labels, "square")
    with pytest.raises(UsageError, match="'clip' is training-free"):
        fit(create("clip", backbone), images, masks, labels, "square")


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_reduced_precision_learns_nearly_the_same(tmp_path, arrays, precision):
    exact = fit(Probe(small_backbone(tmp_path)), *arrays, "square", epochs=3)
    reduced = fit(Probe(small_backbone(tmp_path, precision)), *arrays, "square", epochs=3)
    assert [e["total"] for e in reduced] != [e["total"] for e in exact]
    assert [e["total"] for e in reduced] == pytest.approx([e["total"] for e in exact], rel=0.05)


# -- where batches come from ----------------------------------------------------------------------


def test_train_on_a_dataset_is_the_loop_of_fit(backbone, arrays, squares, cache, tmp_path):
    one, other = Probe(backbone), Probe(backbone)
    history = shuffled(one, arrays, epochs=3, batch_size=8, seed=4)
    training = train_method(
        other,
        squares,
        tmp_path / "probe.safetensors",
        TrainingConfig(seed=4, batch_size=8),
        cache=cache,
    )
    assert training.history == history
    assert_same_weights(learned(one), learned(other))


def test_every_image_passes_the_visual_tower_once_for_all_epochs_and_trainings(
    backbone, squares, cache, tmp_path
):
    train_method(
        Probe(backbone), squares, tmp_path / "a.safetensors", TrainingConfig(epochs=4), cache=cache
    )
    assert backbone.counter.images == COUNT
    train_method(
        Probe(backbone), squares, tmp_path / "b.safetensors", TrainingConfig(seed=2), cache=cache
    )
    assert backbone.counter.images == COUNT


def test_methods_that_share_a_forward_share_one_pass(backbone, squares, cache):
    shallow = Probe(backbone, ProbeOptions(layer=TokenSpec(1), map_side=8))
    deep = Probe(backbone)
    flipper = Flipper(backbone, ProbeOptions(schedule=replace(ADAM, augments=True)))
    sources = cache_features([shallow, flipper, deep], squares, squares.samples(), cache)
    assert backbone.counter.images == COUNT
    assert isinstance(sources[0], CachedSource)
    assert sources[1] is None
    for method, source in ((shallow, sources[0]), (deep, sources[2])):
        batch = next(source.batches([3, 0], 2, Draws(torch.Generator())))
        assert set(batch.query.features.tokens) == method.token_specs
        assert batch.masks.shape == (2, method.map_size, method.map_size)
        assert batch.labels.tolist() == [1, 0]
    assert backbone.counter.images == COUNT


def test_cached_and_recomputed_batches_are_equal(backbone, squares, cache):
    method = Probe(backbone)
    stages, config = method.stages(), TrainingConfig()
    (stored,) = dataset_sources(method, stages, squares, squares.samples(), cache, config)
    live = DiskSource(method, stages[0], squares, squares.samples())
    order = [7, 2, 9, 0, 11]
    for one, other in zip(
        stored.batches(order, 3, Draws(torch.Generator())),
        live.batches(order, 3, Draws(torch.Generator())),
        strict=True,
    ):
        torch.testing.assert_close(
            one.query.features.tokens[PATCHES],
            other.query.features.tokens[PATCHES],
            rtol=1e-5,
            atol=1e-5,
        )
        assert torch.equal(one.masks, other.masks)
        assert torch.equal(one.labels, other.labels)
        assert list(one.query.class_names) == list(other.query.class_names)


def test_half_precision_rounds_cached_and_recomputed_features_alike(backbone, squares, tmp_path):
    method = Probe(backbone)
    order, learned = [7, 2, 9], []
    for budget in (10**9, 100):  # room for the features, and none
        cache = FeatureCache(tmp_path / str(budget), "fp16", budget)
        samples, config = squares.samples(), TrainingConfig()
        (source,) = dataset_sources(method, method.stages(), squares, samples, cache, config)
        (batch,) = source.batches(order, 3, Draws(torch.Generator()))
        learned.append(batch.query.features.tokens[PATCHES])
    for tokens in learned:
        assert tokens.dtype == torch.float32
        assert torch.equal(tokens, tokens.half().float())
    torch.testing.assert_close(learned[0], learned[1], rtol=2e-3, atol=1e-5)


def test_features_that_do_not_fit_the_cache_are_computed_each_epoch(
    backbone, squares, cache, tmp_path, caplog
):
    kept = train_method(Probe(backbone), squares, tmp_path / "a.safetensors", cache=cache)
    backbone.counter.images = 0
    full = FeatureCache(tmp_path / "full", budget=100)
    with caplog.at_level(logging.WARNING):
        anew = train_method(Probe(backbone), squares, tmp_path / "b.safetensors", cache=full)
    assert "do not fit" in caplog.text
    assert backbone.counter.images == 3 * COUNT
    assert full.used() == 0
    totals = [[entry["total"] for entry in t.history] for t in (kept, anew)]
    assert totals[1] == pytest.approx(totals[0], rel=1e-5)


def test_a_method_that_augments_bypasses_the_cache(backbone, squares, cache, tmp_path):
    options = ProbeOptions(schedule=replace(ADAM, augments=True))
    runs = [
        train_method(
            Flipper(backbone, options),
            squares,
            tmp_path / f"{i}.safetensors",
            TrainingConfig(seed=s),
            cache=cache,
        )
        for i, s in enumerate((1, 1, 2))
    ]
    assert backbone.counter.images == 3 * 3 * COUNT
    assert cache.used() == 0
    assert runs[0].history == runs[1].history
    assert runs[0].history != runs[2].history
    plain = train_method(
        Probe(backbone),
        squares,
        tmp_path / "plain.safetensors",
        TrainingConfig(seed=1),
        cache=cache,
    )
    assert [e["total"] for e in plain.history] != [e["total"] for e in runs[0].history]


def test_fit_augments_as_train_does(backbone, arrays, squares, cache, tmp_path):
    options = ProbeOptions(schedule=replace(ADAM, augments=True))
    one, other = Flipper(backbone, options), Flipper(backbone, options)
    history = shuffled(one, arrays, epochs=3, batch_size=5, seed=4)
    training = train_method(
        other, squares, tmp_path / "f.safetensors", TrainingConfig(seed=4), cache=cache
    )
    assert training.history == history


def test_mosaic_partners_are_of_the_class_and_not_trained_on(backbone, arrays, squares):
    options = ProbeOptions(schedule=replace(ADAM, augments=True))

    class Two(Squares):
        def samples(self, split="test"):
            found = super().samples(split)
            return [replace(s, class_name="ab"[n // 6]) for n, s in enumerate(found)]

    two, order = Two(squares.root), [0, 7, 8, 3, 11]
    method = Mixer(backbone, options)
    disk = DiskSource(method, method.stages()[0], two, two.samples()).batches(
        order, 3, Draws(torch.Generator())
    )
    names = [sample.class_name for sample in two.samples()]
    (source,) = in_memory(method, *arrays, names, 3)
    memory = source.batches(order, 3, Draws(torch.Generator()))
    for size, expected in ((3, "abb"), (2, "ab")):
        one, other = next(disk), next(memory)
        assert method.seen == (3 * size, [*expected, *(n for n in expected for _ in range(2))])
        assert len(one.labels) == len(one.masks) == len(one.query) == size
        assert torch.equal(one.masks, other.masks)
        assert torch.equal(one.labels, other.labels)
        assert torch.equal(one.labels > 0, one.labels.bool() | one.masks.flatten(1).any(1))
        assert torch.equal(one.query.features.class_token, other.query.features.class_token)
    assert backbone.counter.images == 2 * len(order), "mosaic partners are never encoded"


def test_a_set_without_masks_cannot_be_learned_from(backbone, squares, cache, tmp_path):
    class Unmasked(Squares):
        has_masks = False

    with pytest.raises(DataError, match="'squares' lacks masks"):
        train_method(
            Probe(backbone), Unmasked(squares.root), tmp_path / "x.safetensors", cache=cache
        )
    assert not (tmp_path / "x.safetensors").exists()


def test_a_broken_image_is_named(backbone, squares, cache, tmp_path):
    (squares.root / "06.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"06\.png"):
        train_method(Probe(backbone), squares, tmp_path / "x.safetensors", cache=cache)


def test_a_method_that_reads_images_gets_them(backbone, arrays, squares, cache, tmp_path):
    class Looking(Probe):
        needs_images = True

        def loss(self, query, labels, masks):
            assert query.images.shape == (len(labels), 3, 32, 32)
            return super().loss(query, labels, masks)

    one, other = Looking(backbone), Looking(backbone)
    history = shuffled(one, arrays, epochs=1, batch_size=5)
    training = train_method(
        other, squares, tmp_path / "l.safetensors", TrainingConfig(epochs=1), cache=cache
    )
    assert [e["total"] for e in training.history] == pytest.approx([e["total"] for e in history])


# -- checkpoints ----------------------------------------------------------------------------------


def test_the_checkpoint_holds_the_learned_weights_and_how_they_came_about(
    backbone, squares, cache, tmp_path
):
    path = tmp_path / "deep" / "probe.safetensors"
    training = train_method(Probe(backbone), squares, path, TrainingConfig(seed=7), cache=cache)
    header = read_header(path)
    assert header["method"] == "probe"
    assert header["variant"] == "official"
    assert header["backbone"] == backbone.name
    assert header["weights_sha256"] == backbone.weights_sha256
    assert header["auxiliary"]["dataset"] == "squares"
    assert header["auxiliary"]["split"] == "test"
    assert header["auxiliary"]["fingerprint"] == squares.fingerprint("test")
    assert (header["epochs"], header["batch_size"], header["seed"]) == (3, 5, 7)
    assert header["loss"] == epoch_means(training.history)
    assert torch.__version__.startswith(header["environment"]["torch"])
    assert_same_weights(read_tensors(path), learned(training.method))
    assert not path.with_name("probe.safetensors.state").exists()

    fresh = Probe(backbone)
    fresh.load_learned(read_payload(path))
    assert_same_weights(learned(fresh), learned(training.method))


class Keeping(Probe):
    """A constant parameter, a running mean that is learned without a gradient, a fixed table."""

    def __init__(self, backbone, options=None):
        super().__init__(backbone, options)
        self.register_buffer("mean", torch.zeros(1))
        self.register_buffer("table", torch.ones(3), persistent=False)

    def loss(self, query, labels, masks):
        self.mean += query.features.class_token.mean()
        return super().loss(query, labels, masks)


def test_what_is_not_learned_is_neither_saved_nor_demanded_and_what_is_kept_is_both(
    backbone, squares, cache, tmp_path
):
    path = tmp_path / "probe.safetensors"
    learned_there = train_method(Keeping(backbone), squares, path, cache=cache).method
    assert set(read_payload(path)) == {"head.weight", "head.bias", "mean"}
    fresh = Keeping(backbone)
    assert fresh.load_learned(read_payload(path)) == ()
    assert fresh.mean != 0 and torch.equal(fresh.mean, learned_there.mean)
    assert fresh.parameter_counts()[1] == backbone.width + 1

    without = {name: t for name, t in read_payload(path).items() if name != "mean"}
    with pytest.raises(WeightsError, match="lacks the tensor 'mean'"):
        Keeping(backbone).load_learned(without)


def test_a_released_file_may_hold_the_constants_too(backbone):
    source, method = Keeping(backbone), Keeping(backbone)
    with torch.no_grad():
        source.fixed.fill_(7)
    released = {**source.learned_state(), "fixed": source.fixed.detach()}
    assert method.load_learned(released) == ()
    assert torch.equal(method.fixed, torch.full((2,), 7.0))
    with pytest.raises(WeightsError, match=r"'fixed' of 'probe' is \(3,\) in the checkpoint"):
        method.load_learned({**released, "fixed": torch.ones(3)})


def test_a_finished_training_is_loaded_and_another_one_is_not_overwritten(
    backbone, squares, cache, tmp_path
):
    path = tmp_path / "probe.safetensors"
    first = train_method(Probe(backbone), squares, path, cache=cache)
    again = train_method(Probe(backbone), squares, path, cache=cache)
    assert again.history == []
    assert again.seconds == first.provenance["seconds"]
    assert_same_weights(learned(again.method), learned(first.method))

    smoothed = Probe(backbone, ProbeOptions(smoothing_sigma=2.0))
    assert train_method(smoothed, squares, path, cache=cache).history == []

    with pytest.raises(UsageError, match="another training"):
        train_method(Probe(backbone), squares, path, TrainingConfig(seed=8), cache=cache)
    assert read_header(path)["seed"] == 111
    other = train_method(
        Probe(backbone),
        squares,
        path,
        TrainingConfig(seed=8),
        cache=cache,
        supersede=lambda *_: None,
    )
    assert read_header(path)["seed"] == 8
    assert len(other.history) == 9

    path.write_bytes(b"broken")
    with pytest.raises(WeightsError, match=r"probe\.safetensors"):
        train_method(Probe(backbone), squares, path, cache=cache)


def test_train_creates_the_method_by_name_and_the_checkpoint_loads(
    backbone, squares, cache, tmp_path
):
    path = tmp_path / "learned"
    options = {"epochs": 2}
    training = train(
        "AnomalyCLIP", squares, backbone, path, TrainingConfig(seed=3), options=options, cache=cache
    )
    assert [entry["epoch"] for entry in training.history] == [0, 0, 1, 1]
    fresh = create("anomalyclip", backbone, checkpoint=path)
    assert_same_weights(learned(fresh), learned(training.method))
    untrained = create("anomalyclip", backbone, seed=3)
    assert not torch.equal(learned(fresh)["ctx_pos"], learned(untrained)["ctx_pos"])
    with pytest.raises(UsageError, match="'clip' is training-free"):
        train("clip", squares, backbone, tmp_path / "x", cache=cache)


HELD_OUT = catalogue.VALIDATION_KINDS + catalogue.TEST_KINDS
FITS_ITS_CLASSES = "cocoop"  # its maps lose on other classes, more than its scores gain


class OtherPictures(SyntheticAux):
    """The auxiliary classes in pictures that no training sees."""

    name = "synthetic_other_pictures"
    per_kind = (12, 24)


class OtherClasses(drawings.DrawnDataset):
    """Every class that no training sees, with every kind of defect."""

    name = "synthetic_other_classes"
    title = "Other classes"
    kinds = HELD_OUT
    defects = tuple(drawings.DEFECTS)
    per_kind = (36, 36)


@pytest.fixture(scope="module")
def held_out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("held_out")
    return [OtherPictures.open(folder, seed=1), OtherClasses.open(folder)]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["anomalyclip", "april_gan", "cocoop", "coop", "faprompt"])
def test_learning_lowers_the_loss_and_lifts_metrics_on_what_was_held_out(name, held_out, tmp_path):
    exact, auxiliary = load_backbone("tiny", precision="fp64"), load_dataset("synthetic_aux")
    method = create(name, load_backbone("tiny"))
    sets = held_out[:1] if name == FITS_ITS_CLASSES else held_out
    before = [auroc_on(dataset, method) for dataset in sets]
    training = train(
        name, auxiliary, exact, tmp_path / "learned", cache=FeatureCache(tmp_path / "cache")
    )
    means = epoch_means(training.history)
    assert means[-1]["total"] < 0.95 * means[0]["total"]
    method.load_learned(training.method.learned_state())
    for dataset, untrained in zip(sets, before, strict=True):
        assert auroc_on(dataset, method) > untrained, dataset.name


def auroc_on(dataset, method):
    """The mean over categories of image-level and pixel-level AUROC together."""
    return sum(metrics_on(dataset.samples("test"), method, dataset).values())


def metrics_on(samples, method, dataset):
    """Mean AUROC over categories, image-level and pixel-level."""
    image, pixel = [], []
    for category in dict.fromkeys(sample.category for sample in samples):
        chosen = [sample for sample in samples if sample.category == category]
        labels, scores, maps, masks = [], [], [], []
        for batch in load_batches(dataset, chosen, method.preprocess, method.map_size):
            features = method.backbone.encode_image(batch.images, method.token_specs)
            with torch.no_grad():
                prediction = method.predict(Query(features, batch.class_names))
            labels.append(batch.labels)
            scores.append(prediction.scores)
            maps.append(prediction.maps.flatten())
            masks.append(batch.masks.flatten())
        image.append(auroc(torch.cat(labels).numpy(), torch.cat(scores).numpy()))
        pixel.append(auroc(torch.cat(masks).numpy(), torch.cat(maps).numpy()))
    return {"image": float(np.mean(image)), "pixel": float(np.mean(pixel))}


# -- going on after a stop ------------------------------------------------------------------------


class Slow(Progress):
    def check(self):
        time.sleep(0.05)


@pytest.mark.parametrize("augments", [False, True])
def test_a_stopped_training_goes_on_and_ends_in_the_same_bits(
    backbone, squares, cache, tmp_path, augments, stop_at
):
    options = ProbeOptions(schedule=replace(ADAM, augments=augments))
    cls = Flipper if augments else Probe
    whole = train_method(cls(backbone, options), squares, tmp_path / "whole", cache=cache)
    path = tmp_path / "stopped"
    with pytest.raises(Stopped):
        train_method(
            cls(backbone, options),
            squares,
            path,
            TrainingConfig(progress=stop_at(5 + 3)),
            cache=cache,
        )
    assert not path.exists()
    assert path.with_name("stopped.state").exists()

    resumed = train_method(cls(backbone, options), squares, path, cache=cache)
    assert resumed.history == whole.history
    assert_same_weights(learned(resumed.method), learned(whole.method))
    assert sorted(p.name for p in tmp_path.glob("*stopped*")) == ["stopped"]


def test_a_state_of_another_training_is_left_alone(
    backbone, squares, cache, tmp_path, caplog, stop_at
):
    path = tmp_path / "probe"
    with pytest.raises(Stopped):
        train_method(
            Probe(backbone), squares, path, TrainingConfig(progress=stop_at(7)), cache=cache
        )
    with caplog.at_level(logging.WARNING):
        other = train_method(Probe(backbone), squares, path, TrainingConfig(seed=2), cache=cache)
    assert "another training" in caplog.text
    clean = train_method(
        Probe(backbone), squares, tmp_path / "clean", TrainingConfig(seed=2), cache=cache
    )
    assert other.history == clean.history


@pytest.mark.parametrize("damage", ["cut", "garbage", "trap"])
def test_a_broken_state_means_starting_anew(
    backbone, squares, cache, tmp_path, caplog, damage, stop_at
):
    path = tmp_path / "probe"
    state = tmp_path / "probe.state"
    with pytest.raises(Stopped):
        train_method(
            Probe(backbone), squares, path, TrainingConfig(progress=stop_at(7)), cache=cache
        )
    if damage == "cut":
        state.write_bytes(state.read_bytes()[:-200])
    elif damage == "garbage":
        state.write_bytes(b"garbage")
    else:
        torch.save({"identity": Stopped}, state)
    with caplog.at_level(logging.WARNING):
        training = train_method(Probe(backbone), squares, path, cache=cache)
    assert "starting again" in caplog.text
    clean = train_method(Probe(backbone), squares, tmp_path / "clean", cache=cache)
    assert training.history == clean.history


def set_in(payload, path, value):
    """Replace one thing deep inside a training state; `path` names it with dots."""
    *way, last = path.split(".")
    for step in way:
        payload = payload[int(step) if step.isdigit() else step]
    payload[int(last) if last.isdigit() else last] = value


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("state", []),
        ("state.epoch", [1]),
        ("state.epoch", 99),
        ("state.step", "three"),
        ("state.seconds", None),
        ("state.history", 7),
        ("state.history.0", {"epoch": 0}),
        ("state.history.0.total", "much"),
        ("optimisation", 3),
        ("optimisation.method", {}),
        ("optimisation.method", None),
        ("optimisation.optimizer", []),
        ("optimisation.optimizer.state.0", "moments"),
        ("optimisation.optimizer.state.0.exp_avg", torch.zeros(3)),
        ("optimisation.optimizer.state.0.step", None),
        ("optimisation.optimizer.param_groups.0.betas", "fast"),
        ("optimisation.scaler", 3),
        ("optimisation.shuffling", torch.zeros(3)),
        ("optimisation.augmenting", "state"),
        ("optimisation.random", [1, 2]),
    ],
)
def test_a_state_with_a_wrong_part_leaves_nothing_of_itself_behind(
    backbone, squares, cache, tmp_path, caplog, path, value, stop_at
):
    out, state = tmp_path / "probe", tmp_path / "probe.state"
    with pytest.raises(Stopped):
        train_method(
            Probe(backbone), squares, out, TrainingConfig(progress=stop_at(7)), cache=cache
        )
    payload = torch.load(state, weights_only=True)
    if path.startswith("optimisation."):  # what is loaded before the wrong part must not stay
        payload["optimisation"]["method"]["head.weight"] += 5
    payload["state"]["history"] = json.loads(payload["state"]["history"])
    set_in(payload, path, value)
    if isinstance(payload["state"], dict):
        payload["state"]["history"] = json.dumps(payload["state"]["history"])
    torch.save(payload, state)
    with caplog.at_level(logging.WARNING):
        training = train_method(Probe(backbone), squares, out, cache=cache)
    assert str(state) in caplog.text
    clean = train_method(Probe(backbone), squares, tmp_path / "clean", cache=cache)
    assert training.history == clean.history
    assert_same_weights(learned(training.method), learned(clean.method))


def test_a_state_resumes_whichever_way_the_optimiser_computes(
    backbone, squares, cache, tmp_path, caplog, stop_at
):
    out, state = tmp_path / "probe", tmp_path / "probe.state"
    adam = ProbeOptions(schedule=ADAM)
    with pytest.raises(Stopped):
        train_method(
            Probe(backbone, adam), squares, out, TrainingConfig(progress=stop_at(7)), cache=cache
        )
    payload = torch.load(state, weights_only=True)
    assert payload["optimisation"]["optimizer"]["param_groups"][0]["fused"]
    set_in(payload, "optimisation.optimizer.param_groups.0.fused", None)
    torch.save(payload, state)
    before = payload["state"]["epoch"]
    with caplog.at_level(logging.WARNING):
        training = train_method(Probe(backbone, adam), squares, out, cache=cache)
    assert before and str(state) not in caplog.text
    clean = train_method(Probe(backbone, adam), squares, tmp_path / "clean", cache=cache)
    for epoch, other in zip(training.history, clean.history, strict=True):
        assert epoch == pytest.approx(other, rel=1e-5)


def test_a_killed_process_goes_on_and_ends_in_the_same_bits(backbone, squares, tmp_path):
    folder = tmp_path / "killed"
    folder.mkdir()
    command = [sys.executable, __file__, str(squares.root), str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([*command, "slow"], env=environment)
    state = folder / "probe.state"
    deadline = time.monotonic() + 60
    while not (state.exists() and epochs_in(state) >= 2):
        assert process.poll() is None, "the training ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait(timeout=30) == -signal.SIGKILL
    assert not (folder / "probe").exists()
    assert 2 <= epochs_in(state) < KILL_EPOCHS

    subprocess.run([*command, "fast"], env=environment, check=True, timeout=60)
    whole = tmp_path / "whole"
    whole.mkdir()
    subprocess.run([*command[:-1], str(whole), "fast"], env=environment, check=True, timeout=60)
    assert_same_weights(read_tensors(folder / "probe"), read_tensors(whole / "probe"))
    assert read_header(folder / "probe")["loss"] == read_header(whole / "probe")["loss"]


KILL_EPOCHS = 8


def epochs_in(state):
    return torch.load(state, weights_only=True)["state"]["epoch"]


def train_as_a_process(root, folder, pace):
    torch.set_num_threads(1)
    train_method(
        Probe(small_backbone(folder)),
        Squares(Path(root)),
        Path(folder) / "probe",
        TrainingConfig(epochs=KILL_EPOCHS, progress=Slow() if pace == "slow" else Progress()),
        cache=FeatureCache(Path(folder) / "cache"),
    )


# -- overlap --------------------------------------------------------------------------------------


class Others(Squares):
    name = "others"


class Own(Squares):
    name = "folder"
    domain = "custom"


def test_a_dataset_cannot_be_both_learned_from_and_tested_on(squares):
    with pytest.raises(UsageError, match="'squares' cannot be learned from and tested on"):
        refuse_leakage(squares, Squares(squares.root / "elsewhere"))


def test_sets_that_share_no_image_are_accepted(squares, tmp_path):
    draw_squares(tmp_path / "others", seed=1)
    refuse_leakage(squares, Others(tmp_path / "others"))
    draw_squares(tmp_path / "own", seed=2)
    refuse_leakage(Own(tmp_path / "own"), Own(tmp_path / "others"))


@pytest.mark.parametrize("how", ["same path", "link", "copy under another name"])
def test_a_shared_image_is_found_by_path_link_and_content(squares, tmp_path, how):
    other = tmp_path / "others"
    draw_squares(other, seed=1)
    if how == "same path":
        other = squares.root
    else:
        (other / "03.png").unlink()
        if how == "link":
            (other / "03.png").symlink_to(squares.root / "05.png")
        else:
            (other / "03.png").write_bytes((squares.root / "05.png").read_bytes())
    with pytest.raises(UsageError, match=r"share \d+ images .*05\.png|share .*0\d\.png"):
        refuse_leakage(squares, Others(other))
    with pytest.raises(UsageError, match="share"):
        refuse_leakage(Own(squares.root), Own(other))


def test_learning_from_the_train_split_of_the_target_is_refused(squares, tmp_path):
    class Target(Others):
        def samples(self, split="test"):
            mine = Squares(squares.root).samples("test")
            return mine[:3] if split == "train" else Squares(self.root).samples("test")

    draw_squares(tmp_path / "others", seed=1)
    with pytest.raises(UsageError, match="share 3 images"):
        refuse_leakage(squares, Target(tmp_path / "others"))


def test_train_refuses_a_target_that_overlaps(backbone, squares, cache, tmp_path):
    path = tmp_path / "probe"
    with pytest.raises(UsageError, match="cannot be learned from"):
        train_method(Probe(backbone), squares, path, cache=cache, target=Squares(squares.root))
    assert backbone.counter.images == 0


def test_the_whole_auxiliary_set_is_train_and_test(backbone, squares, cache, tmp_path):
    class Both(Squares):
        def samples(self, split="test"):
            found = super().samples("test")
            return found[:4] if split == "train" else found[4:]

    both = Both(squares.root)
    training = train_method(
        Probe(backbone), both, tmp_path / "a", TrainingConfig(epochs=1), cache=cache, split="all"
    )
    assert training.provenance["auxiliary"]["images"] == COUNT
    training = train_method(
        Probe(backbone), both, tmp_path / "b", TrainingConfig(epochs=1), cache=cache
    )
    assert training.provenance["auxiliary"]["images"] == COUNT - 4

    class Empty(Squares):
        def samples(self, split="test"):
            return []

    with pytest.raises(UsageError, match="no images in split"):
        train_method(Probe(backbone), Empty(squares.root), tmp_path / "c", cache=cache)


def test_a_method_without_parameters_is_refused(backbone, arrays):
    method = Probe(backbone).requires_grad_(False)
    with pytest.raises(UsageError, match="no parameters"):
        fit(method, *arrays, "square")


def test_initial_values_do_not_depend_on_what_other_threads_build(backbone):
    begun, disturbed, drawn = threading.Event(), threading.Event(), threading.Event()

    class Slow(Probe):
        def __init__(self, backbone, options=None):
            super().__init__(backbone, options)
            begun.set()
            disturbed.wait(0.3)  # until the other has drawn, if it can
            self.drawn = nn.Parameter(torch.randn(3))
            drawn.set()

    class Disturbing(Probe):
        def __init__(self, backbone, options=None):
            super().__init__(backbone, options)
            torch.randn(5)
            disturbed.set()
            drawn.wait(0.3)

    alone = build(Slow, backbone).drawn
    for event in (begun, drawn):
        event.clear()
    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(build, Slow, backbone)
        assert begun.wait(30)
        pool.submit(build, Disturbing, backbone)
        assert torch.equal(slow.result().drawn, alone)


def test_progress_shows_the_terms(backbone, arrays, capsys):
    method = Probe(backbone)
    config = TrainingConfig(
        epochs=2, batch_size=5, shuffle=False, seed=1, progress=Progress(bar=True)
    )
    optimise(method, in_memory(method, *arrays, "square", 5), config)
    shown = capsys.readouterr().err
    assert "epoch 2/2 total" in shown
    assert "pixel" in shown
    assert "6/6" in shown


if __name__ == "__main__":
    train_as_a_process(*sys.argv[1:])
