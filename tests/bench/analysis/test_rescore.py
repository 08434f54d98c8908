"""Metrics come out again from what a run has kept, without a model."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from sklearn.metrics import f1_score
from typer.testing import CliRunner
from zsad.bench.analysis.rescore import NOT_KEPT, rescore_run
from zsad.bench.cli.app import app
from zsad.bench.metric_table import DEFAULT_METRICS
from zsad.bench.metrics import PixelAccumulator
from zsad.bench.records.cell import Cell
from zsad.bench.records.record import RecordError, Threshold, read_records, write_record
from zsad.bench.records.run_folder import maps_path

SHAPE = (40, 12, 12)
FIRST = (  # what the first version measured
    *("image_auroc", "image_ap", "image_f1max", "pixel_auroc", "pixel_ap", "pixel_f1max"),
    *("pixel_pro", "pixel_pro_official200"),
)
CELL = Cell("clip", "official", "visa", 111)


@pytest.fixture
def kept_run(tmp_path, scored_record):
    """A run of one cell with maps, whose record holds the metrics of its scores and maps."""
    generator = np.random.default_rng(0)
    masks = np.zeros(SHAPE, dtype=bool)
    masks[1::2, 3:6, 4:8] = True
    maps = (generator.normal(size=SHAPE) + 1.5 * masks).astype(np.float32)
    with PixelAccumulator() as pixels:
        pixels.update(masks, maps)
        measured = pixels.result()
    record = scored_record("CLIP", "visa", 0, 1.0)
    (result,) = record.categories
    record = dataclasses.replace(
        record,
        categories=[
            dataclasses.replace(
                result,
                metrics={**result.metrics, **measured.defined()},
                undefined={**result.undefined, **measured.undefined},
            )
        ],
    )
    write_record(tmp_path, record)
    path = maps_path(tmp_path, record.cell, "one")
    path.parent.mkdir(parents=True)
    np.savez_compressed(path, maps=maps, masks=masks)
    return tmp_path


def test_an_untouched_run_gives_the_same_metrics(kept_run):
    (found,) = rescore_run(kept_run)
    (record,) = read_records(kept_run)
    assert found.pixel_level
    assert found.moves == ()
    assert dict(found.record.categories[0].metrics) == pytest.approx(
        dict(record.categories[0].metrics), abs=1e-12
    )


def forge(run, **metrics):
    """Change stored metrics, as an older version with another definition would have them."""
    (record,) = read_records(run)
    (result,) = record.categories
    forged = dataclasses.replace(result, metrics={**result.metrics, **metrics})
    write_record(run, dataclasses.replace(record, categories=[forged]))


def test_stored_metrics_that_are_wrong_are_found(kept_run):
    truth = read_records(kept_run)[0].categories[0].metrics
    forge(kept_run, image_auroc=0.123, pixel_pro=0.456)
    (found,) = rescore_run(kept_run)
    moves = {move.metric: move for move in found.moves}
    assert moves.keys() == {"image_auroc", "pixel_pro"}
    assert moves["pixel_pro"].old == 0.456
    assert moves["pixel_pro"].new == pytest.approx(truth["pixel_pro"])


def test_without_maps_pixel_metrics_stay_while_their_definition_does(kept_run):
    path = maps_path(kept_run, CELL, "one")
    path.unlink()
    forge(kept_run, pixel_pro=0.456)
    (found,) = rescore_run(kept_run)
    assert not found.pixel_level
    assert found.record.categories[0].metrics["pixel_pro"] == 0.456


def test_without_maps_pixel_metrics_of_an_old_definition_are_dropped(kept_run):
    maps_path(kept_run, CELL, "one").unlink()
    (record,) = read_records(kept_run)
    write_record(
        kept_run, dataclasses.replace(record, protocol={**record.protocol, "metric_version": 0})
    )
    (found,) = rescore_run(kept_run)
    (result,) = found.record.categories
    assert "pixel_pro" not in result.metrics
    assert result.undefined["pixel_pro"] == NOT_KEPT["pixel"]
    assert "image_auroc" in result.metrics
    assert found.record.protocol["metric_version"] == 1
    assert any(move.metric == "pixel_pro" and move.new is None for move in found.moves)


def test_metrics_without_scores_stay_and_failed_cells_are_left_alone(tmp_path, make_record):
    write_record(tmp_path, make_record("CLIP", "visa", {"x": {"image_auroc": 0.5}}))
    write_record(tmp_path, make_record("CLIP", "btad", error="broken"))
    (found,) = rescore_run(tmp_path)
    assert found.record.categories[0].metrics == {"image_auroc": 0.5}


def save(path, **arrays):
    np.savez_compressed(path, **arrays)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"PK\x03\x04 broken"),
        lambda path: path.write_bytes(path.read_bytes()[:-200]),
        lambda path: save(path, maps=np.zeros(SHAPE, np.float32)),
        lambda path: save(path, maps=np.zeros((2, 3)), masks=np.zeros((2, 3), bool)),
        lambda path: save(path, maps=np.zeros(SHAPE), masks=np.zeros((1, 2, 3), bool)),
        lambda path: save(path, maps=np.full(SHAPE, np.nan), masks=np.zeros(SHAPE, bool)),
        lambda path: save(path, maps=np.array([{"a": 1}]), masks=np.zeros(SHAPE, bool)),
    ],
    ids=["empty", "no zip", "cut", "no masks", "2-d", "shapes", "nan", "pickle"],
)
def test_broken_maps_are_named(kept_run, write):
    write(maps_path(kept_run, CELL, "one"))
    with pytest.raises(RecordError, match="clip--official--visa--seed111"):
        rescore_run(kept_run)


def test_a_flipped_byte_in_the_maps_is_found(kept_run):
    path = maps_path(kept_run, CELL, "one")
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 3] ^= 0xFF
    path.write_bytes(bytes(raw))
    with pytest.raises(RecordError, match="one"):
        rescore_run(kept_run)


def test_names_cannot_lead_out_of_the_run(tmp_path):
    path = maps_path(tmp_path, Cell("../../x", "v", "d", 1), "../../../etc/passwd")
    assert path.resolve().is_relative_to(tmp_path.resolve() / "maps")


def test_the_command_writes_only_where_it_is_told(kept_run, tmp_path):
    truth = read_records(kept_run)[0].categories[0].metrics["image_auroc"]
    forge(kept_run, image_auroc=0.123)
    before = read_records(kept_run)
    told = CliRunner().invoke(app, ["rescore", str(kept_run)])
    assert told.exit_code == 0
    assert f"image-auroc: 0.123000 -> {truth:.6f}" in told.output
    assert "1 cells rescored, 1 of them at pixel level too, 1 metrics moved" in told.output
    assert read_records(kept_run) == before
    out = tmp_path / "rescored"
    CliRunner().invoke(app, ["rescore", str(kept_run), "--out", str(out)])
    assert read_records(out)[0].categories[0].metrics["image_auroc"] == pytest.approx(truth)
    assert read_records(kept_run) == before
    CliRunner().invoke(app, ["rescore", str(kept_run), "--in-place"])
    assert read_records(kept_run)[0].categories[0].metrics["image_auroc"] == pytest.approx(truth)


def test_rescoring_loads_no_torch(kept_run):
    code = (
        "import sys; from pathlib import Path; "
        "from zsad.bench.analysis.rescore import rescore_run; "
        f"rescore_run(Path({str(kept_run)!r})); print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "False"


def without(run, *metrics):
    """The record without what was measured of some metrics, as an earlier version wrote it."""
    (record,) = read_records(run)
    results = [
        dataclasses.replace(
            r,
            metrics={name: value for name, value in r.metrics.items() if name not in metrics},
            undefined={name: why for name, why in r.undefined.items() if name not in metrics},
        )
        for r in record.categories
    ]
    write_record(run, dataclasses.replace(record, categories=results))


def test_metrics_that_a_record_lacks_are_added(kept_run):
    before = read_records(kept_run)[0].categories[0]
    further = [name for name in DEFAULT_METRICS if name not in FIRST]
    without(kept_run, *further)
    (found,) = rescore_run(kept_run)
    (result,) = found.record.categories
    assert found.moves == ()
    assert found.added == len([name for name in further if name in before.metrics]) > 5
    assert (result.metrics, result.undefined) == (before.metrics, before.undefined)


def test_without_maps_only_image_level_metrics_are_added(kept_run):
    maps_path(kept_run, CELL, "one").unlink()
    without(kept_run, "image_tpr_at_1e2", "pixel_aupimo", "pixel_pro_05")
    (found,) = rescore_run(kept_run)
    (result,) = found.record.categories
    assert "image_tpr_at_1e2" in result.metrics
    assert not {"pixel_aupimo", "pixel_pro_05"} & {*result.metrics, *result.undefined}


def test_f1_scores_at_stated_thresholds_are_computed_again(kept_run):
    (record,) = read_records(kept_run)
    threshold = Threshold(0.5, "greatest F1 on Synthetic")
    results = [
        dataclasses.replace(
            r,
            metrics={**r.metrics, "image_f1_learned": 0.123, "pixel_f1_learned": 0.123},
            thresholds={"image_f1_learned": threshold, "pixel_f1_learned": threshold},
            undefined={**r.undefined, "pixel_segf1": "no normal training images"},
        )
        for r in record.categories
    ]
    write_record(kept_run, dataclasses.replace(record, categories=results))
    (found,) = rescore_run(kept_run)
    (result,) = found.record.categories
    assert {m.metric for m in found.moves} == {"image_f1_learned", "pixel_f1_learned"}
    images = result.images
    expected = f1_score(images.labels, np.asarray(images.scores) >= 0.5)
    assert result.metrics["image_f1_learned"] == pytest.approx(expected, abs=1e-12)
    assert result.undefined["pixel_segf1"] == "no normal training images"
