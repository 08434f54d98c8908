"""The numbers that the FAPrompt paper prints, as objects; the CSV files are in results/published.

All values are percent with one decimal, as printed. Names of methods, datasets and categories are
the paper's; `normalize_name` compares them with registry names. What is doubtful is listed beside
them.
"""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, TypeVar, get_origin, get_type_hints

from ..errors import ZsadError, reading
from ..metric_table import HEADLINES, LEVELS, METRICS, Level, of_level
from ..names import normalize_name
from ..registry import NAMESPACE

PACKAGE = f"{NAMESPACE}.published"
DATASET_MEAN = "MEAN"  # the category that holds the mean row of Tables 12-19
MAIN_TABLE: Mapping[Level, int] = {"image": 1, "pixel": 2}
LEFT_OUT_OF_MEANS = "MVTecAD"  # the paper's industrial averages exclude it
DOUBTFUL = ("doubtful", "paper_conflict", "paper_or_ocr", "ocr_lost")

T = TypeVar("T")


class PublishedError(ZsadError):
    """The files of printed numbers are missing or broken."""


@dataclass(frozen=True)
class Printed:
    """One number as printed.

    Attributes:
        table: the paper's table number.
        dataset: as printed; "" for a mean over a domain.
        domain: industrial or medical; "" in Tables 12-19.
        category: lower case, `DATASET_MEAN`, or "" in tables without categories.
        model: the column, as printed in Tables 1 and 2, or the ablation's row in Table 3.
        metric: name as in records ("pixel_pro").
        value: percent.
    """

    table: int
    dataset: str
    domain: str
    category: str
    model: str
    metric: str
    value: float

    @property
    def level(self) -> Level:
        """The level of the metric."""
        return METRICS[self.metric].level


@dataclass(frozen=True)
class PrintedCost:
    """A row of Table 6: on an RTX 3090, training per batch of 8, inference per image.

    Attributes:
        parameters: number of learned parameters.
        train_ms, infer_ms: milliseconds.
    """

    method: str
    parameters: int
    train_ms: float
    infer_ms: float


@dataclass(frozen=True)
class PrintedCounts:
    """A row of Tables 4 and 5; a text that a table does not print is "".

    Attributes:
        n_categories: a whole number, in Table 5 alone.
    """

    dataset: str
    category: str
    modality: str
    type: str
    n_categories: str
    test_normal: int
    test_anomalous: int


@dataclass(frozen=True)
class Erratum:
    """Why a printed value may not be what its authors measured.

    Attributes:
        table, dataset: numbers and names that it concerns; semicolons stand between names.
        row: category or row; "" is the dataset's own.
        method: the one that it concerns; "all" for every one.
        metric: words like "image auroc, ap".
        kind: ocr_fixed, kept, doubtful, paper_conflict, ...
    """

    table: str
    dataset: str
    row: str
    method: str
    metric: str
    kind: str
    reason: str


@cache
def folder() -> Path:
    """The folder of the CSV files, in a checkout or in an installed package.

    Raises:
        PublishedError: the installation lacks them.
    """
    spec = importlib.util.find_spec(PACKAGE)
    places = (spec and spec.submodule_search_locations) or ()
    for place in map(Path, places):
        if (place / "image_level.csv").is_file():
            return place
    raise PublishedError(f"the printed numbers ({PACKAGE}) are not installed: reinstall zsad")


@cache
def main_results() -> tuple[Printed, ...]:
    """Tables 1 and 2 in the paper's order."""
    return tuple(
        _printed(row, row["method"], metric, row[metric.removeprefix(f"{level}_")])
        for level in LEVELS
        for row in rows(f"{level}_level.csv")
        for metric in of_level(level, HEADLINES)
    )


@cache
def ablations() -> tuple[Printed, ...]:
    """Tables 20 and 21 (per dataset), 3 and 10 (means over domains: dataset "")."""
    return _pairs("ablation.csv", "model")


@cache
def full_shot() -> tuple[Printed, ...]:
    """Table 7: zero-shot methods, and others that learn from all normal images of the target."""
    return _pairs("full_shot.csv", "method")


@cache
def full_shot_settings() -> Mapping[str, str]:
    """The models of Table 7 in its order, each with its setting: zero-shot or full-shot."""
    return {row["method"]: row["setting"] for row in rows("full_shot.csv")}


@cache
def tcp() -> tuple[Printed, ...]:
    """Table 8: means over domains."""
    return _pairs("tcp.csv", "method")


@cache
def averaging() -> tuple[Printed, ...]:
    """Table 9: means over domains. Only FAPrompt's are in the text, as they stand in Table 3."""
    return _pairs("averaging.csv", "variant")


@cache
def hyperparameters() -> tuple[Printed, ...]:
    """Table 11: means over domains; models are "token_length=2" and the like."""
    named = [{**r, "model": f"{r['parameter']}={r['value']}"} for r in rows("token_hparams.csv")]
    return _pairs(named, "model")


def _pairs(source: str | Iterable[Mapping[str, str]], model: str) -> tuple[Printed, ...]:
    """The two numbers of each row of a file, without those that are not in the text.

    Args:
        source: a file, or its rows.
        model: the column that names the model.
    """
    return tuple(
        _printed(row, row[model], f"{row['level']}_{name}", value)
        for row in (rows(source) if isinstance(source, str) else source)
        for name, value in {
            "auroc": row["auroc"],
            row["second_metric_name"]: row["second_metric"],
        }.items()
        if value
    )


@cache
def breakdown() -> tuple[Printed, ...]:
    """Tables 12-19, the mean rows included."""
    return tuple(
        _printed(row, row["method"], f"{row['level']}_{row['metric']}", row["value"])
        for row in rows("breakdown.csv")
    )


def _printed(row: Mapping[str, str], model: str, metric: str, value: str) -> Printed:
    dataset, domain, category = (row.get(name, "") for name in ("dataset", "domain", "category"))
    return Printed(int(row["table"]), dataset, domain, category, model, metric, float(value))


@cache
def everything() -> tuple[Printed, ...]:
    """All numbers of metrics."""
    read = (main_results, ablations, breakdown, full_shot, tcp, averaging, hyperparameters)
    return tuple(number for numbers_of in read for number in numbers_of())


@cache
def numbers(*tables: int) -> Mapping[tuple[str, str, str, str], Printed]:
    """The numbers of some tables by (dataset or domain, category, model, metric).

    The names of dataset and category are normalized; a dataset's own category is "".
    """
    found = {}
    for printed in everything():
        if printed.table in tables:
            place = normalize_name(printed.dataset or printed.domain)
            category = normalize_name(printed.category.removeprefix(DATASET_MEAN))
            found[place, category, printed.model, printed.metric] = printed
    return found


@cache
def costs() -> tuple[PrintedCost, ...]:
    """Table 6."""
    return _objects(PrintedCost, "complexity.csv")


@cache
def counts() -> tuple[PrintedCounts, ...]:
    """Tables 4 and 5."""
    return _objects(PrintedCounts, "dataset_stats.csv")


@cache
def errata() -> tuple[Erratum, ...]:
    """All values that are doubtful, were repaired in reading, or contradict one another."""
    return _objects(Erratum, "suspicious_values.csv")


@cache
def model_of_variant() -> Mapping[tuple[str, str], str]:
    """(Normalized title of a method, variant) -> the model of Tables 3, 9, 10, 20 and 21."""
    return {
        (normalize_name(row["method"]), row["variant"]): row["model"]
        for row in rows("variants.csv")
    }


def erratum_of(table: int, dataset: str, model: str, category: str = "") -> Erratum | None:
    """What is doubtful about a printed value, None where nothing is. Names in any spelling.

    Values that were only hard to read and are certain now are not doubtful.
    """
    for erratum in errata():
        names = [part.removesuffix("(Base)") for part in erratum.method.split(" and ")]
        if (
            erratum.kind in DOUBTFUL
            and erratum.table == str(table)
            and normalize_name(dataset) in map(normalize_name, erratum.dataset.split(";"))
            and normalize_name(erratum.row) == normalize_name(category)
            and (names == ["all"] or normalize_name(model) in map(normalize_name, names))
        ):
            return erratum
    return None


def models() -> list[str]:
    """The methods of Tables 1 and 2 in the order of their columns."""
    return _unique(printed.model for printed in main_results())


def ablation_models() -> list[str]:
    """The models of the ablation in the paper's order: base, parts, whole; then the others."""
    per_dataset = [p.model for p in ablations() if p.table == 20]
    averaged = [p.model for p in ablations()]
    return _unique([*per_dataset, *averaged, *(row["variant"] for row in rows("averaging.csv"))])


def datasets(level: Level | None = None) -> list[str]:
    """The datasets of Table 1 (image), Table 2 (pixel), or of both, in the paper's order."""
    return _unique(p.dataset for p in main_results() if level in (None, p.level))


def categories(dataset: str) -> list[str]:
    """The categories of Tables 12-19 in their order, none for other datasets."""
    return _unique(
        row.category
        for row in breakdown()
        if normalize_name(row.dataset) == normalize_name(dataset) and row.category != DATASET_MEAN
    )


def domain_of(dataset: str) -> str | None:
    """Industrial or medical, None for a dataset that the paper does not have."""
    name = normalize_name(dataset)
    return next((p.domain for p in main_results() if normalize_name(p.dataset) == name), None)


def mean_datasets(level: Level, domain: str) -> list[str]:
    """The datasets that the paper's average over a domain covers."""
    return [
        name for name in datasets(level) if domain_of(name) == domain and name != LEFT_OUT_OF_MEANS
    ]


def _objects(kind: type[T], name: str) -> tuple[T, ...]:
    return tuple(read_object(kind, row) for row in rows(name))


def read_object(kind: type[T], row: Mapping[str, str]) -> T:
    """A row as an object: a field is the column of its name, in the field's type."""
    types = get_type_hints(kind)
    return kind(**{f: row[f] if get_origin(t) is Literal else t(row[f]) for f, t in types.items()})


def rows(name: str) -> list[dict[str, str]]:
    """The rows of a file of printed numbers.

    Raises:
        PublishedError: it cannot be read.
    """
    path = folder() / name
    with reading(path, "table", PublishedError), path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
