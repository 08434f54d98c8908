from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F
from zsad.bench.anomaly_maps import smooth, upsample
from zsad.bench.backbone import BackboneSpec, TokenSpec
from zsad.bench.checkpoint import read_header, read_payload
from zsad.bench.conformance import check_method
from zsad.bench.errors import ContractError, Stopped, UsageError, WeightsError
from zsad.bench.method import Prediction, Schedule, TrainableMethod
from zsad.bench.rows import Rows
from zsad.bench.training.optimisation import TrainingConfig
from zsad.bench.training.trainer import fit, train_method
from zsad.bench.weights import load_backbone

COUNT = 20


class Remembering(TrainableMethod):
    """Retrieves the label of the class tokens that it remembers; it has no parameters."""

    title = "Remembering"
    backbone_spec = BackboneSpec(image_size=32)
    remembered = ("memory.",)
    budget: ClassVar = 1 << 20

    def __init__(self, backbone, options=None):
        super().__init__(backbone, options)
        self.name = "remembering"
        self.memory = nn.Module()
        self.memory.register_buffer("keys", torch.zeros(0, backbone.embed_dim))
        self.memory.register_buffer("labels", torch.zeros(0, dtype=torch.int64))
        self.keys, self.truth = Rows(self.budget), Rows(self.budget)
        self.seen, self.domains = [], set()

    def stages(self):
        return ()

    @property
    def token_specs(self):
        return frozenset({TokenSpec(self.backbone.depth)})

    def remember(self, query, labels, masks):
        assert not torch.is_grad_enabled() and not self.training
        assert torch.equal(masks.flatten(1).any(1), labels > 0)
        self.seen += labels.tolist()
        self.domains |= set(query.domains)
        self.keys.add(F.normalize(query.features.class_token, dim=-1))
        self.truth.add(labels)

    def settle(self):
        self.memory.keys, self.memory.labels = self.keys.joined(), self.truth.joined()

    def _retrieved(self, queries):
        similarity = F.normalize(queries, dim=-1) @ self.memory.keys.T
        return similarity.softmax(-1) @ self.memory.labels.to(similarity.dtype)

    def predict(self, query):
        (tokens,) = query.features.tokens.values()
        patches = self._retrieved(self.backbone.project(tokens))
        maps = upsample(patches, query.features.grid, self.map_size)
        scores = self._retrieved(query.features.class_token)
        return Prediction(scores, smooth(maps, self.smoothing_sigma))


class Weighing(Remembering):
    """Learns a matrix before what it remembers."""

    schedule = Schedule(epochs=2, batch_size=4, lr=0.1)
    stages = TrainableMethod.stages

    def __init__(self, backbone, options=None):
        super().__init__(backbone, options)
        self.turn = nn.Parameter(torch.eye(backbone.embed_dim))

    def _retrieved(self, queries):
        return super()._retrieved(queries @ self.turn)

    def loss(self, query, labels, masks):
        scores = self._retrieved(query.features.class_token)
        return {"total": F.mse_loss(scores, labels.to(scores.dtype))}


@pytest.fixture
def arrays():
    random = np.random.default_rng(0)
    images = random.integers(60, 120, (COUNT, 40, 40, 3), dtype=np.uint8)
    mask = np.zeros((40, 40), dtype=bool)
    mask[10:30, 10:30] = True
    images[1::2, mask] = 250
    masks = [mask if n % 2 else np.zeros_like(mask) for n in range(COUNT)]
    return images, masks, [n % 2 for n in range(COUNT)]


def test_a_method_without_parameters_remembers_each_image_once(backbone, drawn, cache, tmp_path):
    path = tmp_path / "memory"
    training = train_method(Remembering(backbone), drawn, path, cache=cache)
    method = training.method
    assert method.seen == [0, 1] * (COUNT // 2)
    assert method.domains == {"synthetic"}
    assert training.history == [] and backbone.counter.images == COUNT
    header, payload = read_header(path), read_payload(path)
    assert (header["epochs"], header["parameters"], header["auxiliary"]["images"]) == (0, 0, COUNT)
    assert set(payload) == {"memory.keys", "memory.labels"}
    images = torch.stack([method.preprocess(Image.open(s.image_path)) for s in drawn.samples()])
    expected = F.normalize(backbone.encode_image(images).class_token, dim=-1)
    torch.testing.assert_close(payload["memory.keys"], expected)

    again = Remembering(backbone)
    assert again.load_learned(payload) == ()
    assert torch.equal(again.memory.labels, method.memory.labels)
    finished = train_method(Remembering(backbone), drawn, path, cache=cache)
    assert finished.method.seen == []
    assert torch.equal(finished.method.memory.keys, method.memory.keys)


def test_fit_remembers_likewise(backbone, arrays, drawn, cache, tmp_path):
    one, other = Remembering(backbone), Remembering(backbone)
    assert fit(one, *arrays, "c") == []
    assert one.domains == {"custom"}
    train_method(other, drawn, tmp_path / "memory", cache=cache)
    torch.testing.assert_close(one.memory.keys, other.memory.keys)
    assert not one.training


def test_a_stage_learns_in_front_of_the_memory_and_resumes_with_it(
    backbone, drawn, cache, tmp_path, stop_at
):
    whole = train_method(Weighing(backbone), drawn, tmp_path / "whole", cache=cache).method
    assert not torch.equal(whole.turn, torch.eye(backbone.embed_dim))
    assert len(whole.memory.keys) == COUNT
    config = TrainingConfig(progress=stop_at(3 + 7))  # batches of eight, then steps of four
    with pytest.raises(Stopped):
        train_method(Weighing(backbone), drawn, tmp_path / "stopped", config, cache=cache)
    resumed = train_method(Weighing(backbone), drawn, tmp_path / "stopped", cache=cache).method
    assert resumed.seen == [], "the state holds what is remembered"
    assert torch.equal(resumed.turn, whole.turn)
    assert torch.equal(resumed.memory.keys, whole.memory.keys)


class Closing(Weighing):
    """Remembers what it has learned to see."""

    remembers_last = True

    def remember(self, query, labels, masks):
        self.turned = self.turn.detach().clone()
        super().remember(query, labels, masks)

    def loss(self, query, labels, masks):
        assert not self.seen
        return {"total": ((query.features.class_token @ self.turn - 1) ** 2).mean()}


def test_what_is_remembered_last_is_seen_by_what_was_learned(
    backbone, drawn, cache, tmp_path, stop_at
):
    whole = train_method(Closing(backbone), drawn, tmp_path / "whole", cache=cache).method
    assert torch.equal(whole.turned, whole.turn) and len(whole.memory.keys) == COUNT
    config = TrainingConfig(progress=stop_at(10 + 2))  # in the pass after both epochs
    with pytest.raises(Stopped):
        train_method(Closing(backbone), drawn, tmp_path / "stopped", config, cache=cache)
    resumed = train_method(Closing(backbone), drawn, tmp_path / "stopped", cache=cache).method
    assert len(resumed.seen) == COUNT
    assert torch.equal(resumed.turn, whole.turn)
    assert torch.equal(resumed.memory.keys, whole.memory.keys)


def test_a_training_that_is_stopped_while_it_remembers_starts_again(
    backbone, drawn, cache, tmp_path, stop_at
):
    config = TrainingConfig(progress=stop_at(5))  # of three batches that fill the cache, two more
    with pytest.raises(Stopped):
        train_method(Remembering(backbone), drawn, tmp_path / "memory", config, cache=cache)
    assert not (tmp_path / "memory").exists()
    training = train_method(Remembering(backbone), drawn, tmp_path / "memory", cache=cache)
    assert len(training.method.seen) == COUNT


def test_rows_of_another_width_or_kind_are_no_memory(backbone):
    method = Remembering(backbone)
    rows = {"memory.keys": torch.zeros(3, 16), "memory.labels": torch.zeros(3, dtype=torch.int64)}
    method.load_learned(rows)
    assert method.memory.keys.shape == (3, 16)
    method.load_learned({name: tensor[:2] for name, tensor in rows.items()})
    assert method.memory.keys.shape == (2, 16)
    for wrong in (torch.zeros(3, 8), torch.zeros(3, 16, 1), torch.tensor(1.0)):
        with pytest.raises(WeightsError, match=r"'memory\.keys' of 'remembering' is"):
            method.load_learned({**rows, "memory.keys": wrong})
    assert method.memory.keys.shape == (2, 16)


def test_a_method_that_neither_learns_nor_remembers_is_refused(backbone, arrays):
    class Nothing(Remembering):
        remember = TrainableMethod.remember

    with pytest.raises(UsageError, match="'nothing-here' has nothing to learn"):
        method = Nothing(backbone)
        method.name = "nothing_here"
        fit(method, *arrays, "c")


@pytest.mark.parametrize("cls", [Remembering, Weighing])
def test_the_conformance_kit_passes_methods_that_remember(cls):
    check_method(cls, load_backbone("tiny"))


def test_the_conformance_kit_finds_a_memory_that_is_not_kept():
    class Forgetful(Remembering):
        def settle(self):
            self.kept = self.keys.joined(), self.truth.joined()

        def _retrieved(self, queries):
            if not hasattr(self, "kept"):
                return queries.sum(-1)
            keys, labels = self.kept
            return (queries @ keys.to(queries).T).softmax(-1) @ labels.to(queries)

    with pytest.raises(ContractError, match="keeps_its_state"):
        check_method(Forgetful, load_backbone("tiny"))


# -- rows -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", [0, 100, 1 << 20])
def test_rows_are_the_same_in_memory_and_in_files(tmp_path, budget):
    rows = Rows(budget, tmp_path)
    batches = [torch.randn(n, 3, 2) for n in (4, 1, 7)]
    expected = torch.cat(batches)
    for batch in batches:
        rows.add(batch)
        batch.zero_()  # what is kept is a copy
    assert torch.equal(rows.joined(), expected)
    assert len(rows) == 12 and len(list(rows.batches())) == 3
    assert rows.spilled == {0: 288, 100: 192, 1 << 20: 0}[budget]
    assert list(tmp_path.iterdir()) == []


def test_rows_of_two_kinds_or_none_are_refused():
    rows = Rows()
    with pytest.raises(ContractError, match="nothing was remembered"):
        rows.joined()
    rows.add(torch.zeros(2, 3))
    for wrong in (torch.zeros(2, 4), torch.zeros(2, 3, dtype=torch.float64)):
        with pytest.raises(ContractError, match="cannot be appended to rows"):
            rows.add(wrong)
