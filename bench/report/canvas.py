"""How all figures look, and how they are written."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import output_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NOT_IN_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
INK, SOFT, LINE = "#1c2426", "#566267", "#d9dddb"


def style() -> Any:  # matplotlib's type of the keys differs between its versions
    """Quiet axes; text stays text in vector files."""
    return {
        "font.size": 9,
        "axes.titlesize": 9.5,
        "axes.titlelocation": "left",
        "axes.edgecolor": SOFT,
        "axes.labelcolor": SOFT,
        "axes.linewidth": 0.7,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": LINE,
        "grid.linewidth": 0.6,
        "text.color": INK,
        "xtick.color": SOFT,
        "ytick.color": SOFT,
        "legend.frameon": False,
        "legend.fontsize": 8,
        "svg.fonttype": "none",
        "svg.hashsalt": "zsad",
        "pdf.fonttype": 42,
        "text.usetex": False,
        "text.parse_math": False,  # a title may hold a dollar sign
    }


def canvas(width: float, height: float) -> Figure:
    """A figure, in inches, that no global state knows of."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def legend(figure: Figure, panel: Axes) -> None:
    """The legend of a panel, above the figure."""
    handles, names = panel.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper left", ncols=min(5, max(1, len(names))))


def note(panel: Axes, text: str) -> None:
    """A word in the middle of a panel that has nothing to show."""
    panel.text(0.5, 0.5, text, transform=panel.transAxes, ha="center", color=SOFT)


def bottom(values: Sequence[float]) -> float:
    """The round number below all values; AUROC has no natural zero."""
    return 10.0 * (min(values) // 10)


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
