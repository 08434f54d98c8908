"""Two records and their baseline."""

import pytest
from zsad.bench.analysis.baseline import make_baseline


@pytest.fixture
def records(make_record):
    values = {"pcb1": {"image_auroc": 0.81234567, "pixel_pro": 0.5}, "pcb2": {"image_auroc": 0.7}}
    return [
        make_record("CLIP", "visa", values, protocol={"prompts_sha256": "aa"}),
        make_record("AnomalyCLIP", "btad", {"01": {"image_auroc": 0.9}}),
    ]


@pytest.fixture
def baseline(records):
    return make_baseline(records, "first numbers")
