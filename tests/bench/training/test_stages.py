import itertools
import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from zsad.bench.anomaly_maps import smooth
from zsad.bench.backbone import BackboneSpec, TokenSpec
from zsad.bench.checkpoint import read_header, read_payload
from zsad.bench.conformance import check_method
from zsad.bench.errors import ContractError, Stopped, UsageError
from zsad.bench.method import Options, Prediction, Schedule, Stage, TrainableMethod
from zsad.bench.schedule import Position
from zsad.bench.training.optimisation import TrainingConfig
from zsad.bench.training.trainer import fit, train_method
from zsad.bench.weights import load_backbone

COUNT = 6
PATCHES = TokenSpec(2)
FIRST = Stage(Schedule(epochs=2, batch_size=4, lr=0.01), "head", learns=("head.",))
SECOND = Stage(
    Schedule(epochs=2, batch_size=3, lr=0.1, optimizer="sgd"), "shift", learns=("shift", "scale")
)


@dataclass(frozen=True)
class TwoStageOptions(Options):
    stages: tuple[Stage, ...] = (FIRST, SECOND)


class TwoStage(TrainableMethod):
    """A head, then an affine change after it that builds on what the head says of each class."""

    title = "Two stages"
    backbone_spec = BackboneSpec(image_size=32)
    variants: ClassVar = {"official": TwoStageOptions()}

    def __init__(self, backbone, options=None):
        super().__init__(backbone, options)
        self.name = "two_stage"
        self.head = nn.Linear(backbone.width, 1)
        self.shift = nn.Parameter(torch.zeros(1))
        self.scale = nn.Parameter(torch.ones(1))
        self.register_buffer("anchor", torch.zeros(1))
        self.begun = []
        with torch.no_grad():
            self.head.weight.copy_(torch.linspace(-0.1, 0.1, backbone.width)[None])
            self.head.bias.zero_()

    def stages(self):
        bound = {"head": self.head_loss, "shift": self.shift_loss}
        return [replace(s, loss=bound.get(s.name, s.loss)) for s in self.options.stages]

    def begin_stage(self, stage, class_names):
        self.begun.append((stage.name, list(class_names)))
        if stage.name == "shift":
            self.anchor.copy_(self.head.bias + 0.01 * torch.randn(1))

    @property
    def token_specs(self):
        return frozenset({PATCHES})

    @property
    def map_size(self):
        return 16

    def _logits(self, query):
        logits = self.head(query.features.tokens[PATCHES])[..., 0]
        return logits * self.scale + self.shift - self.anchor

    def predict(self, query):
        maps = self._logits(query).sigmoid().reshape(len(query), *query.features.grid)
        maps = F.interpolate(maps[:, None], self.map_size)[:, 0]
        maps = smooth(maps, self.smoothing_sigma)
        return Prediction(maps.flatten(1).amax(1), maps)

    def head_loss(self, query, labels, masks):
        assert not self.shift.requires_grad and self.head.weight.requires_grad
        logits = self._logits(query) + 0.1 * torch.randn(())
        truth = F.adaptive_max_pool2d(masks[:, None], query.features.grid).flatten(1)
        pixel = F.binary_cross_entropy_with_logits(logits, truth)
        return {"pixel": pixel, "total": pixel}

    def shift_loss(self, query, labels, masks):
        assert self.shift.requires_grad and not self.head.weight.requires_grad
        logits = self._logits(query).amax(1)
        image = F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))
        return {"image": image, "total": image}


@pytest.fixture
def arrays():
    random = np.random.default_rng(0)
    images = [random.integers(60, 120, (40, 40, 3), dtype=np.uint8) for _ in range(COUNT)]
    mask = np.zeros((40, 40), dtype=bool)
    mask[10:30, 10:30] = True
    for image in images[1::2]:
        image[mask] = 250
    masks = [mask if n % 2 else np.zeros_like(mask) for n in range(COUNT)]
    return images, masks, [n % 2 for n in range(COUNT)]


@pytest.fixture
def words():
    return ["a"] * 3 + ["b"] * 3


def method_of(backbone, *stages):
    return TwoStage(backbone, TwoStageOptions(stages=stages or (FIRST, SECOND)))


def learned(method):
    return {name: tensor.clone() for name, tensor in method.learned_state().items()}


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


# -- schedules ------------------------------------------------------------------------------------


def torch_rates(schedule, make, steps):
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=schedule.lr)
    reference = make(optimizer)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
    return rates


def rates(schedule, steps, per_epoch=3):
    epochs = steps // per_epoch
    return [schedule.rate(Position(n // per_epoch, epochs, n, steps)) for n in range(steps)]


def test_a_cosine_per_step_with_a_floor_equals_torch():
    schedule = Schedule(epochs=3, lr=0.3, cosine=True, per_step=True, floor=0.01)

    def make(optimizer):
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 9, eta_min=0.01)

    assert rates(schedule, 9) == pytest.approx(torch_rates(schedule, make, 9))
    assert len(set(rates(replace(schedule, per_step=False), 9))) == 3


def test_milestones_equal_torch():
    schedule = Schedule(epochs=3, lr=0.3, milestones=(2, 5, 5), gamma=0.5)

    def make(optimizer):
        return torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 5, 5], gamma=0.5)

    assert rates(schedule, 9) == pytest.approx(torch_rates(schedule, make, 9))


def test_a_rising_share_is_linear_from_nothing_and_the_cosine_begins_behind_it():
    schedule = Schedule(epochs=4, lr=0.8, cosine=True, per_step=True, rising_share=0.35)
    found = rates(schedule, 12)
    assert found[:4] == pytest.approx([0, 0.2, 0.4, 0.6])
    assert found[4:] == pytest.approx([0.4 * (1 + math.cos(math.pi * n / 8)) for n in range(8)])


@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_groups_have_rates_of_their_own_and_the_decay_of_their_optimiser(backbone, arrays, kind):
    schedule = Schedule(
        epochs=2,
        batch_size=COUNT,
        lr=0.01,
        optimizer=kind,
        weight_decay=0.1,
        rates={"head.bias": 0.5, "head": 0.02},
        milestones=(1,),
    )
    method = method_of(backbone, Stage(schedule, "all", loss=None))
    method.loss = lambda *_: {"total": sum((p**3).sum() for p in method.parameters())}
    with torch.no_grad():
        method.head.bias.fill_(0.3)
        method.shift.fill_(0.2)
    start = {name: p.detach().clone() for name, p in method.named_parameters()}
    history = fit(method, *arrays, "a", epochs=None, batch_size=None)
    assert [step["lr"] for step in history] == pytest.approx([0.01, 0.001])

    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    rate = {"head.bias": 0.5, "head.weight": 0.02, "shift": 0.01, "scale": 0.01}
    for name, value in start.items():
        parameter = nn.Parameter(value)
        optimizer = kinds[kind]([parameter], betas=(0.5, 0.999), weight_decay=0.1)
        for factor in (1, 0.1):
            optimizer.param_groups[0]["lr"] = rate[name] * factor
            optimizer.zero_grad()
            (parameter**3).sum().backward()
            optimizer.step()
        torch.testing.assert_close(dict(method.named_parameters())[name], parameter)


def test_a_header_states_of_a_schedule_what_it_stated_before_there_were_stages():
    assert set(Schedule(3).facts()) == {
        *("epochs", "batch_size", "lr", "optimizer", "betas", "momentum", "weight_decay"),
        *("cosine", "warmup_epochs", "warmup_lr", "augments"),
    }
    assert Schedule(3, floor=0.1, rates={"a": 1.0}).facts()["rates"] == {"a": 1.0}


# -- stages ---------------------------------------------------------------------------------------


def test_each_stage_learns_its_own_parameters_by_its_own_loss_and_length(backbone, arrays):
    method = method_of(backbone)
    names = ["b", "a", "a", "b", "b", "b"]
    history = fit(method, *arrays, names, epochs=None, batch_size=None)
    assert [entry["epoch"] for entry in history] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert [entry["step"] for entry in history] == list(range(8))
    assert [("pixel" in entry, "image" in entry) for entry in history] == (
        [(True, False)] * 4 + [(False, True)] * 4
    )
    assert [entry["lr"] for entry in history] == [0.01] * 4 + [0.1] * 4
    assert method.begun == [("head", ["a", "b"]), ("shift", ["a", "b"])]
    assert all(p.requires_grad for p in method.parameters())

    alone = method_of(backbone)
    alone.shift.requires_grad_(False)
    alone.scale.requires_grad_(False)
    alone.stages = lambda: [replace(FIRST, loss=alone.head_loss)]
    fit(alone, *arrays, names, epochs=None, batch_size=None)
    assert torch.equal(alone.head.weight, method.head.weight), "the second stage leaves it alone"
    assert method.shift != 0 and method.anchor != 0


def test_asked_lengths_are_those_of_each_stage(backbone, arrays):
    history = fit(method_of(backbone), *arrays, "a", epochs=3, batch_size=6)
    assert [entry["epoch"] for entry in history] == list(range(6))


@pytest.mark.parametrize("stop", range(1, 10))
def test_a_training_resumes_in_any_stage_and_ends_in_the_same_bits(
    backbone, drawn, cache, tmp_path, stop, stop_at
):
    whole = train_method(method_of(backbone), drawn, tmp_path / "whole", cache=cache)
    path = tmp_path / "stopped"
    config = TrainingConfig(progress=stop_at(stop))
    if stop < 9:
        with pytest.raises(Stopped):
            train_method(method_of(backbone), drawn, path, config, cache=cache)
    resumed = train_method(method_of(backbone), drawn, path, cache=cache)
    assert resumed.history == whole.history
    assert_same(learned(resumed.method), learned(whole.method))
    assert len(whole.method.begun) == 2
    header = read_header(path)
    assert header["epochs"] == 4
    assert [stage["name"] for stage in header["stages"]] == ["head", "shift"]
    assert set(read_payload(path)) == {"head.weight", "head.bias", "shift", "scale", "anchor"}


def test_other_stages_are_another_training(backbone, drawn, cache, tmp_path):
    train_method(method_of(backbone), drawn, tmp_path / "a", cache=cache)
    longer = replace(SECOND, schedule=replace(SECOND.schedule, lr=0.2))
    with pytest.raises(UsageError, match="another training"):
        train_method(method_of(backbone, FIRST, longer), drawn, tmp_path / "a", cache=cache)


def test_features_are_cached_for_the_stages_that_allow_it(backbone, drawn, cache, tmp_path):
    class Looking(TwoStage):
        """Its second loss reads images, and the first does not."""

        def head_loss(self, query, labels, masks):
            assert query.images is None
            return super().head_loss(query, labels, masks)

        def shift_loss(self, query, labels, masks):
            assert query.images.shape == (len(labels), 3, 32, 32)
            return super().shift_loss(query, labels, masks)

    live = replace(SECOND, needs_images=True)
    method = Looking(backbone, TwoStageOptions(stages=(FIRST, live)))
    train_method(method, drawn, tmp_path / "a", cache=cache)
    assert backbone.counter.images == COUNT + 2 * COUNT
    Looking.needs_images = True
    first = replace(FIRST, needs_images=False)
    method = Looking(backbone, TwoStageOptions(stages=(first, SECOND)))
    train_method(method, drawn, tmp_path / "b", cache=cache)
    assert backbone.counter.images == COUNT + 4 * COUNT


# -- faults ---------------------------------------------------------------------------------------


class Detached(TwoStage):
    """Its second stage learns a parameter that its loss does not depend on."""

    def _logits(self, query):
        logits = self.head(query.features.tokens[PATCHES])[..., 0]
        return logits * self.scale + self.shift.detach()


def test_a_parameter_without_a_gradient_in_its_stage_is_named(backbone, drawn, cache, tmp_path):
    method = Detached(backbone, TwoStageOptions())
    with pytest.raises(ContractError, match="no gradient to 'shift'.* of stage 'shift'"):
        train_method(method, drawn, tmp_path / "a", cache=cache)
    assert all(p.requires_grad for p in method.parameters())


class Rising(TwoStage):
    """The loss of its second stage rises whatever it learns."""

    counted = itertools.count()

    def shift_loss(self, query, labels, masks):
        steps = next(self.counted)
        return {"total": (steps + 0 * self.shift + 0 * self.scale).sum()}


def test_the_conformance_kit_finds_the_stage_that_does_not_learn():
    tiny = load_backbone("tiny")
    check_method(TwoStage, tiny)
    with pytest.raises(ContractError, match=r"learns: .*of stage 'shift'"):
        check_method(Detached, tiny)
    with pytest.raises(ContractError, match="does not lower its loss in stage 'shift'"):
        check_method(Rising, tiny)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ((FIRST,), "no stage learns 's"),
        ((FIRST, replace(SECOND, learns=("shift", "scale", "tail"))), "begins with 'tail'"),
        ((FIRST, replace(SECOND, name="head")), "two stages of one name"),
        (
            (FIRST, replace(SECOND, schedule=replace(SECOND.schedule, rates={"head": 1.0}))),
            "stage 'shift' has a name that begins with 'head'",
        ),
    ],
)
def test_stages_that_do_not_fit_the_parameters_are_refused(backbone, arrays, stages, message):
    with pytest.raises(ContractError, match=message):
        fit(method_of(backbone, *stages), *arrays, "a")


def test_a_method_without_schedule_or_loss_says_what_it_lacks(backbone, arrays):
    class Unscheduled(TwoStage):
        stages = TrainableMethod.stages

    with pytest.raises(ContractError, match="'two-stage' does not say how it is fitted"):
        fit(Unscheduled(backbone), *arrays, "a")
    with pytest.raises(ContractError, match="'two-stage' has no loss"):
        fit(method_of(backbone, Stage(Schedule(1), "all")), *arrays, "a")
