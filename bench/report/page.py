"""A run as one HTML page: readable without network and without JavaScript, on paper too.

Everything that comes from a run is data: the template escapes it, and a content policy in the page
lets only the page's own script run and only pictures within the page be shown.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ..analysis.costs import costs
from ..analysis.matrix import Matrix
from ..analysis.notices import notices
from ..metric_table import METRICS
from ..records.provenance import environment
from .curves import curve_panels
from .differences import differences, direction, signed, summary
from .facts import cell_rows, dump, facts, plan_text
from .palette import COLOURS, DASHES, css_classes
from .pictures import gallery
from .tables import domain_title, rankings, report_tables

TEMPLATES = Path(__file__).parent / "templates"
MEGABYTE = 1_000_000


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
    tables = report_tables(matrix)
    found = differences(tables)
    backbones = [record.protocol.get("backbone") for record in matrix.finished_records]
    return (
        _templates()
        .get_template("report.html")
        .render(
            title=title or run.resolve().name,
            made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            version=environment()["zsad"],
            matrix=matrix,
            notices=notices(matrix),
            backbones=list(dict.fromkeys(str(name) for name in backbones if name)),
            rankings=rankings(tables),
            tables=tables,
            differences=found,
            summary=summary(found) if found else "",
            curves=curve_panels(matrix),
            costs=costs(matrix),
            gallery=gallery(run, matrix, int(picture_megabytes * MEGABYTE)),
            cells=cell_rows(matrix),
            metrics=METRICS.values(),
            many_seeds=len({r.cell.seed for r in matrix.finished_records}) > 1,
            facts=facts(matrix),
            dumps=[(record, dump(record)) for record in matrix.records],
            plan=plan_text(run),
        )
    )


def _read(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _templates() -> Environment:
    """The templates, with the page's own style and script; they escape everything else."""
    script = _read("report.js")
    found = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.globals |= {
        "css": Markup(_read("report.css")),
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
    }
    return found
