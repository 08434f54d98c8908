"""Evaluation logs with what the schema of Every Eval Ever asks for.

The package itself needs Python 3.12: `tox -e every-eval-ever` runs its validator on them.
"""

import json
import subprocess
import sys
import uuid

import pytest
from zsad.bench.analysis.resampling import Settings
from zsad.bench.errors import UsageError
from zsad.bench.export.every_eval_ever import Publisher, write_logs
from zsad.bench.metric_table import METRICS

SETTINGS = Settings(replicates=200)
REQUIRED = {
    "schema_version",
    "evaluation_id",
    "retrieved_timestamp",
    "source_metadata",
    "model_info",
    "eval_library",
    "evaluation_results",
}
REQUIRED_OF_A_RESULT = {"evaluation_name", "source_data", "metric_config", "score_details"}


@pytest.fixture
def logs(exported, tmp_path):
    """The paths of the logs."""
    return write_logs(exported, tmp_path, Publisher("A Lab", url="https://example.org"), SETTINGS)


def test_each_finished_record_is_a_log_at_its_place(logs, exported, tmp_path):
    assert len(logs) == sum(record.error is None for record in exported) == 5
    for path in logs:
        data, collection, developer, model, name = path.relative_to(tmp_path).parts
        log = json.loads(path.read_text())
        assert (data, collection, f"{developer}/{model}") == (
            "data",
            "zsad",
            log["model_info"]["id"],
        )
        assert uuid.UUID(name.removesuffix(".json")).version == 4
    assert len({json.loads(path.read_text())["evaluation_id"] for path in logs}) == 3  # not seeds


def test_a_log_has_the_required_keys(logs):
    for path in logs:
        log = json.loads(path.read_text())
        assert log.keys() >= REQUIRED
        assert log["source_metadata"]["evaluator_relationship"] == "third_party"
        assert {"deployment_type", "model_availability"} <= log["model_info"][
            "additional_details"
        ].keys()
        assert all(isinstance(v, str) for v in log["model_info"]["additional_details"].values())
        for result in log["evaluation_results"]:
            assert result.keys() >= REQUIRED_OF_A_RESULT
            config = result["metric_config"]
            low, high = config["min_score"], config["max_score"]
            assert low <= result["score_details"]["score"] <= high
            metric = METRICS[result["evaluation_result_id"].rpartition("/")[2]]
            assert config["lower_is_better"] is not metric.higher_is_better


def test_results_are_of_the_dataset_with_intervals_and_of_each_category(logs, exported):
    log = next(
        json.loads(p.read_text())
        for p in logs
        if "visa" in json.loads(p.read_text())["evaluation_id"]
    )
    found = {r["evaluation_result_id"]: r for r in log["evaluation_results"]}
    record = next(r for r in exported if r.error is None and r.cell.dataset == "visa")
    for category in record.categories:
        result = found[f"visa/{category.category}/pixel_pro"]
        assert result["score_details"]["score"] == category.metrics["pixel_pro"]
    whole = found["visa/image_auroc"]["score_details"]
    interval = whole["uncertainty"]["confidence_interval"]
    assert interval["lower"] <= whole["score"] <= interval["upper"]
    assert whole["uncertainty"]["num_bootstrap_samples"] == 200
    assert "uncertainty" not in found["visa/pixel_auroc"]["score_details"]


def test_equal_records_give_equal_files(logs, exported, tmp_path):
    again = write_logs(
        exported, tmp_path / "again", Publisher("A Lab", url="https://example.org"), SETTINGS
    )
    assert [p.read_text() for p in logs] == [p.read_text() for p in again]
    assert [p.name for p in logs] == [p.name for p in again]


@pytest.mark.parametrize(
    ("values", "words"),
    [(("",), "--organisation"), (("A Lab", "", "friend"), "--relationship is one of")],
)
def test_a_publisher_that_the_schema_does_not_take_is_refused(values, words):
    with pytest.raises(UsageError, match=words):
        Publisher(*values)


def test_the_packages_own_validator_accepts_the_logs(logs, tmp_path):
    pytest.importorskip("every_eval_ever", reason="tox -e every-eval-ever")
    paths = [str(path.relative_to(tmp_path)) for path in logs]
    done = subprocess.run(
        [sys.executable, "-m", "every_eval_ever", "validate", *paths],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
