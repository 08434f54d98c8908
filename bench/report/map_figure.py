"""Anomaly maps of all methods side by side, on the same images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ..analysis.matrix import EvaluatedMethod, TargetDataset
from ..errors import UsageError
from ..records.cases import HEAT
from ..records.gallery_choice import CHOICES, Choice, Judged, choose
from ..records.map_sheets import MapSheet, SheetImage, read_sheets
from .canvas import SOFT, Drawing, panels_of
from .category_figures import refuse_too_many
from .scene import Scene

OUTLINE = "#2fe6c8"
MOST_CATEGORIES = 8
MOST_ROWS = 12
SIDE = 1.15  # inches of a map
IMAGES = 3  # of a category

_Sheets = Mapping[EvaluatedMethod, MapSheet]


@dataclass(frozen=True)
class _Row:
    """An image with the maps of the methods that have one."""

    dataset: TargetDataset
    category: str
    choice: Choice
    name: str
    sheets: _Sheets


def maps(scene: Scene) -> Drawing:
    """An image in each row, the methods' maps beside it, with scores and the outline of the mask.

    Of each category the images on which methods disagree most, on which all fail, and that all
    find.
    """
    found = [
        (dataset, category, sheets)
        for dataset, category in scene.categories()
        if (sheets := _sheets_of(scene, dataset, category))
    ]
    if not found:
        raise UsageError(
            "the run keeps no maps for this choice: run it with --gallery 2 "
            "(and --retry always where its cells are finished)"
        )
    refuse_too_many(len(found), MOST_CATEGORIES, "pictures")
    per_category = max(1, min(IMAGES, MOST_ROWS // len(found)))
    rows = [row for place in found for row in _rows_of(*place, per_category)]
    methods = [m for m in scene.matrix.methods if any(m in row.sheets for row in rows)]
    width = SIDE * (1 + len(methods)) + 1.6
    figure, panels = panels_of(width, (SIDE + 0.24) * len(rows) + 0.5, len(rows), 1 + len(methods))
    for own, row in zip(panels, rows, strict=True):
        _draw_row(own, row, methods)
    for panel, title in zip(panels[0], ["image", *(m.label for m in methods)], strict=True):
        panel.set_title(title, fontsize=8, loc="center", wrap=True)
    _colour_bar(figure, panels)
    return Drawing(
        figure,
        frozenset(row.dataset for row in rows),
        frozenset(methods),
        "Line: outline of the mask. Below a map: the anomaly score, and the AUROC of the image's "
        "own pixels in percent.",
    )


def _sheets_of(scene: Scene, dataset: TargetDataset, category: str) -> _Sheets:
    """The sheet of each method that has one, of its first seed."""
    found = {}
    for method in scene.matrix.methods:
        for record in scene.matrix.finished(method, dataset)[:1]:
            for sheet in read_sheets(scene.run, record.cell):
                if sheet.sheet.category == category:
                    found[method] = sheet
    return found


def _rows_of(dataset: TargetDataset, category: str, sheets: _Sheets, count: int) -> list[_Row]:
    """The first image of as many choices, or the first images of fewer choices."""
    judged: dict[str, Judged] = {}
    for sheet in sheets.values():
        for image in sheet.sheet.images:
            before = judged.get(image.name, Judged(image.name, image.label))
            own = () if image.quality is None else (image.quality,)
            judged[image.name] = Judged(image.name, image.label, (*before.qualities, *own))
    chosen = choose(list(judged.values()), 1)
    rows = [
        _Row(dataset, category, choice, image.name, sheets)
        for choice in CHOICES
        for image in chosen[choice]
    ]
    return rows[:count]


def _draw_row(panels: NDArray[Any], row: _Row, methods: Sequence[EvaluatedMethod]) -> None:
    for panel in panels:
        panel.set_xticks([])
        panel.set_yticks([])
        panel.grid(visible=False)
        for spine in panel.spines.values():
            spine.set_visible(False)
    title = f"{row.dataset.title}\n{row.category}\n{CHOICES[row.choice].lower()}"
    panels[0].set_ylabel(title, fontsize=7, color=SOFT, rotation=0, ha="right", va="center")
    pictured = False
    for method, panel in zip(methods, panels[1:], strict=True):
        sheet = row.sheets.get(method)
        names = [] if sheet is None else [image.name for image in sheet.sheet.images]
        if sheet is None or row.name not in names:
            panel.set_xlabel("no map", fontsize=6.5)
            continue
        place = names.index(row.name)
        if not pictured:
            panels[0].imshow(sheet.picture_of(place), extent=(0, 1, 1, 0))
            image = sheet.sheet.images[place]
            panels[0].set_xlabel(("normal", "anomalous")[image.label], fontsize=6.5)
            _outline(panels[0], sheet, place)
            pictured = True
        panel.imshow(
            sheet.map_of(place),
            extent=(0, 1, 1, 0),
            cmap=HEAT,
            vmin=0,
            vmax=255,
            interpolation="bilinear",
        )
        _outline(panel, sheet, place)
        panel.set_xlabel(_judged(sheet.sheet.images[place]), fontsize=6.5)


def _judged(image: SheetImage) -> str:
    """The score of an image, and how well its region is located."""
    words = [] if image.score is None else [f"{image.score:.3g}"]
    words += [] if image.pixel_auroc is None else [f"AUROC {100 * image.pixel_auroc:.0f}"]
    return ", ".join(words)


def _outline(panel: Axes, sheet: MapSheet, place: int) -> None:
    mask = sheet.mask_of(place)
    if mask is not None and mask.any() and not mask.all():
        half = 0.5 / len(mask)
        ends = (half, 1 - half, half, 1 - half)
        panel.contour(mask > 0, levels=[0.5], colors=[OUTLINE], linewidths=0.9, extent=ends)


def _colour_bar(figure: Figure, panels: NDArray[Any]) -> None:
    scale = ScalarMappable(Normalize(0, 1), HEAT)
    bar = figure.colorbar(scale, ax=panels[:, -1], aspect=30, shrink=0.9, pad=0.1)
    bar.set_ticks([0, 1], labels=["lowest", "highest"], fontsize=7)
    bar.set_label("of the method's maps in the category", fontsize=7)
    bar.outline.set_visible(False)
