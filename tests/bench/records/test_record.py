"""Records survive writing and reading, and hostile ones end in one message."""

import copy
import dataclasses
import json
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zsad.bench.data.completeness import Completeness
from zsad.bench.extra_work import ExtraWork
from zsad.bench.records import record as module
from zsad.bench.records.cell import Cell
from zsad.bench.records.record import (
    Auxiliary,
    CategoryResult,
    ErrorInfo,
    ImageScores,
    Record,
    RecordError,
    read_record,
    read_records,
    write_record,
)
from zsad.bench.records.schema import schema_text
from zsad.bench.track import Track

SCHEMA = Path(__file__).parents[3] / "docs" / "record.schema.json"


def full_record() -> Record:
    images = ImageScores(["a.png", "b c.png", "d.png"], [0, 1, 1], [0.25, 0.5, 1e-30])
    result = CategoryResult(
        category="metal nut",
        class_name="metal nut",
        n_normal=1,
        n_anomalous=2,
        metrics={"image_auroc": 0.75, "image_ap": 1.0},
        undefined={"pixel_auroc": "the dataset has no pixel-level masks"},
        images=images,
        curves={"image_roc": {"x": [0.0, 1.0], "y": [0.0, 1.0]}},
        regions_lost=2,
    )
    return Record(
        cell=Cell("faprompt", "paper", "mvtec_ad", 111, {"widths": (1, 2), "sigma": 4.0}),
        status="ok",
        title="FAPrompt",
        categories=[result],
        protocol={"map_size": 518, "limit": None, "options": {"k": 10}},
        provenance={"device": "cpu"},
        timing={"images": 3, "ms_per_image": 1.5},
        published_parameters=9612256,
        effective_parameters=4100064,
        completeness=Completeness(83, 1725, 15, ("bottle",), differing_categories=("tile",)),
        auxiliary=Auxiliary("visa", "test", 2162, "ab12", Completeness(2162, 2162, 12)),
        warnings=["mask a.png of anomalous image b.png is empty"],
        track=Track.FEW_SHOT,
        extra_work=ExtraWork(1, "a key per auxiliary image"),
    )


def failed_record() -> Record:
    return Record(
        cell=Cell("clip", "official", "visa", 111),
        status="error",
        title="CLIP",
        error=ErrorInfo("DataError", "visa is not here", "Traceback ..."),
    )


def broken(tmp_path: Path, change) -> Path:
    """A record file after `change` has been at its JSON."""
    path = write_record(tmp_path, full_record())
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))
    return path


@pytest.mark.parametrize("record", [full_record(), failed_record()], ids=["ok", "error"])
def test_a_record_is_read_as_it_was_written(tmp_path, record):
    read = read_record(write_record(tmp_path, record))
    assert read == record
    assert read.cell.key == record.cell.key
    assert read_records(tmp_path) == [record]


@pytest.mark.parametrize("record", [full_record(), failed_record()], ids=["ok", "error"])
def test_written_records_fit_the_json_schema(tmp_path, record):
    raw = json.loads(write_record(tmp_path, record).read_text())
    jsonschema.validate(raw, json.loads(SCHEMA.read_text()), jsonschema.Draft202012Validator)


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw.pop("cell"),
        lambda raw: raw["cell"].update(seed="111"),
        lambda raw: raw.update(status="fine"),
        lambda raw: raw["categories"][0]["metrics"].update(image_auroc=1.5),
        lambda raw: raw["categories"][0]["images"]["labels"].__setitem__(0, 2),
        lambda raw: raw["categories"][0].update(n_normal=-1),
        lambda raw: raw.update(schema=2),
        lambda raw: raw["completeness"].update(expected="all"),
        lambda raw: raw["auxiliary"].update(images=-1),
        lambda raw: raw.update(track="supervised"),
    ],
    ids=[
        *("no cell", "seed", "status", "metric", "label", "count", "schema", "expected", "images"),
        "track",
    ],
)
def test_the_json_schema_and_the_reader_refuse_the_same(tmp_path, change):
    path = broken(tmp_path, change)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(json.loads(path.read_text()), json.loads(SCHEMA.read_text()))
    with pytest.raises(RecordError, match="\\.json"):
        read_record(path)


def test_a_record_without_a_track_is_of_the_zero_shot_track(tmp_path):
    earlier = read_record(broken(tmp_path, lambda raw: raw.pop("track")))
    assert earlier.track is Track.ZERO_SHOT
    assert read_record(write_record(tmp_path, full_record())).track is Track.FEW_SHOT


def _at(document, way):
    """The value inside a JSON document that a way of names and places leads to."""
    for step in way:
        document = document[step]
    return document


TOO_MANY_DIGITS = 10**20
BOUNDS = {  # path to a value -> values at its bounds, values beyond them
    "title": (["", "x" * 1000], ["x" * 1001, None]),
    "cell.method": (["x" * 1000], ["x" * 1001]),
    "cell.variant": (["x" * 1000], ["x" * 1001]),
    "cell.dataset": (["x" * 1000], ["x" * 1001]),
    "cell.label": (["x" * 1000], ["x" * 1001]),
    "cell.dataset_label": (["x" * 1000], ["x" * 1001]),
    "cell.seed": ([1 - 10**19, 10**20 - 1], [-(10**19), TOO_MANY_DIGITS, 0.5]),
    "categories.0.category": (["x" * 1000], ["x" * 1001]),
    "categories.0.class_name": (["x" * 1000], ["x" * 1001]),
    "categories.0.n_normal": ([0, 10**20 - 1], [-1, TOO_MANY_DIGITS]),
    "categories.0.n_anomalous": ([0], [-1]),
    "categories.0.regions_lost": ([0], [-1]),
    "categories.0.metrics.image_auroc": ([-1e-9, 0, 1, 1 + 1e-9], [-1e-8, 1 + 1e-8]),
    "categories.0.curves.image_roc.x.1": ([-1e-9, 0, 1, 1 + 1e-9], [-1e-8, 1 + 1e-8]),
    "categories.0.curves.image_roc": ([{"x": [], "y": []}], [{"x": []}, {"y": []}, {}]),
    "categories.0.images.labels.0": ([0, 1], [-1, 2, True]),
    "protocol.dataset_title": ([None, "x" * 1000], ["x" * 1001, 1]),
    "protocol.domain": ([None, "x" * 1000], ["x" * 1001, 1]),
    "protocol.backbone": ([None, "x" * 1000], ["x" * 1001, 1]),
    "protocol.limit": ([None, 0], [-1, "1", 0.5]),
    "timing.images": ([0, 1e15], [-1e-9, 1.1e15]),
    "published_parameters": ([None, 0], [-1]),
    "effective_parameters": ([None, 0], [-1]),
    "completeness.found": ([0], [-1]),
    "completeness.expected": ([None, 0], [-1]),
    "completeness.categories": ([0], [-1]),
    "completeness.all_categories": ([None, 0], [-1]),
    "completeness.limit": ([None, 0], [-1]),
    "auxiliary.images": ([0], [-1]),
    "status": (["ok"], ["error"]),
    "error": ([None], [{"type": "E", "message": "", "traceback": ""}]),
    "schema": ([1], [0, 2]),
}


@pytest.mark.parametrize("place", BOUNDS)
def test_the_json_schema_and_the_reader_have_the_same_bounds(tmp_path, place):
    validator = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))
    original = json.loads(json.dumps(dataclasses.asdict(full_record())))
    *way, last = [int(step) if step.isdigit() else step for step in place.split(".")]
    path = tmp_path / "x.json"
    within, beyond = BOUNDS[place]
    for value, allowed in [*((v, True) for v in within), *((v, False) for v in beyond)]:
        raw = copy.deepcopy(original)
        _at(raw, way)[last] = value
        path.write_text(json.dumps(raw))
        assert validator.is_valid(raw) is allowed, value
        if allowed:
            read_record(path)
        else:
            with pytest.raises(RecordError, match=r"x\.json"):
                read_record(path)


def test_every_field_of_the_json_schema_that_must_be_there_is_missed_by_the_reader(tmp_path):
    validator = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))
    original = json.loads(json.dumps(dataclasses.asdict(full_record())))
    path = tmp_path / "x.json"
    places = [(), ("cell",), ("categories", 0), ("categories", 0, "images"), ("auxiliary",)]
    for place in [*places, ("completeness",), ("categories", 0, "curves", "image_roc")]:
        for name in _at(original, place):
            raw = copy.deepcopy(original)
            del _at(raw, place)[name]
            path.write_text(json.dumps(raw))
            if validator.is_valid(raw):
                read_record(path)
            else:
                with pytest.raises(RecordError, match=r"x\.json"):
                    read_record(path)


def test_the_stated_json_schema_is_the_one_of_the_classes():
    command = "python -m zsad.bench.records.schema > docs/record.schema.json"
    assert SCHEMA.read_text() == schema_text(), command


def test_an_entry_of_the_protocol_has_its_present_name_in_an_older_record(tmp_path):
    older = dataclasses.replace(full_record(), protocol={"learned_in": "fp64", "epochs": 3})
    path = write_record(tmp_path, older)
    assert read_record(path).protocol == {"training_precision": "fp64", "epochs": 3}


def test_fields_of_a_later_version_are_ignored_and_logged(tmp_path, caplog):
    def later(raw):
        raw["weather"] = "fine"
        raw["categories"][0]["images"]["uncertainty"] = [1, 2, 3]

    path = broken(tmp_path, later)
    with caplog.at_level("INFO"):
        assert read_record(path) == full_record()
    assert "weather" in caplog.text
    assert "uncertainty" in caplog.text


def test_missing_optional_fields_take_their_defaults(tmp_path):
    def earlier(raw):
        optional = ("protocol", "provenance", "timing", "effective_parameters", "schema")
        for name in (*optional, "completeness", "auxiliary"):
            del raw[name]
        for name in ("curves", "regions_lost", "undefined"):
            del raw["categories"][0][name]

    record = read_record(broken(tmp_path, earlier))
    assert record.schema == module.SCHEMA_VERSION
    assert record.categories[0].regions_lost == 0
    assert record.effective_parameters is None
    assert record.completeness is record.auxiliary is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda raw: raw.update(schema=99), "update zsad"),
        (lambda raw: raw.update(schema=0), "schema"),
        (lambda raw: raw.update(schema="1"), "integer"),
        (lambda raw: raw.pop("title"), "title: Field required"),
        (lambda raw: raw.update(cell=[1, 2]), "cell: should be an object, not [1, 2]"),
        (lambda raw: raw["cell"].pop("seed"), "cell: seed: Field required"),
        (lambda raw: raw["cell"].update(seed=True), "seed: should be a valid integer, not True"),
        (lambda raw: raw.update(categories={}), "categories: should be a valid array"),
        (lambda raw: raw["categories"].append(raw["categories"][0]), "occurs twice"),
        (lambda raw: raw["categories"][0]["metrics"].update(image_auroc="1"), "valid number"),
        (lambda raw: raw["categories"][0]["metrics"].update(image_auroc=-0.1), "greater than"),
        (lambda raw: raw["categories"][0]["images"]["scores"].pop(), "differ in length"),
        (lambda raw: raw["timing"].update(images=10**400), "too large"),
        (lambda raw: raw.update(error={"type": "E", "message": "", "traceback": ""}), "status"),
    ],
)
def test_a_broken_field_is_named(tmp_path, change, words):
    with pytest.raises(RecordError, match=r"cells/.*") as caught:
        read_record(broken(tmp_path, change))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{",
        '{"schema": NaN}',
        '{"schema": 1e999}',
        "[" * 100_000,
        "\x00\x01",
        '{"schema": 1, "cell": ' + "9" * 5000 + "}",
    ],
    ids=["empty", "null", "list", "cut", "nan", "huge", "deep", "binary", "digits"],
)
def test_a_file_that_is_no_record_is_named(tmp_path, text):
    path = tmp_path / "cells" / "x.json"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(RecordError, match=r"x\.json"):
        read_record(path)
    with pytest.raises(RecordError, match=r"x\.json"):
        read_records(tmp_path)


def test_latin1_bytes_are_no_record(tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(b'{"title": "\xe9"}')
    with pytest.raises(RecordError, match=r"x\.json"):
        read_record(path)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(
    place=st.sampled_from(
        [
            ("cell",),
            ("cell", "options"),
            ("cell", "method"),
            ("categories",),
            ("categories", 0),
            ("categories", 0, "metrics"),
            ("categories", 0, "images"),
            ("categories", 0, "curves"),
            ("error",),
            ("timing",),
            ("schema",),
        ]
    ),
    value=json_values,
)
def test_any_json_in_any_field_is_read_or_refused_in_one_message(tmp_path_factory, place, value):
    raw = json.loads(json.dumps(dataclasses.asdict(full_record())))
    inner = raw
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    path = tmp_path_factory.mktemp("run") / "cells" / "x.json"
    path.parent.mkdir()
    path.write_text(json.dumps(raw, allow_nan=True))
    try:
        record = read_record(path)
    except RecordError as error:
        assert "x.json" in str(error)
    else:
        assert isinstance(record.cell.key, str)


@given(st.text(), st.text(), st.text())
def test_a_cells_key_never_leaves_the_run_directory(method, variant, dataset):
    key = Cell(method, variant, dataset, 1).key
    assert set(key) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
    assert Path(key).name == key


def test_cells_are_equal_when_their_json_is():
    one = Cell("m", "v", "d", 1, {"a": (1, 2), "b": 1})
    two = Cell("m", "v", "d", 1, {"b": 1, "a": [1, 2]})
    assert one == two
    assert hash(one) == hash(two)
    assert one.key == two.key
    assert one != Cell("m", "v", "d", 1)
    assert one.key != Cell("m", "v", "d", 1, {"a": [1, 3], "b": 1}).key


def test_a_record_under_another_cells_name_is_refused(tmp_path):
    path = write_record(tmp_path, full_record())
    path.rename(path.with_name("other.json"))
    with pytest.raises(RecordError, match="named otherwise"):
        read_records(tmp_path)


def test_temporary_files_of_other_processes_are_no_records(tmp_path):
    write_record(tmp_path, full_record())
    (tmp_path / "cells" / ".x.json.123-1.tmp").write_text("{")
    (tmp_path / "cells" / ".x.json").write_text("{")
    assert len(read_records(tmp_path)) == 1


def test_a_folder_without_records_is_no_run(tmp_path):
    with pytest.raises(RecordError, match="not a run directory"):
        read_records(tmp_path)
