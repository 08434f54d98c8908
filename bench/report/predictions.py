"""The results of `zsad predict` as one HTML page beside the overlays that it shows."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from ..files import write_text
from ..records.predictions import Predictions
from .page_templates import page_templates

INDEX = "index.html"


def write_index(out: Path, found: Predictions, facts: Mapping[str, str]) -> Path:
    """Write a page with all results, most anomalous first; it needs no network and no script.

    Args:
        out: the folder of the results; pictures are referred to by their names in it.
        found: what was found.
        facts: what the results depend on, shown in the head of the page.

    Returns:
        The page.

    Raises:
        FileError: it cannot be written.
    """
    templates = page_templates()
    templates.filters["url"] = quote
    page = templates.get_template("predictions.html").render(
        found=found,
        facts=facts,
        decided=found.decision.threshold is not None,
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )
    path = out / INDEX
    write_text(path, page)
    return path
