"""The regression check works: deliberate faults move guarded metrics, harmless changes none.

Each fault patches one thing and reruns the method that it touches on the whole built-in set; the
verdict is that of `zsad check` against the committed baseline with its committed tolerances.
"""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from zsad.bench import anomaly_maps, prompts
from zsad.bench.analysis.baseline import read_baseline
from zsad.bench.analysis.regression import Finding, check_run
from zsad.bench.backbone import Backbone, TokenSpec
from zsad.bench.method import Method
from zsad.bench.records.record import read_records
from zsad.bench.running.plan import make_plan
from zsad.bench.running.runner import run
from zsad.datasets.synthetic import Synthetic
from zsad.methods import clip, faprompt, winclip

BASELINE = Path(__file__).parents[1] / "results" / "baselines" / "builtin.json"
METRIC_MOVED = ("dropped", "rose", "missing", "failed")
TRAINED = ("anomalyclip", "faprompt")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def learned(tmp_path_factory) -> Path:
    """Checkpoints of the trained methods, learned without any fault."""
    out = tmp_path_factory.mktemp("learned")
    run(make_plan(TRAINED, ["synthetic"], out=out, gallery=0))
    return out / "checkpoints"


def moved(out: Path, method: str, checkpoint: Path | None = None, **settings) -> list[Finding]:
    """The guarded numbers of a method that are not the baseline's."""
    table = {"name": method, "checkpoint": None if checkpoint is None else str(checkpoint)}
    plan = make_plan([table], ["synthetic"], out=out, gallery=0, **settings)
    run(plan)
    baseline = read_baseline(BASELINE)
    cells = {key: cell for key, cell in baseline.cells.items() if cell.cell["method"] == method}
    assert cells, f"the baseline does not guard {method}"
    verdict = check_run(read_records(out), dataclasses.replace(baseline, cells=cells))
    return [finding for finding in verdict.findings if finding.kind in METRIC_MOVED]


def checkpoint_of(learned: Path, method: str) -> Path | None:
    found = list(learned.glob(f"{method}--*.safetensors"))
    return found[0] if found else None


# -- the faults: each takes pytest's monkeypatch --------------------------------------------------


def prompts_swapped(patch):
    kept = prompts.PromptEnsemble.of
    patch.setattr(prompts.PromptEnsemble, "of", lambda self, name: kept(self, name).flip(0))


def state_words_emptied(patch):
    kept = prompts.fill
    patch.setattr(prompts, "fill", lambda t, states, name: kept(t, ["{}"] * len(states), name))


def wrong_class_name(patch):
    kept = prompts.PromptEnsemble.of
    patch.setattr(prompts.PromptEnsemble, "of", lambda self, name: kept(self, "carpet"))


def _other_tokens(patch, other):
    kept = Backbone.encode_image

    def encode(self, images, specs=()):
        features = kept(self, images, [other(spec) for spec in specs])
        tokens = {spec: features.tokens[other(spec)] for spec in specs}
        return dataclasses.replace(features, tokens=tokens)

    patch.setattr(Backbone, "encode_image", encode)


def value_attention_off(patch):
    _other_tokens(patch, lambda spec: TokenSpec(spec.layer))


def wrong_layer(patch):
    _other_tokens(patch, lambda spec: spec._replace(layer=spec.layer - 1))


def first_patches_instead_of_top(patch):
    def first(self, patches, probabilities):
        return patches[:, : self.options.n_selected].flatten(1)

    patch.setattr(faprompt.FaPrompt, "select", first)


def temperature_times_ten(patch):
    kept = anomaly_maps.state_probabilities
    patch.setattr(winclip, "state_probabilities", lambda v, t, tau: kept(v, t, 10 * tau))


def smoothing_doubled(patch):
    kept = Method.smoothing_sigma.fget
    patch.setattr(Method, "smoothing_sigma", property(lambda self: 2 * kept(self)))


def mask_threshold_wrong(patch):
    """What a threshold too low does to a mask with soft edges: one pixel more on every side."""
    kept = Synthetic.read

    def read(self, sample):
        reading = kept(self, sample)
        return dataclasses.replace(reading, mask=ndimage.binary_dilation(reading.mask))

    patch.setattr(Synthetic, "read", read)


def bilinear_corners_flipped(patch):
    def flipped(patch_map, grid, size, sigma):
        return anomaly_maps.smooth(anomaly_maps.upsample(patch_map, grid, size, True), sigma)

    patch.setattr(clip, "upsample_smoothed", flipped)


def deep_tokens_skipped(patch):
    kept = Backbone.encode_embeddings
    patch.setattr(
        Backbone,
        "encode_embeddings",
        lambda self, e, ends, deep_tokens=(), **how: kept(self, e, ends, **how),
    )


def layer_norm_skipped(patch):
    def project(self, tokens):
        return tokens @ self.visual.proj

    patch.setattr(Backbone, "project", project)


def optimiser_step_lost(patch):
    kept, calls = torch.optim.Adam.step, []

    def step(self, *arguments, **named):
        calls.append(1)
        return None if len(calls) == 1 else kept(self, *arguments, **named)

    patch.setattr(torch.optim.Adam, "step", step)


def class_token_with_layer_norm(patch):
    kept = Backbone.encode_image

    def encode(self, images, specs=()):
        features = kept(self, images, specs)
        return dataclasses.replace(features, class_token_no_ln=features.class_token)

    patch.setattr(Backbone, "encode_image", encode)


FAULTS = [
    ("clip", prompts_swapped),
    ("clip_ac", state_words_emptied),
    ("clip", wrong_class_name),
    ("anomalyclip", value_attention_off),
    ("clip", wrong_layer),
    ("faprompt", first_patches_instead_of_top),
    ("winclip", temperature_times_ten),
    ("clip", smoothing_doubled),
    ("clip", mask_threshold_wrong),
    ("clip", bilinear_corners_flipped),
    ("anomalyclip", deep_tokens_skipped),
    ("clip", layer_norm_skipped),
    ("anomalyclip", class_token_with_layer_norm),
]


@pytest.mark.parametrize(
    ("method", "fault"), FAULTS, ids=lambda value: getattr(value, "__name__", value)
)
def test_a_fault_moves_a_guarded_metric(method, fault, learned, tmp_path, monkeypatch):
    fault(monkeypatch)
    assert moved(tmp_path, method, checkpoint_of(learned, method))


def test_a_lost_optimiser_step_moves_a_guarded_metric(tmp_path, monkeypatch):
    optimiser_step_lost(monkeypatch)
    assert moved(tmp_path, "anomalyclip")


@pytest.mark.parametrize("method", ["clip", "anomalyclip"])
def test_another_batch_size_moves_none(method, learned, tmp_path):
    assert not moved(tmp_path, method, checkpoint_of(learned, method), batch_size=5)


@pytest.mark.parametrize("method", ["clip", "anomalyclip"])
def test_another_thread_count_moves_none(method, learned, tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(2 if threads == 1 else 1)
    try:
        assert not moved(tmp_path, method, checkpoint_of(learned, method))
    finally:
        torch.set_num_threads(threads)


def test_the_order_of_methods_moves_none(tmp_path):
    names = ["clip_ac", "clip"]
    for number, order in enumerate((names, names[::-1])):
        run(make_plan(order, ["synthetic"], out=tmp_path / str(number), gallery=0))
    first, second = (
        {r.cell.method: [c.metrics for c in r.categories] for r in read_records(tmp_path / n)}
        for n in ("0", "1")
    )
    assert first == second


def test_random_weights_know_nothing(tmp_path):
    """The built-in numbers come from the weights, not from the images."""
    run(make_plan(["clip"], ["synthetic"], out=tmp_path, gallery=0, pretrained="random"))
    (record,) = read_records(tmp_path)
    image = np.mean([c.metrics["image_auroc"] for c in record.categories])
    assert abs(image - 0.5) < 0.07


def test_every_two_methods_differ_in_guarded_numbers_by_more_than_their_tolerance():
    baseline = read_baseline(BASELINE)
    columns = {cell.cell["method"]: cell.categories for cell in baseline.cells.values()}
    assert len(columns) == 9
    limits = baseline.limits()
    for (first, one), (second, other) in itertools.combinations(columns.items(), 2):
        apart = [
            (category, metric)
            for category, metrics in one.items()
            for metric, value in metrics.items()
            if abs(value - other[category][metric]) > limits[metric]
        ]
        assert len(apart) >= 8, f"{first} and {second} differ in {apart} alone"
