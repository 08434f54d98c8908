"""A run as one HTML page: readable without network and without JavaScript, on paper too.

Everything that comes from a run is data: the template escapes it, and a content policy in the page
lets only the page's own script run and only pictures within the page be shown. The pieces that
other pages can take are macros in `templates/parts`.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from ..analysis.costs import costs
from ..analysis.layout import titled
from ..analysis.matrix import Matrix
from ..analysis.notices import notices
from ..metric_table import METRICS
from ..records.cases import colours as map_colours
from ..records.map_sheets import RATES
from ..records.provenance import environment
from .comparable import reasons
from .curves import curve_panels
from .differences import differences, direction, signed, summary
from .facts import cell_rows, dump, facts, plan_text
from .overview import average_ranks, cards, hardest
from .page_templates import TEMPLATES, page_templates
from .palette import COLOURS, DASHES, css_classes, marker_path
from .pictures import gallery
from .tables import ReportTable, domain_title, report_tables

STYLES = ("page.css", "controls.css", "tables.css", "pictures.css", "print.css")
SCRIPTS = ("theme.js", "sorting.js", "filters.js", "download.js", "gallery.js")
MEGABYTE = 1_000_000
LEADING = ("image_auroc", "pixel_auroc", "pixel_pro")  # metrics by which categories are hard


def render_report(
    run: Path,
    title: str | None = None,
    picture_megabytes: float = 8.0,
    allow_incomplete: bool = False,
) -> str:
    """The report of a run directory as one HTML page.

    Args:
        run: a run directory.
        title: heading of the page; the run's name if None.
        picture_megabytes: what the gallery's pictures may take; 0 leaves it out.
        allow_incomplete: let incomplete datasets into means, and beside printed numbers.

    Raises:
        RecordError: the directory is not a run, or a record is broken.
        GalleryError: a picture of the run is broken.
        UsageError: the run has no cells.
    """
    matrix = Matrix.read(run, allow_incomplete)
    pictures = gallery(run, matrix, int(picture_megabytes * MEGABYTE))
    page = templates().get_template("report.html")
    return page.render(
        title=title or run.resolve().name,
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=environment()["zsad"],
        matrix=matrix,
        notices=notices(matrix),
        gallery=pictures,
        rates=[f"{100 * rate:g}" for rate in RATES],
        map_colours="".join(f"{r:02x}{g:02x}{b:02x}" for r, g, b in map_colours()),
        plan=plan_text(run),
        **_results(matrix),
        **_details(matrix),
    )


def _results(matrix: Matrix) -> Mapping[str, Any]:
    """What the page shows of how good methods are."""
    tables = report_tables(matrix)
    ranks, no_ranks = average_ranks(matrix, tables)
    found = differences(tables)
    shown = {table.metric.name for table in tables}
    hard = [
        (titled(table.metric.title, table.track), table.metric, hardest(table.matrix, table.metric))
        for table in tables
        if table.metric.name in LEADING
    ]
    return {
        "tables": tables,
        "shown_metrics": [metric for name, metric in METRICS.items() if name in shown],
        "default_metrics": default_metrics(tables),
        "cards": cards(tables),
        "ranks": ranks,
        "no_ranks": no_ranks,
        "hard": hard,
        "differences": found,
        "longest": max((abs(d.points) for d in found), default=0.0),
        "reasons": reasons(matrix),
        "summary": summary(found) if found else "",
        "curves": curve_panels(matrix),
    }


def default_metrics(tables: list[ReportTable]) -> tuple[list[str], str]:
    """The metrics that the overview shows until others are chosen, and the one that tables show."""
    names = list(dict.fromkeys(table.metric.name for table in tables))
    overview = [name for name in names if name in ("image_auroc", "pixel_auroc")] or names[:1]
    return overview, (names or [""])[0]


def _details(matrix: Matrix) -> Mapping[str, Any]:
    """What the page shows of cells, costs and provenance."""
    finished = matrix.finished_records
    backbones = [record.protocol.get("backbone") for record in finished]
    measured = {name for r in finished for c in r.categories for name in c.metrics}
    return {
        "backbones": list(dict.fromkeys(str(name) for name in backbones if name)),
        "costs": costs(matrix),
        "cells": cell_rows(matrix),
        "metrics": [metric for name, metric in METRICS.items() if name in measured],
        "many_seeds": len({r.cell.seed for r in finished}) > 1,
        "facts": facts(matrix),
        "dumps": [(record, dump(record)) for record in matrix.records],
    }


def _read(names: tuple[str, ...]) -> str:
    return "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in names)


def templates() -> Environment:
    """The templates, with the page's own style and script; they escape everything else."""
    script = _read(tuple(f"scripts/{name}" for name in SCRIPTS))
    found = page_templates()
    found.globals |= {
        "css": Markup(_read(tuple(f"styles/{name}" for name in STYLES))),
        "colours": COLOURS,
        "dashes": [css for _, css in DASHES],
        "js": Markup(script),
        "js_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }
    found.filters |= {
        "signed": signed,
        "direction": direction,
        "domain_title": domain_title,
        "style": lambda method: css_classes(method.index),
        "marker": lambda method: marker_path(method.index),
    }
    return found
