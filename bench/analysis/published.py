"""The numbers that the FAPrompt paper prints, as objects; the CSV files are in results/published.

All values are percent with one decimal, as printed. Names of methods, datasets and categories are
the paper's; `normalize_name` compares them with registry names. What is doubtful is listed beside
them.
"""

from __future__ import annotations

import csv
import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..errors import ZsadError
from ..metric_table import HEADLINES, LEVELS, Level, of_level
from ..names import normalize_name
from ..registry import NAMESPACE

PACKAGE = f"{NAMESPACE}.published"
SECOND_OF: Mapping[Level, str] = {"image": "ap", "pixel": "pro"}
DATASET_MEAN = "MEAN"  # the category that holds the mean row of Tables 12-19
MAIN_TABLE: Mapping[Level, int] = {"image": 1, "pixel": 2}
LEFT_OUT_OF_MEANS = "MVTecAD"  # the paper's industrial averages exclude it
# Methods of which variants are models of the paper's ablation (Tables 3, 9, 10, 20 and 21): the
# method's title, its variant, the model as printed.
MODEL_OF_VARIANT: Mapping[str, Mapping[str, str]] = {
    "FAPrompt": {
        "cap": "+CAP",
        "cap_no_overlap": "+CAP w/o L_oc",
        "cap_single": "+CAP (K=1)",
        "cap_single_dap": "+CAP (K=1) +DAP",
        "dap": "+DAP",
        "dap_no_prior": "+DAP w/o L_prior",
        "best_prompt": "FAPrompt_0.1",
        "weighted_prompts": "FAPrompt_0.2",
    },
    "AnomalyCLIP Ensemble": {
        "seeds": "AnomalyCLIP Ensemble",
        "prompts": "AnomalyCLIP Ensemble*",
    },
}
DOUBTFUL = ("doubtful", "paper_conflict", "paper_or_ocr", "ocr_lost")


class PublishedError(ZsadError):
    """The files of printed numbers are missing or broken."""


@dataclass(frozen=True)
class Printed:
    """A pair of numbers as printed.

    Attributes:
        table: the paper's table number.
        level: image or pixel.
        dataset: as printed; "" for a mean over a domain.
        domain: industrial or medical.
        model: the column, as printed in Tables 1 and 2, or the ablation's row in Table 3.
        auroc: percent.
        second: percent; AP at image level, PRO at pixel level.
    """

    table: int
    level: Level
    dataset: str
    domain: str
    model: str
    auroc: float
    second: float

    @property
    def metrics(self) -> dict[str, float]:
        """The pair by the names of a record's metrics ("image_ap"), percent."""
        first, second = of_level(self.level, HEADLINES)
        return {first: self.auroc, second: self.second}


@dataclass(frozen=True)
class PrintedCategory:
    """One number of Tables 12-19.

    Attributes:
        category: lower case, or `DATASET_MEAN`.
        metric: name as in records ("pixel_pro").
        value: percent.
    """

    table: int
    dataset: str
    category: str
    model: str
    metric: str
    value: float


@dataclass(frozen=True)
class PrintedCost:
    """A row of Table 6: on an RTX 3090, training per batch of 8, inference per image.

    Attributes:
        parameters: number of learned parameters.
        train_ms, infer_ms: milliseconds.
    """

    model: str
    parameters: int
    train_ms: float
    infer_ms: float


@dataclass(frozen=True)
class PrintedCounts:
    """A row of Tables 4 and 5; what a table does not print is "" or None."""

    dataset: str
    category: str
    modality: str
    kind: str
    n_categories: int | None
    test_normal: int
    test_anomalous: int


@dataclass(frozen=True)
class Erratum:
    """Why a printed value may not be what its authors measured.

    Attributes:
        tables, datasets: numbers and names that it concerns.
        row: category or row; "" is the dataset's own.
        model: the method that it concerns; "all" for every one.
        metric: words like "image auroc, ap".
        kind: ocr_fixed, kept, doubtful, paper_conflict, ...
    """

    table: str
    datasets: tuple[str, ...]
    row: str
    model: str
    metric: str
    kind: str
    reason: str


@cache
def folder() -> Path:
    """The folder of the CSV files, in a checkout or in an installed package.

    Raises:
        PublishedError: the installation lacks them.
    """
    try:
        places = list(importlib.import_module(PACKAGE).__path__)
    except ModuleNotFoundError:
        places = []
    for place in places:
        if (Path(place) / "image_level.csv").is_file():
            return Path(place)
    raise PublishedError(f"the printed numbers ({PACKAGE}) are not installed: reinstall zsad")


@cache
def main_results() -> tuple[Printed, ...]:
    """Tables 1 and 2 in the paper's order."""
    return tuple(
        Printed(
            int(row["table"]),
            level,
            row["dataset"],
            row["domain"],
            row["method"],
            float(row["auroc"]),
            float(row[SECOND_OF[level]]),
        )
        for level in LEVELS
        for row in _rows(f"{level}_level.csv")
    )


@cache
def ablations() -> tuple[Printed, ...]:
    """Tables 20 and 21 (per dataset), 3 and 10 (means over domains: dataset "").

    Of Table 9 no number could be read.
    """
    return tuple(
        Printed(
            int(row["table"]),
            _level(row["level"]),
            row["dataset"],
            row["domain"],
            row["model"],
            float(row["auroc"]),
            float(row["second_metric"]),
        )
        for row in _rows("ablation.csv")
    )


@cache
def breakdown() -> tuple[PrintedCategory, ...]:
    """Tables 12-19, the mean rows included."""
    return tuple(
        PrintedCategory(
            int(row["table"]),
            row["dataset"],
            row["category"],
            row["method"],
            f"{row['level']}_{row['metric']}",
            float(row["value"]),
        )
        for row in _rows("breakdown.csv")
    )


@cache
def breakdown_by_row() -> Mapping[tuple[str, str, str], Mapping[str, PrintedCategory]]:
    """Tables 12-19: (normalized dataset, normalized category, metric) -> model -> its number."""
    found: dict[tuple[str, str, str], dict[str, PrintedCategory]] = {}
    for printed in breakdown():
        row = (normalize_name(printed.dataset), normalize_name(printed.category), printed.metric)
        found.setdefault(row, {})[printed.model] = printed
    return found


@cache
def costs() -> tuple[PrintedCost, ...]:
    """Table 6."""
    return tuple(
        PrintedCost(
            row["method"], int(row["parameters"]), float(row["train_ms"]), float(row["infer_ms"])
        )
        for row in _rows("complexity.csv")
    )


@cache
def counts() -> tuple[PrintedCounts, ...]:
    """Tables 4 and 5."""
    return tuple(
        PrintedCounts(
            row["dataset"],
            row["category"],
            row["modality"],
            row["type"],
            int(row["n_categories"]) if row["n_categories"] else None,
            int(row["test_normal"]),
            int(row["test_anomalous"]),
        )
        for row in _rows("dataset_stats.csv")
    )


@cache
def errata() -> tuple[Erratum, ...]:
    """All values that are doubtful, were repaired in reading, or contradict one another."""
    return tuple(
        Erratum(
            row["table"],
            tuple(name for name in row["dataset"].split(";") if name),
            row["row"],
            row["method"],
            row["metric"],
            row["kind"],
            row["reason"],
        )
        for row in _rows("suspicious_values.csv")
    )


def erratum_of(table: int, dataset: str, model: str, category: str = "") -> Erratum | None:
    """What is doubtful about a printed value, None where nothing is. Names in any spelling.

    Values that were only hard to read and are certain now are not doubtful.
    """
    for erratum in errata():
        if (
            erratum.kind in DOUBTFUL
            and erratum.table == str(table)
            and normalize_name(dataset) in map(normalize_name, erratum.datasets)
            and normalize_name(erratum.row) == normalize_name(category)
            and _is_about(erratum.model, model)
        ):
            return erratum
    return None


def _is_about(words: str, model: str) -> bool:
    names = [normalize_name(part.removesuffix("(Base)")) for part in words.split(" and ")]
    return normalize_name(words) == "all" or normalize_name(model) in names


def models() -> list[str]:
    """The methods of Tables 1 and 2 in the order of their columns."""
    return _unique(printed.model for printed in main_results())


def ablation_models() -> list[str]:
    """The models of the ablation in the paper's order: base, parts, whole; then the others."""
    per_dataset = [p.model for p in ablations() if p.table == 20]
    averaged = [p.model for p in ablations()]
    return _unique([*per_dataset, *averaged, *(row["variant"] for row in _rows("averaging.csv"))])


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
    for printed in main_results():
        if normalize_name(printed.dataset) == normalize_name(dataset):
            return printed.domain
    return None


def mean_datasets(level: Level, domain: str) -> list[str]:
    """The datasets that the paper's average over a domain covers."""
    return [
        name for name in datasets(level) if domain_of(name) == domain and name != LEFT_OUT_OF_MEANS
    ]


def _rows(name: str) -> list[dict[str, str]]:
    try:
        with (folder() / name).open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except OSError as error:
        raise PublishedError(f"{folder() / name} is not readable ({error})") from error


def _level(text: str) -> Level:
    return "image" if text == "image" else "pixel"


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
