"""Records in MLflow and in Weights & Biases, both without a network."""

import json
from pathlib import Path

import pytest
from zsad.bench.export.results import MissingPackage, digest, required

pytestmark = pytest.mark.slow


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_SILENT", "true")


def test_mlflow_has_a_run_for_each_record_once(exported, tmp_path):
    mlflow = pytest.importorskip("mlflow")
    from zsad.bench.export.to_mlflow import log_runs

    assert log_runs(exported, tmp_path, "bench") == 5
    assert log_runs(exported, tmp_path, "bench") == 0
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("bench")
    runs = client.search_runs([experiment.experiment_id])
    by_digest = {run.data.tags["zsad.record"]: run for run in runs}
    assert by_digest.keys() == {digest(r) for r in exported if r.error is None}
    record = next(r for r in exported if r.error is None and r.cell.dataset == "visa")
    run = by_digest[digest(record)]
    candle = record.by_category["candle"]
    assert run.data.metrics["image_ap/candle"] == candle.metrics["image_ap"]
    assert run.data.params["protocol.backbone"] == "ViT-L-14-336"
    assert run.info.status == "FINISHED"
    path = client.download_artifacts(run.info.run_id, "record.json", str(tmp_path))
    assert json.loads(Path(path).read_text())["cell"]["method"] == record.cell.method


def test_weights_and_biases_is_offline_unless_told_otherwise(exported, tmp_path, offline):
    pytest.importorskip("wandb")
    from zsad.bench.export.to_wandb import log_runs

    record = next(r for r in exported if r.error is None and r.cell.dataset == "visa")
    assert log_runs([record], tmp_path, "bench") == 1
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    (file,) = folder.glob("*.wandb")
    assert file.stem == f"run-{digest(record)[:16]}"
    (table,) = folder.rglob("*.table.json")
    rows = {row[0]: row[1:] for row in json.loads(table.read_text())["data"]}
    assert rows["candle"][0] == record.by_category["candle"].metrics["image_auroc"]
    logged = file.read_bytes()
    assert b"timing/ms_per_image" in logged
    assert b"protocol.weights_sha256" in logged


def test_a_package_that_is_not_there_is_named_with_its_extra():
    with pytest.raises(MissingPackage, match=r"pip install 'zsad\[mlflow\]'"):
        required("no_such_package", "mlflow")
