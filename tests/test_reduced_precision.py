"""Lower precisions of the visual forward move the built-in numbers by a bounded amount.

Trained methods learn once, in a short schedule, and are scored in each precision.
`benchmarks/precision.py` prints what moves after whole trainings.
"""

from __future__ import annotations

import pytest
import torch
from zsad.bench import load_run
from zsad.bench.running.plan import make_plan
from zsad.bench.running.runner import run
from zsad.methods.faprompt import FaPrompt

QUICK = ("clip", "clip-ac")
LEARNING = ("april-gan", "coop", "cocoop", "anomalyclip", "faprompt")
SLOW = ("winclip", "anovl")  # windows and views of their own, so on fewer images
FEW = 4  # of each category and label
# Points that the mean of a dataset may move, over all metrics.
ALLOWED = {"fp16": 0.1, "bf16": 0.5, "tf32": 0.05}
IMAGE_METRICS = ("image_auroc", "image_ap", "image_f1max")
PIXEL_METRICS = ("pixel_auroc", "pixel_ap", "pixel_f1max", "pixel_pro", "pixel_pro_official200")
# What one image that changes places adds to a mean: on a GPU to image F1, and where images are few.
STEP = {"image_f1max": 0.15}
STEP_OF_FEW = dict.fromkeys(IMAGE_METRICS, 100 / 6 / FEW**2)
KEYS = ["method", "dataset", "category", "metric"]


def scored(methods, out, precision="fp32", device="cpu", **settings):
    """Every metric of every category, in points."""
    how = {"precision": precision, "device": device, "gallery": 0, **settings}
    run(make_plan(methods, ["synthetic"], out=out, **how))
    return load_run(out).set_index(KEYS).value * 100


def moves(found, exact):
    """How far the means of the dataset moved, by method and metric of the paper's tables."""
    assert len(found) == len(exact) > 0
    chosen = exact.index.get_level_values("metric").isin(IMAGE_METRICS + PIXEL_METRICS)
    exact, found = exact[chosen], found.reindex(exact[chosen].index)
    assert ((found - exact).abs().groupby("method").max() > 0).all()  # another precision at work
    return (found - exact).groupby(["method", "metric"]).mean().abs()


def assert_bounded(moved, precision, steps=None):
    """Means of the dataset, by method and metric, are within the bound of a precision.

    Args:
        moved: see `moves`.
        precision: of `ALLOWED`.
        steps: metric -> what it may move where its smallest step is above the bound.
    """
    allowed = ALLOWED[precision]
    bounds = [max(allowed, (steps or {}).get(metric, 0)) for _, metric in moved.index]
    over = moved[moved > bounds]
    assert over.empty, over.to_string()


class Selections:
    """What FAPrompt selects in one run, given back in others.

    It reads its ten patches in the order of their anomaly. Where that order nearly ties, any
    rounding changes the prompts of an image by a fifth of their length.
    """

    def __init__(self, patch):
        self._own, self._patch, self._kept = FaPrompt.select, patch, []
        patch.setattr(FaPrompt, "select", lambda *given: self._keep(*given))

    def _keep(self, method, patches, probabilities):
        index = probabilities.topk(method.options.n_selected, dim=1).indices
        if not torch.is_grad_enabled():
            self._kept.append(index)
        selected = self._own(method, patches, probabilities)
        assert torch.equal(selected, patches.take_along_dim(index[..., None], dim=1).flatten(1))
        return selected

    def again(self):
        """From here on patches are selected as they were first."""
        kept = iter(self._kept)

        def select(method, patches, probabilities):
            return patches.take_along_dim(next(kept)[..., None], dim=1).flatten(1)

        self._patch.setattr(FaPrompt, "select", select)


@pytest.fixture(scope="module")
def selections():
    with pytest.MonkeyPatch.context() as patch:
        yield Selections(patch)


@pytest.fixture(scope="module")
def exact(selections, tmp_path_factory):
    """Methods by name or with what they have learned, and their metrics in single precision."""
    out = tmp_path_factory.mktemp("exact")
    short = [{"name": name, "options": {"epochs": 1}} for name in LEARNING]
    values = scored([*QUICK, *short], out, auxiliary_limit=4)
    files = [next(out.glob(f"checkpoints/{n.replace('-', '_')}--*.safetensors")) for n in LEARNING]
    learned = [
        {"name": name, "checkpoint": str(file)} for name, file in zip(LEARNING, files, strict=True)
    ]
    return [*QUICK, *learned], values


@pytest.fixture(scope="module")
def exact_of_few(tmp_path_factory):
    return scored(SLOW, tmp_path_factory.mktemp("few"), limit=FEW)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precisions_move_no_mean_of_shared_features_far(
    exact, selections, tmp_path, precision
):
    methods, values = exact
    selections.again()
    assert_bounded(moves(scored(methods, tmp_path, precision), values), precision)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precisions_move_no_mean_of_windows_and_views_far(exact_of_few, tmp_path, precision):
    moved = moves(scored(SLOW, tmp_path, precision, limit=FEW), exact_of_few)
    assert_bounded(moved, precision, STEP_OF_FEW)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("precision", sorted(ALLOWED))
def test_precisions_of_a_gpu_move_no_mean_far(tmp_path, precision):
    single = scored(QUICK, tmp_path / "fp32", device="cuda")
    found = scored(QUICK, tmp_path / precision, precision, "cuda")
    assert_bounded(moves(found, single), precision, STEP)
