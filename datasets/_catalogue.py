"""The facts of the datasets: `facts.toml` and `categories.csv`, one table for all of them."""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from ..bench.dataset import CategoryInfo, Counts, Dataset, Source

FOLDER = Path(__file__).parent
COUNTED = ("test_normal", "test_anomalous", "train_normal", "train_anomalous")


def take_facts(dataset: type[Dataset]) -> None:
    """Give a class what the tables have under its name: the attributes of `Dataset` that are facts.

    Categories are in the paper's order; where a number of theirs is unknown, the cell is empty.
    """
    facts = dict(known_facts()[dataset.name])
    dataset.source = Source(**facts.pop("source"))
    if "total" in facts:
        facts["total"] = Counts(**facts["total"])
    for name, value in facts.items():
        setattr(dataset, name, tuple(value) if isinstance(value, list) else value)
    categories: dict[str, CategoryInfo] = {}
    for row in _categories():
        if row["dataset"] == dataset.name:
            counts = {part: int(row[part]) if row[part] else None for part in COUNTED}
            names = row["official_name"], row["readable_name"]
            categories[row["category"]] = CategoryInfo(*names, Counts(**counts))
    dataset.categories = categories


@cache
def known_facts() -> Mapping[str, Mapping[str, Any]]:
    """The facts of each dataset of the tables, by its name, without the categories."""
    return tomllib.loads((FOLDER / "facts.toml").read_text(encoding="utf-8"))


@cache
def _categories() -> Sequence[Mapping[str, str]]:
    with (FOLDER / "categories.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
