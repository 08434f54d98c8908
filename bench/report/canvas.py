"""What all figures share: their panels, their legend, and how they are written."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ..analysis.matrix import EvaluatedMethod, TargetDataset
from ..errors import UsageError
from ..files import output_file

FORMATS = (".png", ".pdf", ".svg")
STYLE = Path(__file__).parent / "templates" / "figures.mplstyle"
SOFT, LINE = "#566267", "#d9dddb"  # labels and grid lines of the style
NOT_IN_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


@dataclass(frozen=True)
class Drawing:
    """A figure and what of a run it shows; None is everything that was chosen.

    Attributes:
        remark: what a reader must know beside the notices on the data.
    """

    figure: Figure
    datasets: frozenset[TargetDataset] | None = None
    methods: frozenset[EvaluatedMethod] | None = None
    remark: str = ""


def panels_of(
    width: float, height: float, rows: int, columns: int, **layout: Any
) -> tuple[Figure, NDArray[Any]]:
    """A figure, in inches, that no global state knows of, and its panels [rows, columns]."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False, **layout)


def legend(figure: Figure, panel: Axes) -> None:
    """The legend of a panel, above the figure."""
    handles, names = panel.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper left", ncols=min(5, max(1, len(names))))


def note(panel: Axes, text: str) -> None:
    """A word in the middle of a panel that has nothing to show."""
    panel.text(0.5, 0.5, text, transform=panel.transAxes, ha="center", color=SOFT)


def bottom(lowest: float) -> float:
    """Where an axis of percentages begins: the round number below; AUROC has no natural zero."""
    return 10.0 * (lowest // 10)


def limits(ends: Sequence[float]) -> tuple[float, float]:
    """The limits of an axis of percentages that shows these values, with some room.

    A span below two points would make noise look like a difference.
    """
    low, high = min(ends), max(ends)
    middle, half = (low + high) / 2, max(high - low, 2.0) * 0.54
    return max(middle - half, -0.8), min(middle + half, 100.8)


def percentages(panel: Axes, ends: Sequence[float]) -> None:
    """The vertical axis of a panel that shows these values, or a word where there are none."""
    panel.set_ylabel("percent")
    if ends:
        panel.set_ylim(*limits(ends))
    else:
        note(panel, "no value")


def check_format(out: Path) -> None:
    """Refuse a file that no figure is written as.

    Raises:
        UsageError: its suffix is none of `FORMATS`.
    """
    if out.suffix.lower() not in FORMATS:
        raise UsageError(f"a figure is written as {', '.join(FORMATS)}, not as '{out.name}'")


def save(figure: Figure, out: Path) -> None:
    """Write a figure as its suffix says; equal figures give equal files.

    Raises:
        FileError: the file cannot be written.
    """
    kind = out.suffix.removeprefix(".").lower()
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind, {})
    drawn = io.BytesIO()
    figure.savefig(
        drawn, format=kind, dpi=200, bbox_inches="tight", facecolor="white", metadata=metadata
    )
    content = drawn.getvalue()
    if kind == "svg":  # a title may hold characters that no XML file may
        content = NOT_IN_XML.sub("", content.decode()).encode()
    with output_file(out) as file:
        file.write(content)
