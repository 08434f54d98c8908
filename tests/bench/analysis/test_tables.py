"""Tables: the paper's order and numbers, and nothing incomparable goes unnoticed.

The golden files in data/tables are rewritten by ZSAD_UPDATE_GOLDEN=1 and then read by a person.
"""

import csv
import dataclasses
import html.parser
import io
import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zsad.bench.analysis import published
from zsad.bench.analysis.formats import FORMATS, render
from zsad.bench.analysis.matrix import arrange
from zsad.bench.analysis.notices import notices
from zsad.bench.analysis.table_data import DASH, LAYOUT_MARKS, Column, Number, Row, Table, TableCell
from zsad.bench.analysis.tables import LAYOUTS, make_table
from zsad.bench.analysis.values import NOT_MEASURED
from zsad.bench.data.completeness import Completeness
from zsad.bench.errors import UsageError
from zsad.bench.files import csv_text
from zsad.bench.metric_table import HEADLINES, LEVELS, of_level
from zsad.bench.names import normalize_name
from zsad.bench.records.record import Auxiliary, Threshold, read_records
from zsad.bench.report.tables import is_comparable

GOLDEN = Path(__file__).parents[1] / "data" / "tables"
TITLES = {"faprompt": "FAPrompt", "anomalyclipensemble": "AnomalyCLIP Ensemble"}
WITHOUT_SWEEP = [layout for layout in LAYOUTS if layout != "hyperparameters"]
SUFFIX = {"md": "md", "csv": "csv", "latex": "tex", "html": "html"}


def scores(image=None, ap=None, pixel=None, pro=None):
    named = {
        "image_auroc": image,
        "image_ap": ap,
        "pixel_auroc": pixel,
        "pixel_pro": pro,
        "pixel_pro_official200": None if pro is None else pro - 0.01,
    }
    return {name: value for name, value in named.items() if value is not None}


@pytest.fixture(scope="module")
def mixed_run(make_record):
    """A run as it happens: gaps, a failure, seeds, variants, own datasets and an own method."""
    small = {"backbone": "ViT-B-16-plus-240", "weights_sha256": "8fb26589", "map_size": 240}
    costs = {
        "images": 50.0,
        "seconds_forward": 2.0,
        "seconds_predict": 0.5,
        "peak_memory_mb": 900.4,
    }
    two = {
        "bottle": scores(0.90, 0.95, 0.80, 0.60),
        "tile": scores(0.80, 0.85, 0.90, 0.70),
    }
    no_masks = dict.fromkeys(("pixel_auroc", "pixel_pro"), "the dataset has no pixel-level masks")
    no_normal = dict.fromkeys(("image_auroc", "image_ap"), "there is no normal image")
    brain = {"brainmri": scores(0.74, 0.82)}
    colon = {"colon": scores(pixel=0.55, pro=0.2)}
    records = [
        make_record("CLIP", "mvtec_ad", two, timing=costs),
        make_record("CLIP", "visa", {"pcb1": scores(0.6, 0.7, 0.5, 0.1)}),
        make_record("CLIP", "btad", error="btad: no such folder\nsecond line"),
        make_record("CLIP", "brainmri", brain, undefined=no_masks),
        make_record("CLIP", "cvc_colondb", colon, undefined=no_normal),
        make_record(
            "WinCLIP",
            "mvtec_ad",
            {"bottle": scores(0.99, 0.99, 0.85, 0.65), "tile": scores(pixel=0.7, pro=0.5)},
            undefined={
                "image_auroc": "there is no anomalous image",
                "image_ap": "there is no anomalous image",
            },
            protocol=small,
        ),
        make_record("WinCLIP", "btad", {"01": scores(0.7, 0.7, 0.7, 0.3)}, protocol=small),
        make_record("WinCLIP", "brainmri", brain, undefined=no_masks, protocol=small),
    ]
    records += [
        make_record(
            "AnomalyCLIP",
            dataset,
            {category: scores(0.8 + shift, 0.8, 0.9, 0.8)},
            seed=seed,
            protocol={"auxiliary": "mvtec_ad", "seed": seed},
            parameters=(5555200, 43008),
            timing={"seconds_train": 80.25},
        )
        for seed, shift in ((111, 0.0), (1, 0.01), (2, -0.01))
        for dataset, category in {"visa": "pcb1", "btad": "01", "synthetic": "one"}.items()
    ]
    records += [
        make_record(
            "AnomalyCLIP",
            "mvtec_ad",
            two,
            protocol={"auxiliary": "visa", "seed": 111, "map_size": 224},
        ),
        make_record("FAPrompt", "visa", {"pcb1": scores(0.85, 0.8, 0.95, 0.9)}, variant="paper"),
        make_record(
            "FAPrompt",
            "visa",
            {"pcb1": scores(0.84, 0.81, 0.94, 0.9)},
            variant="paper",
            options={"n_prompts": 1},
        ),
        make_record(
            "FAPrompt", "visa", {"pcb1": scores(0.83, 0.80, 0.95, 0.8)}, variant="official"
        ),
        make_record("FAPrompt", "visa", {"pcb1": scores(0.82, 0.7, 0.9, 0.7)}, variant="cap"),
        make_record(
            "My <b>|_method_|",
            "acme_parts",
            {"a": scores(0.5, 0.5, 0.5, 0.5)},
            protocol={"domain": "custom", "dataset_title": "Acme & Sons"},
        ),
    ]
    return records


@pytest.mark.parametrize("layout", WITHOUT_SWEEP)
@pytest.mark.parametrize("fmt", SUFFIX)
def test_every_layout_in_every_format_is_as_recorded(mixed_run, layout, fmt):
    table = make_table(mixed_run, layout, published=True, delta=True)
    compare_with_golden(f"{layout}.{SUFFIX[fmt]}", render(table, fmt))


@pytest.mark.parametrize("layout", ["image", "pixel"])
def test_the_papers_own_tables_come_out_of_its_own_numbers(paper_run, layout):
    compare_with_golden(f"paper-{layout}.md", render(make_table(paper_run, layout), "md"))


def compare_with_golden(name, text):
    path = GOLDEN / name
    if os.environ.get("ZSAD_UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("level", LEVELS)
def test_rows_columns_and_numbers_are_those_of_the_papers_table(paper_run, level):
    table = make_table(paper_run, level)
    assert [column.label for column in table.columns] == published.models()
    rows = {row.label: row for row in table.rows if not row.summary}
    assert list(rows) == published.datasets(level)
    for printed in published.main_results():
        if printed.level != level:
            continue
        cell = rows[printed.dataset].cells[published.models().index(printed.model)]
        # a mean of rounded categories may differ from the rounded mean in the last digit
        exact = printed.dataset not in ("MVTecAD", "VisA")
        number = cell.numbers[of_level(level, HEADLINES).index(printed.metric)]
        assert number.value == pytest.approx(printed.value, abs=1e-9 if exact else 0.1001)


def test_domain_means_are_those_of_table_three(paper_run):
    for level in LEVELS:
        table = make_table(paper_run, level)
        means = {row.group: row for row in table.rows if row.summary}
        for printed in published.ablations():
            if printed.table != 3 or printed.model != "FAPrompt" or printed.level != level:
                continue
            numbers = means[printed.domain].cells[-1].numbers
            number = numbers[of_level(level, HEADLINES).index(printed.metric)]
            assert number.value == pytest.approx(printed.value, abs=0.06)
            assert means[printed.domain].label == "Mean"


def test_pixel_only_datasets_are_told_below_the_image_table(paper_run):
    table = make_table(paper_run, "image")
    (remark,) = [text for text in table.remarks if text.startswith("Not shown")]
    assert "CVC-ColonDB" in remark
    assert "there is no normal image" in remark


def cell_of(table, row, column):
    (found,) = [r for r in table.rows if r.label == row]
    (place,) = [i for i, c in enumerate(table.columns) if c.label == column]
    return found.cells[place]


def test_a_dash_says_why(mixed_run):
    table = make_table(mixed_run, "image")
    assert cell_of(table, "BTAD", "CLIP").notes == ("failed: DataError: btad: no such folder",)
    assert cell_of(table, "VisA", "WinCLIP").notes == ("not run",)
    assert all(n.text == DASH for n in cell_of(table, "BTAD", "CLIP").numbers)
    shown = make_table(mixed_run, "pixel", datasets=["brainmri", "cvc_colondb"])
    assert [row.label for row in shown.rows] == ["CVC-ColonDB"]
    assert any("BrainMRI" in remark for remark in shown.remarks)


def test_a_value_over_some_categories_says_so(mixed_run):
    cell = cell_of(make_table(mixed_run, "image"), "MVTecAD", "WinCLIP")
    assert cell.numbers[0].text == "99.0"
    assert "over 1 of 2 categories (tile: there is no anomalous image)" in cell.notes


def test_seeds_give_mean_and_standard_deviation(mixed_run):
    cell = cell_of(make_table(mixed_run, "image"), "VisA", "AnomalyCLIP")
    assert cell.numbers[0].text == "80.0±1.0"
    assert cell.numbers[1].text == "80.0±0.0"


def test_a_protocol_that_differs_within_a_column_is_marked(mixed_run):
    notes = cell_of(make_table(mixed_run, "image"), "MVTecAD", "AnomalyCLIP").notes
    assert "auxiliary is visa, elsewhere in this column mvtec_ad" in notes
    assert "map_size is 224, elsewhere in this column 518" in notes
    assert cell_of(make_table(mixed_run, "image"), "VisA", "AnomalyCLIP").notes == ()


def test_a_column_on_another_backbone_is_marked_in_the_header(mixed_run):
    table = make_table(mixed_run, "image")
    (column,) = [c for c in table.columns if c.label == "WinCLIP"]
    assert any(note.startswith("backbone is ViT-B-16-plus-240") for note in column.notes)
    assert any(note.startswith("map_size is 240") for note in column.notes)


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("dataset_fingerprint", "abc"),
        ("mask_threshold", 127),
        ("mask_resize", "nearest"),
        ("limit", 5),
        ("dataset_options", {"layout": "x", "class_name": None}),
    ],
)
def test_other_images_or_masks_within_a_row_are_marked(make_record, entry, value):
    one = {"x": scores(0.5, 0.5)}
    records = [make_record("CLIP", "btad", one), make_record("AnoVL", "btad", one)]
    records.append(make_record("CoOp", "btad", one, protocol={entry: value}))
    notes = cell_of(make_table(records, "image"), "BTAD", "CoOp").notes
    assert len(notes) == 1
    assert notes[0].startswith(entry)
    assert "this row" in notes[0]


@pytest.mark.parametrize("entry", ["metric_version", "backbone", "precision", "temperature"])
def test_any_other_protocol_entry_within_a_column_is_marked(make_record, entry):
    one = {"x": scores(0.5, 0.5)}
    records = [make_record("CLIP", name, one) for name in ("btad", "mpdd")]
    records.append(make_record("CLIP", "sdd", one, protocol={entry: 7}))
    notes = cell_of(make_table(records, "image"), "SDD", "CLIP").notes
    assert any(note.startswith(f"{entry} is 7, elsewhere in this column") for note in notes)


def test_an_option_within_the_protocol_is_named(make_record):
    one = {"x": scores(0.5, 0.5)}
    usual = {"options": {"widths": [1, 2], "map_size": None}}
    other = {"options": {"widths": [1, 3], "map_size": 518}}
    records = [make_record("CLIP", name, one, protocol=usual) for name in ("btad", "mpdd")]
    records.append(make_record("CLIP", "sdd", one, protocol=other))
    notes = cell_of(make_table(records, "image"), "SDD", "CLIP").notes
    assert notes == ("options.widths is [1, 3], elsewhere in this column [1, 2]",)


def test_variants_and_options_are_columns_of_their_own(mixed_run):
    texts = [column.label for column in make_table(mixed_run, "image", datasets=["visa"]).columns]
    assert texts == [
        "CLIP",
        "AnomalyCLIP",
        "FAPrompt (cap)",
        "FAPrompt (official)",
        "FAPrompt (paper)",
        "FAPrompt (paper) n_prompts=1",
    ]


def test_what_the_paper_has_not_comes_last(mixed_run):
    table = make_table(mixed_run, "image")
    assert table.columns[-1].label.startswith("My")
    assert [row.label for row in table.rows][-2:] == ["Acme & Sons", "synthetic"]


def test_best_and_second_best_are_marked_and_ties_share(make_record):
    values = {"CLIP": 0.9001, "CoOp": 0.8999, "AnoVL": 0.85, "WinCLIP": 0.7}
    records = [make_record(name, "btad", {"x": scores(v, v)}) for name, v in values.items()]
    table = make_table(records, "image")
    ranks = {
        column.label: cell.numbers[0].rank
        for column, cell in zip(table.columns, table.rows[0].cells, strict=True)
    }
    assert ranks == {"CLIP": 1, "CoOp": 1, "AnoVL": 2, "WinCLIP": 0}


def test_a_method_without_rivals_is_not_best(make_record):
    table = make_table([make_record("CLIP", "btad", {"x": scores(0.9, 0.8)})], "image")
    assert [n.rank for n in table.rows[0].cells[0].numbers] == [0, 0]


def test_means_cover_only_what_all_methods_have(make_record):
    datasets = {"visa": 0.8, "btad": 0.6, "mpdd": 0.4}
    records = [make_record("CLIP", name, {"x": scores(v, v)}) for name, v in datasets.items()]
    records += [make_record("CoOp", name, {"x": scores(0.5, 0.5)}) for name in ("visa", "btad")]
    records.append(make_record("AnoVL", "mpdd", error="broken"))
    table = make_table(records, "image", published=True)
    (mean,) = [row for row in table.rows if row.summary]
    assert mean.label == "Mean of 2 of 8"
    assert "over VisA, BTAD" in mean.notes
    by_label = dict(zip((c.label for c in table.columns), mean.cells, strict=True))
    assert by_label["CLIP"].numbers[0].text == "70.0"
    assert by_label["CoOp"].numbers[0].text == "50.0"
    assert by_label["AnoVL"].numbers[0].text == DASH
    assert by_label["CLIP"].numbers[0].printed == pytest.approx((66.4 + 34.5) / 2)


def test_mvtec_ad_does_not_enter_the_industrial_mean(make_record):
    records = [
        make_record("CLIP", name, {"x": scores(v, v)})
        for name, v in {"mvtec_ad": 0.1, "visa": 0.5, "btad": 0.7}.items()
    ]
    (mean,) = [row for row in make_table(records, "image").rows if row.summary]
    assert mean.cells[0].numbers[0].text == "60.0"
    assert "without MVTecAD, as in the paper" in mean.notes


def test_the_released_pro_is_shown_on_request(mixed_run):
    exact = cell_of(make_table(mixed_run, "pixel"), "VisA", "CLIP")
    released = cell_of(make_table(mixed_run, "pixel", pro="official200"), "VisA", "CLIP")
    assert exact.numbers[1].text == "10.0"
    assert released.numbers[1].text == "9.0"
    names = make_table(mixed_run, "pixel", pro="official200").columns[0].names
    assert names == ("AUROC", "PRO (200 thresholds)")


def test_the_difference_is_that_of_the_figures_shown():
    assert Number(65.849, printed=65.9).delta_text == "-0.1"
    assert Number(65.94, printed=65.9).delta_text == "+0.0"
    assert Number(None, printed=65.9).delta_text == DASH
    assert Number(1.0).delta_text == DASH


@pytest.mark.parametrize(
    ("title", "variant", "model"),
    [(TITLES[title], variant, m) for (title, variant), m in published.model_of_variant().items()],
)
def test_variants_are_named_as_the_papers_models(make_record, title, variant, model):
    one = {"x": scores(0.5, 0.5)}
    table = make_table([make_record(title, "visa", one, variant=variant)], "ablation")
    assert [column.label for column in table.columns] == [model]
    assert model in published.ablation_models()
    other = make_table([make_record("Mine", "visa", one, variant=variant)], "ablation")
    assert [column.label for column in other.columns] == ["Mine"]


@pytest.fixture(scope="module")
def ensembles(tmp_path_factory):
    """Both ensembles as a run writes them, with their initial weights, scored on a few images."""
    from safetensors.torch import save_file
    from zsad.bench import create
    from zsad.bench.running.runner import run
    from zsad.bench.weights import load_backbone

    folder = tmp_path_factory.mktemp("ensembles")
    methods = []
    for variant in ("seeds", "prompts"):
        path = folder / f"{variant}.safetensors"
        method = create("anomalyclip_ensemble", load_backbone("tiny"), variant)
        save_file(method.learned_state(), path)
        entry = {"name": "anomalyclip_ensemble", "variant": variant, "checkpoint": str(path)}
        methods.append(entry)
    return read_records(run({"methods": methods, "out": folder / "run", "limit": 1, "gallery": 0}))


def test_each_ensemble_stands_beside_its_own_printed_numbers(ensembles):
    names = published.mean_datasets("image", "medical")
    assert {record.cell.variant for record in ensembles} == {"seeds", "prompts"}
    records = [
        dataclasses.replace(r, cell=dataclasses.replace(r.cell, dataset=name.lower()))
        for r in ensembles
        for name in names
    ]
    table = make_table(records, "ablation", published=True)
    labels = [column.label for column in table.columns]
    assert sorted(labels) == ["AnomalyCLIP Ensemble", "AnomalyCLIP Ensemble*"]
    (mean,) = [row for row in table.rows if row.group == "image, medical" and row.summary]
    printed = dict(zip(labels, mean.cells, strict=True))
    plain, star = printed["AnomalyCLIP Ensemble"], printed["AnomalyCLIP Ensemble*"]
    assert [n.printed for n in plain.numbers] == [89.3, 91.3]
    assert [n.printed for n in star.numbers] == [88.8, 91.0]


def test_every_variant_of_the_ablation_exists():
    from zsad.bench.registry import method_class

    for title, variant in published.model_of_variant():
        method = method_class(TITLES[title].lower().replace(" ", "_"))
        assert method.title == TITLES[title]
        assert variant in method.variants


def test_an_ablation_is_not_set_beside_the_whole_method(mixed_run):
    table = make_table(mixed_run, "image", published=True)
    assert cell_of(table, "VisA", "FAPrompt (cap)").numbers[0].printed is None
    assert cell_of(table, "VisA", "FAPrompt (paper)").numbers[0].printed == 84.5


def test_methods_without_a_common_dataset_have_no_mean(mixed_run):
    assert not any(row.summary for row in make_table(mixed_run, "image").rows)


def test_a_limited_run_says_so(make_record):
    record = make_record("CLIP", "btad", {"x": scores(0.5, 0.5)}, protocol={"limit": 8})
    (remark,) = make_table([record], "image").remarks
    assert remark == "Only the first 8 images of each category and label were scored."


def test_a_limit_of_what_was_learned_from_is_told(make_record):
    limited = {"protocol": {"auxiliary_limit": 3}}
    record = make_record("CoOp", "btad", {"x": scores(0.5, 0.5)}, **limited)
    (remark,) = make_table([record], "image").remarks
    assert "learned from the first 3 images of each category and label" in remark
    matrix = arrange([record])
    assert any("at most 3 images" in notice for notice in notices(matrix))
    assert not is_comparable(matrix, matrix.methods[0], matrix.datasets[0])


def test_printed_numbers_stand_beside_the_backbone_that_was_used(mixed_run):
    remarks = make_table(mixed_run, "image", delta=True).remarks
    assert any("the backbone here: ViT-L-14-336, ViT-B-16-plus-240" in r for r in remarks)


@pytest.mark.parametrize("layout", ["image", "pixel", "breakdown", "ablation"])
def test_differences_to_printed_numbers_name_the_page_on_fidelity(mixed_run, layout):
    told = [
        "docs/fidelity.md" in " ".join(make_table(mixed_run, layout, delta=d).remarks)
        for d in (False, True)
    ]
    assert told == [False, True]


def test_doubtful_printed_values_carry_a_footnote(make_record):
    records = [make_record("CoOp", "brainmri", {"x": scores(0.613, 0.6)})]
    plain = make_table(records, "image")
    shown = make_table(records, "image", published=True)
    assert not plain.footnotes
    assert any("doubtful" in text for text in shown.footnotes.values())


def test_breakdown_has_the_papers_categories_and_means(paper_run):
    table = make_table(paper_run, "breakdown", datasets=["visa"], metrics=["pixel_pro"])
    assert [row.label for row in table.rows if row.label != "visa"] == [
        *published.categories("VisA"),
        "mean",
    ]
    place = published.models().index("FAPrompt")
    assert table.rows[-1].cells[place].numbers[0].text == "87.5"
    assert table.rows[-1].cells[place].numbers[0].printed == 87.5


def test_complexity_stands_beside_table_six(mixed_run):
    table = make_table(mixed_run, "complexity", published=True)
    rows = {row.label: row for row in table.rows}
    assert rows["CLIP"].cells[4].numbers[0].text == "50.0"  # (2.0 + 0.5) s over 50 images
    assert rows["AnomalyCLIP"].cells[0].numbers[0].text == "5555200"
    assert rows["AnomalyCLIP"].cells[0].numbers[0].printed == 5555200
    assert rows["WinCLIP"].cells[4].numbers[0].printed == 227.5


def test_ablation_models_are_known_by_their_variant(mixed_run):
    table = make_table(mixed_run, "ablation", datasets=["visa"], published=True)
    assert [column.label for column in table.columns] == [
        "AnomalyCLIP",
        "+CAP",
        "FAPrompt (official)",
        "FAPrompt (paper)",
        "FAPrompt (paper) n_prompts=1",
    ]
    row = next(row for row in table.rows if row.group == "image, industrial")
    assert row.cells[1].numbers[0].printed == 83.8


def test_complete_means_of_the_ablation_stand_beside_table_three(paper_run):
    table = make_table(paper_run, "ablation", published=True)
    assert [column.label for column in table.columns] == ["AnomalyCLIP", "FAPrompt"]
    means = {row.group: row.cells for row in table.rows if row.summary}
    assert [n.printed for n in means["image, industrial"][1].numbers] == [88.2, 87.2]
    assert [n.printed for n in means["image, medical"][0].numbers] == [87.7, 90.6]
    assert [n.text for n in means["image, medical"][0].numbers] == ["88.1", "90.9"]
    assert [n.printed for n in means["pixel, medical"][1].numbers] == [85.4, 65.9]


def test_dataset_counts_stand_beside_tables_four_and_five(make_record):
    records = [
        make_record("CLIP", "sdd", {"sdd": scores(0.5)}, counts=(286, 54)),
        make_record("CLIP", "mvtec_ad", {"tile": scores(0.5)}, counts=(33, 84)),
    ]
    table = make_table(records, "datasets", delta=True)
    rows = {(row.group, row.label): row.cells for row in table.rows}
    assert [c.numbers[0].delta_text for c in rows["SDD", "all"][4:]] == ["+0", "+0"]
    assert rows["MVTecAD", "tile"][5].numbers[0].delta_text == "+1"
    assert rows["MVTecAD", "all"][3].numbers[0].delta_text == "-14"


def test_records_with_different_images_are_told_in_the_counts(make_record):
    records = [
        make_record("CLIP", "sdd", {"sdd": scores(0.5)}, counts=(286, 54)),
        make_record("CoOp", "sdd", {"sdd": scores(0.5)}, counts=(10, 10)),
    ]
    (row,) = make_table(records, "datasets").rows
    assert row.notes == ("records of this dataset differ in their images",)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"layout": "imag"}, "did you mean image"),
        ({"layout": "pixel", "pro": "fast"}, "exact"),
        ({"layout": "image", "datasets": ["viso"]}, "did you mean visa"),
        ({"layout": "breakdown", "metrics": ["auroc"]}, "image-auroc"),
    ],
)
def test_an_unknown_name_is_answered_with_the_known_ones(mixed_run, arguments, words):
    with pytest.raises(UsageError, match=words):
        make_table(mixed_run, **arguments)


def test_an_empty_run_has_no_table():
    with pytest.raises(UsageError, match="no records"):
        make_table([], "image")


def test_an_unknown_format_is_answered_with_the_known_ones(mixed_run):
    with pytest.raises(UsageError, match="latex"):
        render(make_table(mixed_run, "image"), "latx")


HOSTILE = '<script>alert("x")</script>|`_*[a](b)\\&%$#{}^~\n=1'


def hostile_table():
    cell = TableCell((Number(1.0),), notes=(HOSTILE,))
    row = Row(HOSTILE, (cell, TableCell(text=HOSTILE)), HOSTILE, (HOSTILE,))
    return Table("image", HOSTILE, ("A", "B"), (Column(HOSTILE), Column("c")), (row,), (HOSTILE,))


class Tags(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.seen = []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))


def test_html_escapes_whatever_a_record_says():
    parser = Tags()
    parser.feed(render(hostile_table(), "html"))
    allowed = {
        "figure",
        "table",
        "caption",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "sup",
        "figcaption",
        "p",
    }
    assert {tag for tag, _ in parser.seen} <= allowed
    assert all(set(attrs) <= {"class", "data-layout", "scope"} for _, attrs in parser.seen)


def test_markdown_rows_keep_their_columns_whatever_a_record_says():
    lines = render(hostile_table(), "md").splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in rows} == {5}
    assert "<script" not in render(hostile_table(), "md").replace("\\<", "")


def test_latex_keeps_its_columns_whatever_a_record_says():
    text = render(hostile_table(), "latex")
    (columns,) = re.findall(r"\\begin\{tabular\}\{([lc]+)\}", text)
    lines = [line for line in text.splitlines() if line.endswith("\\\\")]
    whole = [line for line in lines if not line.startswith(r"\multicolumn")]
    assert {len(re.findall(r"(?<!\\)&", line)) for line in whole} == {len(columns) - 1}
    assert len(re.findall(r"(?<!\\)[%#$]", text)) == 1  # the comment in the first line


@pytest.mark.parametrize("label", ["=HYPERLINK(1)", "+1+cmd", "-1+cmd|x", "@SUM(A1)"])
def test_csv_cells_are_no_formulas(label):
    text = render(make_csv_table(label), "csv")
    (header, row) = list(csv.reader(io.StringIO(text)))
    assert len(header) == len(row)
    assert row[0] == f"'{label}"


def test_numbers_of_csv_cells_stay_numbers():
    assert csv_text("-0.5") == "-0.5"
    assert csv_text("-inf") == "-inf"
    assert csv_text("\t=1") == "'\t=1"
    rows = (Row("a", (TableCell((Number(-1.0),)),)),)
    text = render(Table("image", "", ("A",), (Column("c"),), rows), "csv")
    assert list(csv.reader(io.StringIO(text)))[1][1] == "-1.0"


def make_csv_table(label):
    return Table("image", "", ("A",), (Column("c"),), (Row(label, (TableCell((Number(1.0),)),)),))


def test_csv_holds_every_number_in_its_own_column(mixed_run):
    text = render(make_table(mixed_run, "image", published=True, delta=True), "csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    visa = next(row for row in rows if row["Dataset"] == "VisA")
    assert visa["CLIP AUROC"] == "60.0"
    assert visa["CLIP AUROC printed"] == "66.4"
    assert visa["CLIP AUROC difference"] == "-6.4"
    assert visa["AnomalyCLIP AUROC sd"] == "1.0"
    assert visa["WinCLIP AUROC"] == ""
    assert "WinCLIP: not run" in visa["notes"]


def test_every_mark_has_its_footnote(mixed_run):
    for layout in WITHOUT_SWEEP:
        text = render(make_table(mixed_run, layout, published=True), "md")
        used = set(re.findall(r"\[\^(\w+)\](?!:)", text))
        defined = set(re.findall(r"^\[\^(\w+)\]:", text, re.MULTILINE))
        assert used == defined


def test_layouts_have_marks_of_their_own():
    letters = {LAYOUT_MARKS.get(layout, layout[0]) for layout in LAYOUTS}
    assert len(letters) == len(LAYOUTS)


def test_normalize_name_compares_names():
    assert normalize_name("CLIP-AC") == normalize_name("clip_ac") != normalize_name("clip")


texts = st.text(max_size=6)
plain_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(0, 1) | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)
names = st.sampled_from(["limit", "backbone", "dataset_title", "domain", "options", "map_size"])


@settings(max_examples=15, deadline=None)
@given(
    protocol=st.dictionaries(names | texts, plain_values, max_size=4),
    options=st.dictionaries(texts, plain_values, max_size=2),
    title=texts,
    dataset=st.sampled_from(["visa", "synthetic"]) | texts,
    metrics=st.dictionaries(
        st.sampled_from(["image_auroc", "image_ap", "pixel_pro"]), st.floats(0, 1)
    ),
    provenance=st.dictionaries(st.just("device"), plain_values),
)
def test_whatever_a_record_holds_every_layout_is_written_or_refused_in_words(
    make_record, protocol, options, title, dataset, metrics, provenance
):
    odd = make_record(
        title,
        dataset,
        {"x": metrics},
        protocol=protocol,
        options=options,
        provenance=provenance,
    )
    records = [odd, make_record("CLIP", "visa", {"x": {"image_auroc": 0.5}})]
    for layout in LAYOUTS:
        try:
            table = make_table(records, layout, published=True, delta=True)
        except UsageError as error:
            assert re.search("no dataset has a value|no category|no option", str(error))
            continue
        for fmt in FORMATS:
            assert render(table, fmt)


PARTIAL = Completeness(2, 15, 15, missing_categories=("bottle",), differing_categories=("pcb1",))


def partial(record, **changes):
    return dataclasses.replace(record, completeness=dataclasses.replace(PARTIAL, **changes))


@pytest.fixture
def gappy(make_record):
    """Three datasets of a domain, of which VisA is incomplete."""
    one = {"pcb1": scores(0.9, 0.9), "pcb2": scores(0.8, 0.8)}
    records = [
        make_record(title, dataset, one)
        for title in ("CLIP", "FAPrompt")
        for dataset in ("visa", "btad", "mpdd")
    ]
    return [partial(r) if r.cell.dataset == "visa" else r for r in records]


def test_an_incomplete_dataset_is_marked_and_stays_out_of_differences_and_means(gappy):
    table = make_table(gappy, "image", published=True, delta=True)
    cell = cell_of(table, "VisA", "CLIP")
    assert cell.notes == ("incomplete: 1 of 15 categories missing",)
    assert cell.numbers[0].text == "85.0"
    assert cell.numbers[0].printed is None
    assert cell_of(table, "BTAD", "CLIP").numbers[0].printed == 34.5
    (mean,) = [row for row in table.rows if row.summary]
    assert mean.label == "Mean of 2 of 8"
    assert "over BTAD, MPDD" in mean.notes
    allowed = make_table(gappy, "image", published=True, delta=True, allow_incomplete=True)
    cell = cell_of(allowed, "VisA", "CLIP")
    assert cell.notes == ("incomplete: 1 of 15 categories missing",)
    assert cell.numbers[0].printed == 66.4
    assert [row.label for row in allowed.rows if row.summary] == ["Mean of 3 of 8"]


def test_the_categories_of_an_incomplete_dataset_that_are_whole_stand_beside_print(gappy):
    table = make_table(gappy, "breakdown", published=True, datasets=["visa"])
    printed = {
        row.label: (row.cells[0].numbers[0].printed, row.cells[0].notes)
        for row in table.rows
        if row.group == "VisA image-level AUROC"
    }
    assert printed["pcb1"] == (None, ("not the category's images as released",))
    assert printed["pcb2"][0] is not None
    assert printed["pcb2"][1] == ()
    assert printed["mean"] == (None, ("incomplete: 1 of 15 categories missing",))


def test_what_was_learned_from_an_incomplete_dataset_is_marked_too(make_record):
    record = make_record("FAPrompt", "visa", {"a": scores(0.5, 0.5)})
    learned = Auxiliary("mvtec_ad", "test", 83, "ab", PARTIAL)
    table = make_table([dataclasses.replace(record, auxiliary=learned)], "image", published=True)
    cell = cell_of(table, "VisA", "FAPrompt")
    assert cell.notes == ("learned from mvtec_ad, incomplete: 1 of 15 categories missing",)
    assert cell.numbers[0].printed is None


def test_chosen_categories_are_marked_as_chosen_and_unknown_counts_change_nothing(make_record):
    record = make_record("CLIP", "visa", {"pcb1": scores(0.5, 0.5)})
    plain = render(make_table([record], "image", published=True))
    chosen = Completeness(200, 200, 1, chosen_categories=("pcb1",), all_categories=12)
    table = make_table([dataclasses.replace(record, completeness=chosen)], "image", published=True)
    cell = cell_of(table, "VisA", "CLIP")
    assert cell.notes == ("chosen: 1 of 12 categories",)
    assert cell.numbers[0].printed == 66.4
    unknown = dataclasses.replace(record, completeness=Completeness(30))
    assert render(make_table([unknown], "image", published=True)) == plain
    assert make_table([unknown], "datasets").rows[-1].notes == ("counts unknown",)


@pytest.mark.parametrize("layout", ["image", "pixel", "breakdown", "ablation", "complexity"])
def test_a_checkpoint_of_undeclared_origin_has_a_footnote_in_every_table(make_record, layout):
    one = {"pcb1": scores(0.5, 0.5, 0.5, 0.5)}
    record = make_record("FAPrompt", "visa", one, protocol={"auxiliary": "undeclared"})
    table = make_table([record], layout)
    assert any("undeclared dataset" in note for note in table.footnotes.values())


def test_chosen_metrics_are_the_columns_of_image_and_pixel(mixed_run):
    records = [
        dataclasses.replace(
            r,
            categories=[
                dataclasses.replace(c, metrics={**c.metrics, "image_f1max": 0.5})
                for c in r.categories
            ],
        )
        for r in mixed_run
    ]
    table = make_table(records, "image", metrics=["image_f1max", "image_auroc"], published=True)
    assert table.title == "Image-level (F1-max, AUROC) in percent"
    numbers = cell_of(table, "VisA", "CLIP").numbers
    assert [(n.text, n.printed) for n in numbers] == [("50.0", None), ("60.0", 66.4)]
    (pro,) = cell_of(make_table(records, "pixel", metrics=["pixel_pro"]), "VisA", "CLIP").numbers
    assert pro.text == "10.0"
    with pytest.raises(UsageError, match="layout 'image' shows image-level metrics, not pixel_pro"):
        make_table(records, "image", metrics=["pixel_pro"])


def test_a_layout_without_metrics_refuses_them_by_name(mixed_run):
    with pytest.raises(UsageError, match="layout 'datasets' shows no metrics"):
        make_table(mixed_run, "datasets", metrics=["image_auroc"])


def test_an_ablation_shows_the_chosen_metrics_of_one_level_or_of_both(mixed_run):
    one = make_table(mixed_run, "ablation", metrics=["pixel_pro"])
    assert one.title == "Ablation: (PRO) at pixel level, in percent"
    assert one.columns[0].names == ("PRO",)
    both = make_table(mixed_run, "ablation", metrics=["image_ap", "pixel_pro"])
    assert both.columns[0].names == ("AP/PRO",)
    with pytest.raises(UsageError, match="choose as many of each"):
        make_table(mixed_run, "ablation", metrics=["image_ap", "pixel_pro", "pixel_auroc"])


def test_complexity_shows_means_of_the_chosen_metrics_over_common_datasets(make_record):
    records = [
        make_record("CLIP", "visa", {"a": scores(0.6, 0.5)}),
        make_record("CLIP", "btad", {"a": scores(0.8, 0.5)}),
        make_record("WinCLIP", "visa", {"a": scores(0.7, 0.5)}),
    ]
    table = make_table(records, "complexity", metrics=["image_auroc", "pixel_aupimo"])
    assert [column.label for column in table.columns[-2:]] == ["image AUROC", "pixel AUPIMO"]
    shown = [[cell.numbers[0].text for cell in row.cells[-2:]] for row in table.rows]
    assert shown == [["60.0", DASH], ["70.0", DASH]]
    assert "no dataset where every method" in table.rows[0].cells[-1].notes[0]


def test_a_metric_that_a_record_lacks_was_not_measured(make_record):
    old = make_record("CLIP", "visa", {"a": scores(0.6, 0.5, 0.5, 0.5)})
    table = make_table([old], "pixel", metrics=["pixel_auroc", "pixel_aupimo"])
    cell = cell_of(table, "VisA", "CLIP")
    assert cell.numbers[1].value is None
    assert NOT_MEASURED in cell.notes
    partly = dataclasses.replace(old.categories[0], category="b", metrics={"pixel_aupimo": 0.4})
    record = dataclasses.replace(old, categories=[*old.categories, partly])
    cell = cell_of(make_table([record], "pixel", metrics=["pixel_aupimo"]), "VisA", "CLIP")
    assert cell.numbers[0].text == "40.0"
    assert f"over 1 of 2 categories (a: {NOT_MEASURED})" in cell.notes


def test_a_footnote_names_what_a_threshold_was_learned_from(make_record):
    record = make_record("CLIP", "visa", {"a": {"image_f1_learned": 0.6, "image_f1max": 0.8}})
    threshold = Threshold(0.25, "greatest F1 on Synthetic")
    results = [
        dataclasses.replace(r, thresholds={"image_f1_learned": threshold})
        for r in record.categories
    ]
    own = dataclasses.replace(record, categories=results)
    table = make_table([own], "image", metrics=["image_f1_learned", "image_f1max"])
    assert "threshold: greatest F1 on Synthetic" in cell_of(table, "VisA", "CLIP").notes
    other = make_table([own], "image", metrics=["image_f1max"])
    assert not any("threshold" in note for note in cell_of(other, "VisA", "CLIP").notes)


@pytest.mark.parametrize("layout", WITHOUT_SWEEP)
def test_brackets_and_braces_are_explained_only_where_there_are_any(make_record, layout):
    own = make_record("Mine", "synthetic", {"a": scores(0.5, 0.5, 0.5, 0.5)})
    text = render(make_table([own], layout, published=True, delta=True))
    for word in ("bracket", "brace", "printed"):
        assert word not in text


def test_csv_keeps_the_reason_of_what_is_undefined(mixed_run):
    rows = list(csv.DictReader(io.StringIO(render(make_table(mixed_run, "image"), "csv"))))
    (colon,) = [row for row in rows if row["Dataset"] == "CVC-ColonDB"]
    assert colon["CLIP AUROC"] == ""
    assert colon["notes"] == "undefined: there is no normal image"
    text = render(make_table(mixed_run, "breakdown", datasets=["brainmri"]), "csv")
    assert "undefined: the dataset has no pixel-level masks" in text


def test_json_holds_numbers_and_notes(mixed_run):
    raw = json.loads(render(make_table(mixed_run, "image", published=True), "json"))
    row = next(row for row in raw["rows"] if row["label"] == "VisA")
    assert row["cells"][0]["numbers"][0]["value"] == pytest.approx(60)
    assert row["cells"][0]["numbers"][0]["printed"] == 66.4


def test_no_reason_of_an_erratum_points_to_what_a_table_does_not_show():
    for erratum in published.errata():
        assert not re.search(r"as above|same remark|source column", erratum.reason), erratum.reason


def test_methods_and_datasets_are_chosen_by_any_of_their_names(make_record):
    values = {"x": {"image_auroc": 0.5}}
    records = [
        make_record("CLIP", "mvtec_ad", values),
        make_record("CLIP", "visa", values, variant="clip_ac"),
    ]
    matrix = arrange(records)
    labels = [method.label for method in matrix.methods]
    assert labels == ["CLIP (clip-ac)", "CLIP (official)"]
    for name in ("clip@clip-ac", "CLIP (clip-ac)"):
        assert [method.label for method in matrix.select_methods([name])] == labels[:1]
    assert len(matrix.select_methods(["clip"])) == 2
    for name in ("MVTecAD", "mvtec-ad"):
        assert [dataset.name for dataset in matrix.select_datasets([name])] == ["mvtec_ad"]
    with pytest.raises(UsageError, match=r"clip@clip.ac"):
        matrix.select_methods(["clip@clip_ad"])
