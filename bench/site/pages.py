"""The pages of a site: static HTML that needs no network and is readable without scripts.

Everything that comes from records is data: the templates escape it, and a content policy lets only
the site's own style, script and pictures be used.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, FileSystemLoader

from ..analysis.compare import Comparison, compare_pairs
from ..analysis.comparison_tables import comparison_table
from ..analysis.gathering import backbone_of
from ..analysis.matrix import EvaluatedMethod, Matrix
from ..analysis.notices import notices
from ..analysis.resampling import Settings
from ..analysis.table_data import DASH
from ..errors import UsageError
from ..files import write_json, write_text
from ..metric_table import HEADLINES, METRICS
from ..names import display_name
from ..records.provenance import environment
from ..report.page import templates as report_templates
from ..report.page_templates import TEMPLATES as REPORT_TEMPLATES
from .cards import dataset_card, method_card
from .catalogue import (
    Catalogue,
    anchor,
    comparison_page,
    dataset_page,
    method_page,
    record_file,
    shown_records,
    started,
)
from .leaderboard import leaderboards, numbers_csv
from .sheets import draw_sheets

LOG = logging.getLogger(__name__)
TEMPLATES = Path(__file__).parent / "templates"
STYLES = tuple(f"styles/{name}.css" for name in ("page", "controls", "tables", "pictures", "print"))
SCRIPTS = tuple(f"scripts/{name}.js" for name in ("theme", "sorting"))
FIRST = "index.html"


@dataclass(frozen=True)
class Wishes:
    """How a site is wanted.

    Attributes:
        title: heading of the first page.
        data_root: where images of sample sheets are looked for; None draws built-in ones alone.
        settings: how differences are resampled; None leaves the comparisons out.
    """

    title: str = "Leaderboard"
    data_root: Path | None = None
    settings: Settings | None = field(default_factory=Settings)


@dataclass(frozen=True)
class _Site:
    """A site that is being written."""

    catalogue: Catalogue
    wishes: Wishes
    out: Path
    templates: Environment

    def write(self, page: str, template: str, title: str, **values: Any) -> None:
        """Write a page.

        Raises:
            FileError: it cannot be written.
        """
        text = self.templates.get_template(template).render(
            title=title,
            page=page,
            root="../" * page.count("/"),
            site_title=self.wishes.title,
            **values,
        )
        write_text(self.out / page, text)


def write_site(catalogue: Catalogue, out: Path, wishes: Wishes) -> Path:
    """Write a site, and what is on its pages as CSV and JSON; returns its first page.

    Args:
        catalogue: what it is about.
        out: a folder: new, empty, or that of an earlier site, whose pages are written again.
        wishes: how it is wanted.

    Raises:
        UsageError: the folder holds something else.
        FileError: a file cannot be written.
    """
    if out.is_dir() and any(out.iterdir()) and not (out / FIRST).is_file():
        raise UsageError(f"{out} holds something that is not a site: choose another --out")
    site = _Site(catalogue, wishes, out, _templates())
    _write_assets(site)
    comparisons = _compared(catalogue, wishes)
    _write_first(site, comparisons)
    for name in catalogue.by_name:
        _write_method(site, name)
    _write_datasets(site)
    _write_comparisons(site, comparisons)
    _write_records(site)
    return out / FIRST


def _write_assets(site: _Site) -> None:
    style = "".join((REPORT_TEMPLATES / name).read_text("utf-8") for name in STYLES)
    script = "".join((REPORT_TEMPLATES / name).read_text("utf-8") for name in SCRIPTS)
    write_text(site.out / "style.css", style + (TEMPLATES / "site.css").read_text("utf-8"))
    write_text(site.out / "script.js", script)
    write_text(site.out / "numbers.csv", numbers_csv(site.catalogue.matrix))


Compared = Mapping[tuple[EvaluatedMethod, EvaluatedMethod], Comparison]


def _compared(catalogue: Catalogue, wishes: Wishes) -> Compared:
    """The comparisons of all pairs of methods."""
    if wishes.settings is None:
        return {}
    pairs = catalogue.pairs()
    return dict(zip(pairs, compare_pairs(catalogue.matrix, pairs, wishes.settings), strict=True))


def _write_first(site: _Site, comparisons: Compared) -> None:
    matrix = site.catalogue.matrix
    site.write(
        FIRST,
        "index.html",
        site.wishes.title,
        matrix=matrix,
        notices=notices(matrix),
        tracks=leaderboards(matrix),
        headlines=HEADLINES,
        backbones=sorted({backbone_of(record) for record in matrix.finished_records}),
        backbone_of={m: _backbones(matrix, m) for m in matrix.methods},
        refused=site.catalogue.refused,
        comparisons=comparisons,
    )


def _backbones(matrix: Matrix, method: EvaluatedMethod) -> str:
    """The backbones of a method's finished records, in words; a dash where none is recorded."""
    found = {backbone_of(record): None for record in matrix.of_method(method) if not record.error}
    return ", ".join(filter(None, found)) or DASH


def _write_method(site: _Site, name: str) -> None:
    matrix = site.catalogue.matrix
    card = method_card(site.catalogue, name)
    rows = [
        (variant.method, dataset, [matrix.value(variant.method, dataset, m) for m in HEADLINES])
        for variant in card.variants
        for dataset in matrix.datasets
        if matrix.cell(variant.method, dataset)
    ]
    records = [r for variant in card.variants for r in matrix.of_method(variant.method)]
    site.write(
        method_page(name),
        "method.html",
        card.title,
        card=card,
        rows=rows,
        metrics=[METRICS[metric] for metric in HEADLINES],
        records=shown_records(matrix, records),
    )


def _write_datasets(site: _Site) -> None:
    matrix = site.catalogue.matrix
    named = [(d, matrix.of_dataset(d)[0].cell.dataset) for d in matrix.datasets]
    sheets = draw_sheets(named, site.wishes.data_root, site.out)
    for dataset in matrix.datasets:
        shown = [m for m in matrix.methods if matrix.finished(m, dataset)]
        metrics = [
            metric
            for metric in sorted(METRICS.values(), key=lambda metric: not metric.headline)
            if any(matrix.value(m, dataset, metric.name).value is not None for m in shown)
        ]
        site.write(
            dataset_page(dataset),
            "dataset.html",
            dataset.title,
            card=dataset_card(matrix, dataset),
            sheet=sheets.get(dataset),
            methods=shown,
            metrics=metrics,
            matrix=matrix,
            categories=matrix.categories(dataset),
        )


def _write_comparisons(site: _Site, comparisons: Compared) -> None:
    if site.wishes.settings is None:
        return
    slug = site.catalogue.slug
    for (a, b), comparison in comparisons.items():
        site.write(
            comparison_page(slug(a), slug(b)),
            "comparison.html",
            f"{a.label} against {b.label}",
            a=a,
            b=b,
            comparison=comparison,
            table=comparison_table(comparison, site.wishes.settings.level),
        )
    site.write(
        "comparisons/index.html",
        "comparisons.html",
        "Comparisons",
        comparisons=comparisons,
        slug=slug,
        metrics=[METRICS[metric] for metric in HEADLINES],
        tracks=site.catalogue.matrix.tracks,
    )


def _write_records(site: _Site) -> None:
    catalogue = site.catalogue
    for record in catalogue.gathered.records:
        write_json(site.out / record_file(record), asdict(catalogue.original(record)))
    site.write(
        "records/index.html",
        "records.html",
        "Records",
        records=shown_records(catalogue.matrix, catalogue.gathered.records),
        refused=catalogue.refused,
        older=[
            (r.cell.key, backbone_of(r) or DASH, started(r)) for r in catalogue.gathered.left_out
        ],
    )


def _templates() -> Environment:
    """The site's templates, which take macros and filters from the report's."""
    found = report_templates()
    found.loader = ChoiceLoader([FileSystemLoader(TEMPLATES), FileSystemLoader(REPORT_TEMPLATES)])
    found.globals |= {
        "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "version": environment()["zsad"],
        "anchor": anchor,
        "method_page": method_page,
        "dataset_page": dataset_page,
        "comparison_page": comparison_page,
        "record_file": record_file,
    }
    found.filters |= {"percent": percent, "upper_first": upper_first, "display_name": display_name}
    return found


def upper_first(text: str) -> str:
    """A text whose first letter is upper case.

    >>> upper_first("area under the ROC curve")
    'Area under the ROC curve'
    """
    return text[:1].upper() + text[1:]


def percent(value: float | None) -> str:
    """A fraction in percent with one decimal; a dash for None.

    >>> percent(0.8125), percent(None)
    ('81.2', '–')
    """
    return "–" if value is None else f"{100 * value:.1f}"
