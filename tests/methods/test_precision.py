"""Every method computes in its backbone's precision, and single precision is enough to score."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from zsad.bench import create, load_backbone
from zsad.bench.method import TrainableMethod
from zsad.bench.predict import predict_images
from zsad.bench.registry import method_class, names
from zsad.bench.training.trainer import fit

IMAGES = list(np.random.default_rng(0).integers(0, 255, (3, 96, 96, 3), dtype=np.uint8))
MASKS = np.zeros((3, 96, 96), bool)
MASKS[0, 10:40, 10:40] = True
LABELS = [1, 0, 0]
VARIANTS = [(name, variant) for name in names("method") for variant in method_class(name).variants]


@pytest.mark.parametrize(("name", "variant"), VARIANTS, ids="-".join)
def test_a_learning_step_and_a_prediction_in_double_precision_are_those_of_single(name, variant):
    answers = []
    for precision in ("fp32", "fp64"):
        method = create(name, load_backbone("tiny", precision=precision), variant)
        if isinstance(method, TrainableMethod):
            fit(method, IMAGES, MASKS, LABELS, "part", batch_size=3)
        assert all(p.dtype == method.backbone.dtype for p in method.parameters())
        answers.append(predict_images(method, IMAGES, "part"))
    single, double = answers
    torch.testing.assert_close(single.scores, double.scores, rtol=0, atol=1e-5)
    torch.testing.assert_close(single.maps, double.maps, rtol=0, atol=1e-5)
