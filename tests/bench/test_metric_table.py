"""The table of metrics names exactly what is computed and what the schema of records lists."""

import json
from dataclasses import fields
from pathlib import Path

import pytest
from zsad.bench.errors import UsageError
from zsad.bench.metric_table import (
    DEFAULT_METRICS,
    HEADLINES,
    LEVELS,
    METRICS,
    checked_metrics,
    chosen_metrics,
    of_level,
)
from zsad.bench.metrics import ImageMetrics, PixelMetrics
from zsad.bench.names import display_name

SCHEMA = Path(__file__).parents[2] / "docs/record.schema.json"


def test_table_lists_what_is_computed_in_the_same_order():
    computed = {"image": ImageMetrics, "pixel": PixelMetrics}

    for level in LEVELS:
        names = [field.name for field in fields(computed[level]) if field.name != "undefined"]
        assert list(of_level(level)) == names


def test_schema_lists_all_metrics():
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))

    result = schema["$defs"]["CategoryResult"]["properties"]
    assert list(result["metrics"]["properties"]) == [*METRICS]


def test_titles_tell_metrics_apart_and_each_level_has_a_pair():
    assert len({metric.title for metric in METRICS.values()}) == len(METRICS)
    assert [len(of_level(level, HEADLINES)) for level in LEVELS] == [2, 2]


def test_the_documentation_has_each_metric_with_its_source():
    page = (SCHEMA.parent / "metrics.md").read_text(encoding="utf-8")
    for metric in METRICS.values():
        assert f"`{display_name(metric.name)}`" in page
        assert metric.source in page


def test_what_scores_further_images_says_so_and_is_measured_by_name_only():
    further = {name for name, metric in METRICS.items() if metric.scores_further_images}
    assert further == {*METRICS} - {*DEFAULT_METRICS}
    assert further == {name for name in METRICS if "further images" in METRICS[name].definition}


def test_all_stands_for_what_is_measured_by_default():
    assert chosen_metrics([]) == chosen_metrics(["all"]) == DEFAULT_METRICS
    assert chosen_metrics(["pixel-segf1", "image-ap"]) == ("image_ap", "pixel_segf1")
    assert {*chosen_metrics(["all", "pixel-segf1"])} == {*DEFAULT_METRICS, "pixel_segf1"}


def test_hyphens_are_taken_as_underscores():
    assert checked_metrics(["pixel-pro", "image_ap"]) == ("pixel_pro", "image_ap")
    with pytest.raises(UsageError, match="did you mean pixel-pro"):
        checked_metrics(["pixel_prop"])
