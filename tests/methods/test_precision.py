"""Every method computes in its backbone's precision, and single precision is enough to score."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from zsad.bench import create, load_backbone
from zsad.bench.method import Track, TrainableMethod
from zsad.bench.predict import predict_images
from zsad.bench.registry import method_class, names
from zsad.bench.training.trainer import fit

IMAGES = list(np.random.default_rng(0).integers(0, 255, (9, 96, 96, 3), dtype=np.uint8))
LEARNED = 3  # images; of the nine, every variant of MuSc can make a category
MASKS = np.zeros((LEARNED, 96, 96), bool)
MASKS[0, 10:40, 10:40] = True
LABELS = [1, 0, 0]
# Adam makes whole steps of gradients that are zero but for rounding, as those after saturated
# flows, and a score that is stretched to the range of a category stretches that too; MuSc's roots
# of small squared distances, AA-CLIP's maps, which reach 20, and RD4AD's sums over layers show more
# of the last bit.
TOLERANCE = {"bayes_pfl": 5e-3, "musc": 1e-4, "aa_clip": 1e-4, "rd4ad": 1e-4}
VARIANTS = [(name, variant) for name in names("method") for variant in method_class(name).variants]


@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_a_learning_step_and_a_prediction_in_double_precision_are_those_of_single(
    name, variant, small_options
):
    answers = []
    for precision in ("fp32", "fp64"):
        backbone = load_backbone("tiny", precision=precision)
        method = create(name, backbone, variant, **small_options(name))
        if isinstance(method, TrainableMethod):
            fit(method, IMAGES[:LEARNED], MASKS, LABELS, "part", batch_size=LEARNED)
        assert all(p.dtype == method.backbone.dtype for p in method.parameters())
        track = method.track_of(method.options)
        shown = IMAGES if track is Track.TRANSDUCTIVE else IMAGES[:LEARNED]
        references = IMAGES[LEARNED:7] if track.has_references else ()
        answers.append(predict_images(method, shown, "part", references=references))
    single, double = answers
    tolerance = TOLERANCE.get(name, 1e-5)
    torch.testing.assert_close(single.scores, double.scores, rtol=0, atol=tolerance)
    torch.testing.assert_close(single.maps, double.maps, rtol=0, atol=tolerance)
