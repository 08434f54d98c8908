"""What a copy holds of its dataset, and what was chosen of it."""

import dataclasses
import json
import shutil
from typing import ClassVar

import pytest
from zsad.bench.data.check import check
from zsad.bench.data.completeness import Completeness, completeness
from zsad.bench.dataset import CategoryInfo, Counts, Dataset, Sample
from zsad.bench.json_fields import from_json
from zsad.bench.registry import dataset_class, load_dataset


class Made(Dataset):
    """Two categories of two normal and three anomalous images; `held` is what is on disk."""

    name = "made"
    title = "Made"
    categories: ClassVar = {
        "a": CategoryInfo("a", "a", Counts(2, 3, 4, 0)),
        "b": CategoryInfo("b", "b", Counts(2, 3, 4, 0)),
    }
    held: ClassVar = {"a": (2, 3), "b": (2, 3)}

    def samples(self, split="test"):
        numbers = self.held if split == "test" else {}
        return [
            Sample(self.root / f"{category}{label}{i}.png", label, category, category)
            for category, pair in numbers.items()
            for label, number in enumerate(pair)
            for i in range(number)
        ]


def made(**held):
    dataset = Made()
    dataset.held = held
    return completeness(dataset)


def test_a_complete_copy_has_nothing_to_tell():
    whole = made(a=(2, 3), b=(2, 3))
    assert (whole.complete, whole.found, whole.expected, whole.words()) == (True, 10, 10, "")


@pytest.mark.parametrize(
    ("held", "words"),
    [
        ({"a": (2, 3)}, "incomplete: 1 of 2 categories missing"),
        ({"a": (2, 3), "b": (2, 2)}, "incomplete: 9 of 10 images"),
        ({"a": (2, 3), "b": (2, 4)}, "not as released: 11 images, expected 10"),
        ({"a": (2, 3), "b": (3, 2)}, "not as released: other counts in 1 category"),
        ({"a": (1, 3), "b": (3, 3)}, "not as released: other counts in 2 categories"),
        ({"a": (2, 3), "b": (2, 3), "c": (1, 1)}, "not as released: 1 category more (c)"),
    ],
)
def test_a_copy_that_differs_says_how(held, words):
    part = made(**held)
    assert (part.complete, part.words()) == (False, words)


def test_own_categories_in_a_known_tree_have_no_known_counts():
    own = made(mine=(1, 1))
    assert (own.complete, own.expected, own.words()) == (None, None, "counts unknown")


def test_a_dataset_without_counts_says_so(tmp_path, trees):
    trees.own_categories(tmp_path / "parts")
    own = completeness(load_dataset("folder", tmp_path / "parts"))
    assert (own.complete, own.found, own.words()) == (None, 4, "counts unknown")


def test_a_limit_is_a_choice_where_it_cuts():
    dataset = Made()
    cut = completeness(dataset, limit=2)
    words = "chosen: at most 2 images per category and label"
    assert (cut.complete, cut.words()) == (True, words)
    assert completeness(dataset, limit=3).words() == ""


def test_both_splits_are_counted_where_both_are_learned_from():
    part = completeness(Made(), "all")
    assert (part.found, part.expected, part.words()) == (10, 18, "incomplete: 10 of 18 images")


def test_chosen_categories_are_a_choice_and_not_a_gap(tmp_path, trees):
    trees.mvtec(tmp_path / "mvtec")
    some = completeness(load_dataset("mvtec_ad", tmp_path))
    assert some.words() == "incomplete: 13 of 15 categories missing"
    chosen = completeness(load_dataset("mvtec_ad", tmp_path, categories=["bottle"]))
    assert (chosen.expected, chosen.missing_categories) == (83, ())
    assert chosen.words() == "incomplete: 6 of 83 images; chosen: 1 of 15 categories"


def test_options_that_change_the_counts_are_a_choice(tmp_path, trees):
    trees.sdd(tmp_path / "SDD")
    half = completeness(load_dataset("sdd", tmp_path, normal_test_fraction=0.5))
    assert (half.complete, half.words()) == (None, "chosen: normal_test_fraction=0.5")
    result = check(dataset_class("sdd"), tmp_path, options={"normal_test_fraction": 0.5})
    assert (result.status, result.problems) == ("ok", [])


def test_check_names_a_category_that_the_dataset_does_not_have(tmp_path, trees):
    trees.mvtec(tmp_path / "mvtec")
    shutil.copytree(tmp_path / "mvtec" / "bottle", tmp_path / "mvtec" / "mine")
    result = check(dataset_class("mvtec_ad"), tmp_path)
    assert "category mine is not one of MVTecAD" in result.problems


def test_the_plain_form_reads_back():
    part = made(a=(2, 3))
    assert from_json(Completeness, json.loads(json.dumps(dataclasses.asdict(part)))) == part
    assert from_json(Completeness, {"found": 3}) == Completeness(3)


@pytest.mark.parametrize(
    "raw", [[], {}, {"found": "3"}, {"found": True}, {"found": 3, "missing_categories": "a"}]
)
def test_a_plain_form_of_wrong_types_is_refused(raw):
    with pytest.raises((TypeError, ValueError), match=r"found|missing_categories|object"):
        from_json(Completeness, raw)
