"""The facts of the datasets: `sources.toml` and `categories.csv`, one table for all of them."""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from ..bench.dataset import CategoryInfo, Counts, Source

FOLDER = Path(__file__).parent
SPLITS = ("test_normal", "test_anomalous", "train_normal", "train_anomalous")


def source_of(dataset: str) -> Source:
    """Where a dataset comes from and on what terms, by its registry name."""
    return Source(**_sources()[dataset])


def categories_of(dataset: str) -> Mapping[str, CategoryInfo]:
    """The categories of a dataset in the paper's order; an unknown number is an empty cell."""
    categories: dict[str, CategoryInfo] = {}
    for row in _categories():
        if row["dataset"] == dataset:
            numbers = {split: int(row[split]) if row[split] else None for split in SPLITS}
            names = row["official_name"], row["readable_name"]
            categories[row["category"]] = CategoryInfo(*names, Counts(**numbers))
    return categories


@cache
def _sources() -> Mapping[str, Mapping[str, str]]:
    return tomllib.loads((FOLDER / "sources.toml").read_text(encoding="utf-8"))


@cache
def _categories() -> Sequence[Mapping[str, str]]:
    with (FOLDER / "categories.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
