"""Tables 3 and 7 to 11: the numbers of the text stand beside the run's; what is lacking is told."""

from __future__ import annotations

import dataclasses

import pytest
from zsad.bench.analysis import published
from zsad.bench.analysis.tables import make_table
from zsad.bench.errors import UsageError
from zsad.bench.metric_table import LEVELS
from zsad.bench.track import Track

VARIANTS = {
    **{(row["method"], row["variant"]): row["model"] for row in published.rows("variants.csv")},
    ("TCP", "v1"): "TCP_V1",
    ("TCP", "v2"): "TCP_V2",
}
METRICS = {
    "image": {"image_auroc": 0.5, "image_ap": 0.5},
    "pixel": {"pixel_auroc": 0.5, "pixel_pro": 0.5},
}


@pytest.fixture
def records_of(make_record):
    """Records of a method on every dataset of the paper, at the levels that it has there."""

    def make(title, variant="paper", options=None, track=Track.ZERO_SHOT, default=None):
        found = []
        for name in published.datasets():
            values: dict[str, float] = {}
            for level in LEVELS:
                if name in published.datasets(level):
                    values |= METRICS[level]
            name_of = {"MVTecAD": "mvtec_ad"}.get(name, name.lower().replace("-", "_"))
            protocol = {"options": {**(default or {}), **(options or {})}}
            record = make_record(
                title, name_of, {"x": values}, variant=variant, options=options, protocol=protocol
            )
            found.append(dataclasses.replace(record, track=track))
        return found

    return make


def printed_in(table):
    """Every printed number of a table and those of its other tracks."""
    return sorted(
        number.printed
        for own in table.tracks
        for row in own.rows
        for cell in row.cells
        for number in cell.numbers
        if number.printed is not None
    )


def models_in(numbers):
    """(Title, variant) of the models of some printed numbers."""
    names = {model: key for key, model in VARIANTS.items()}
    return [names.get(model, (model, "paper")) for model in dict.fromkeys(n.model for n in numbers)]


@pytest.mark.parametrize(
    ("layout", "numbers", "means_alone"),
    [
        ("tcp", published.tcp, True),
        ("averaging", published.averaging, True),
        ("ablation", published.ablations, False),
    ],
)
def test_every_number_in_the_text_stands_beside_a_models(records_of, layout, numbers, means_alone):
    records = [r for title, variant in models_in(numbers()) for r in records_of(title, variant)]
    table = make_table(records, layout, published=True)
    shown = printed_in(table)
    for number in numbers():
        assert number.value in shown, number
    if means_alone:
        assert shown == sorted(number.value for number in numbers())


def test_numbers_of_table_8_stand_in_the_column_and_the_row_of_their_model_and_domain(records_of):
    records = [
        r for title, variant in models_in(published.tcp()) for r in records_of(title, variant)
    ]
    table = make_table(records, "tcp", published=True)
    assert [column.label for column in table.columns] == [
        "AnomalyCLIP",
        "TCP_V1",
        "TCP_V2",
        "FAPrompt",
    ]
    means = {row.group: row for row in table.rows if row.summary}
    assert [n.printed for n in means["image, industrial"].cells[1].numbers] == [61.3, 55.9]
    assert [n.printed for n in means["pixel, medical"].cells[2].numbers] == [76.8, 52.9]


def test_averaging_shows_its_three_models_alone_and_says_what_is_not_in_the_text(records_of):
    variants = ["paper", "weighted_prompts", "best_prompt", "cap"]
    records = [record for variant in variants for record in records_of("FAPrompt", variant)]
    table = make_table(records, "averaging", published=True)
    assert [c.label for c in table.columns[:2]] == ["FAPrompt_0.1", "FAPrompt_0.2"]
    assert len(table.columns) == 3
    assert any("FAPrompt_0.1 and FAPrompt_0.2 are not in the text" in r for r in table.remarks)
    mean = next(row for row in table.rows if row.summary)
    assert [cell.numbers[0].printed for cell in mean.cells] == [None, None, 88.2]


def test_full_shot_methods_stand_in_a_table_of_their_own_beside_table_7(records_of):
    records = [*records_of("FAPrompt"), *records_of("AnomalyCLIP"), *records_of("CoOp")]
    for title in ("PatchCore", "RD4AD"):
        records += records_of(title, "anomalib", track=Track.FULL_SHOT)
    table = make_table(records, "full-shot", published=True)
    assert [c.label for c in table.columns] == ["AnomalyCLIP", "FAPrompt"]
    (other,) = table.other_tracks
    assert [c.label for c in other.columns] == ["PatchCore (full-shot)", "RD4AD (full-shot)"]
    datasets = [row.label for row in other.rows if not row.summary]
    assert datasets == ["MVTecAD", "VisA", "BTAD", "MPDD", "DAGM"] * 2
    assert [n.printed for n in other.rows[0].cells[0].numbers] == [99.0, 99.7]
    shown = [
        number.printed
        for own in table.tracks
        for row in own.rows
        if not row.summary
        for cell in row.cells
        for number in cell.numbers
    ]
    assert sorted(shown) == sorted(number.value for number in published.full_shot())


def test_a_zero_shot_run_of_a_full_shot_name_has_no_printed_number(records_of):
    records = records_of("PatchCore", "anomalib", track=Track.FEW_SHOT)
    assert printed_in(make_table(records, "full-shot", published=True)) == []


def test_every_number_of_table_11_stands_beside_the_value_of_its_option(records_of):
    default = {"deep_length": 4, "deep_depth": 9, "n_prompts": 10}
    records = records_of("FAPrompt", default=default)
    for option, values in {"deep_length": (2, 6, 8), "deep_depth": (5, 7, 11)}.items():
        for value in values:
            records += records_of("FAPrompt", options={option: value}, default=default)
    records += records_of("FAPrompt", options={"n_prompts": 1}, default=default)
    table = make_table(records, "hyperparameters", published=True)
    groups = {}
    for row in table.rows:
        groups.setdefault(row.group, []).append(row.label)
    assert groups == {
        "K (n-prompts)": ["1", "10"],
        "layers with learnable tokens (deep-depth)": ["5", "7", "9", "11"],
        "token length (deep-length)": ["2", "4", "6", "8"],
    }
    assert printed_in(table) == sorted(number.value for number in published.hyperparameters())
    assert [c.label for c in table.columns] == [
        "industrial, image",
        "medical, image",
        "industrial, pixel",
        "medical, pixel",
    ]
    ranks = {number.rank for row in table.rows for cell in row.cells for number in cell.numbers}
    assert ranks == {0}  # a row has one value of an option, and no rivals
    six = next(row for row in table.rows if row.label == "6")
    assert [n.printed for n in six.cells[0].numbers] == [90.0, 87.7]
    assert any("figures 4, 5 and 7" in remark for remark in table.remarks)
    assert any("industrial, image level: Mean (without MVTecAD" in r for r in table.remarks)


def test_a_single_dataset_stands_for_its_domain_and_no_printed_number_beside_it(records_of):
    default = {"deep_length": 4}
    records = [*records_of("FAPrompt", default=default)]
    records += records_of("FAPrompt", options={"deep_length": 2}, default=default)
    own = [record for record in records if record.cell.dataset == "btad"]
    table = make_table(own, "hyperparameters", published=True)
    assert printed_in(table) == []
    assert any("industrial, image level: BTAD alone." in remark for remark in table.remarks)


def test_a_run_without_a_sweep_is_told_how_to_get_one(records_of):
    with pytest.raises(UsageError, match=r"no option takes several values.*sweep = \{"):
        make_table(records_of("FAPrompt"), "hyperparameters")
