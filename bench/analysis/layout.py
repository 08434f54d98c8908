"""What the layouts of tables share: how a table is wanted, its numbers, ranks and remarks."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import UsageError
from ..metric_table import HEADLINES, LEVELS, METRICS, Level, of_level
from ..track import Track
from .matrix import Matrix
from .newer_methods import is_newer
from .protocol_notes import column_notes
from .table_data import Column, Number, Row, Table, TableCell, has_differences, has_printed
from .values import Value

NOT_COMPARED = "Numbers of two tracks are not compared."
DOUBTFUL = "the printed value is doubtful: "  # how a note about an erratum begins
PRO_METRICS: Mapping[str, str] = {"exact": "pixel_pro", "official200": "pixel_pro_official200"}


@dataclass(frozen=True)
class Request:
    """How a table is wanted; see `tables.make_table`."""

    published: bool = False
    delta: bool = False
    pro: str = "exact"
    datasets: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()

    def level_metrics(self, level: Level) -> tuple[str, ...]:
        """The metrics to show at a level: those that were chosen, else the paper's pair.

        Raises:
            UsageError: a chosen metric is of another level.
        """
        for metric in self.metrics:
            if METRICS[metric].level != level:
                raise UsageError(
                    f"layout '{level}' shows {level}-level metrics, not {metric}: leave it out, or "
                    "take layout breakdown"
                )
        return self.metrics or self.pair(level)

    def metrics_by_level(self) -> dict[Level, tuple[str, ...]]:
        """The metrics to show of each level, for a layout that shows both in the same columns.

        Raises:
            UsageError: more metrics of one level are chosen than of the other.
        """
        if not self.metrics:
            return {level: self.pair(level) for level in LEVELS}
        found = {level: own for level in LEVELS if (own := of_level(level, self.metrics))}
        if len({len(own) for own in found.values()}) > 1:
            raise UsageError(
                "image-level and pixel-level metrics share the columns of this layout: choose as "
                "many of each, or one level alone"
            )
        return found

    def pair(self, level: Level) -> tuple[str, ...]:
        """The two metrics of the paper's table at a level."""
        return tuple(
            self.pro_metric if metric == PRO_METRICS["exact"] else metric
            for metric in of_level(level, HEADLINES)
        )

    def printed_metric(self, metric: str) -> str:
        """What is printed beside a metric: the released codes' PRO is what is printed as PRO."""
        return PRO_METRICS["exact"] if metric == self.pro_metric else metric

    @property
    def beside(self) -> bool:
        """Printed numbers take part in what is shown."""
        return self.published or self.delta

    @property
    def pro_metric(self) -> str:
        """Which PRO is shown."""
        return PRO_METRICS[self.pro]


def percent(value: Value, printed: float | None = None) -> Number:
    """A fraction as percent beside the printed percent."""
    return Number(
        None if value.value is None else 100 * value.value,
        None if value.spread is None else 100 * value.spread,
        printed,
    )


def ranked(cells: Sequence[TableCell], metrics: Sequence[str]) -> tuple[TableCell, ...]:
    """The cells of a row with the best and second best of each number marked.

    Numbers that look equal are equal. A number without a rival has no rank.

    Args:
        cells: each with a number for every metric.
        metrics: names of `METRICS`.
    """
    rows = [list(cell.numbers) for cell in cells]
    for i, metric in enumerate(metrics):
        shown = [numbers[i].shown for numbers in rows]
        known = [value for value in shown if value is not None]
        if len(known) < 2:
            continue
        best = sorted(set(known), reverse=METRICS[metric].higher_is_better)[:2]
        for numbers, value in zip(rows, shown, strict=True):
            if value in best:
                numbers[i] = dataclasses.replace(numbers[i], rank=best.index(value) + 1)
    return tuple(
        dataclasses.replace(cell, numbers=tuple(numbers))
        for cell, numbers in zip(cells, rows, strict=True)
    )


def method_columns(matrix: Matrix, names: tuple[str, ...] = ()) -> tuple[Column, ...]:
    """A column for every method, with the names of the numbers in its cells."""
    return tuple(Column(m.label, names, column_notes(matrix, m)) for m in matrix.methods)


def in_track(table: Table, track: Track) -> Table:
    """A table of one track's methods, which says so unless that is the zero-shot track."""
    if track is Track.ZERO_SHOT:
        return table
    return dataclasses.replace(
        table,
        track=track,
        title=titled(table.title, track),
        remarks=(f"{track.meaning} {NOT_COMPARED}", *table.remarks),
    )


def titled(title: str, track: Track) -> str:
    """A title with the track, unless that is zero-shot.

    >>> titled("Ranks", Track.ZERO_SHOT), titled("Ranks", Track.FEW_SHOT)
    ('Ranks', 'Ranks, few-shot track')
    """
    return title if track is Track.ZERO_SHOT else f"{title}, {track} track"


def remarks(
    matrix: Matrix, request: Request, where: str, exact_pro: bool, rows: Sequence[Row]
) -> list[str]:
    """What a reader must know about all numbers, and about the printed ones that are shown.

    Args:
        matrix: what is shown.
        request: how.
        where: the paper's tables that are shown beside it ("Table 1").
        exact_pro: the exact PRO is among the numbers.
        rows: of the table.
    """
    found = _limit_remarks(matrix)
    newer = [method.title for method in matrix.methods if is_newer(method)]
    place = f" in {where} of the FAPrompt paper" if len(newer) < len(matrix.methods) else ""
    shown = ["in brackets the number printed" + place]
    shown = shown * (request.published and has_printed(rows))
    braces = request.delta and has_differences(rows)
    shown += ["in braces the difference to the printed number in percentage points"] * braces
    if not shown:
        return found
    text = " and ".join(shown)
    own = ", ".join(_protocol_values(matrix, "backbone")) or "not recorded"
    found += [
        f"{text[0].upper()}{text[1:]}.",
        "The printed numbers were made with CLIP ViT-L/14@336px at 518 pixels (WinCLIP and AnoVL "
        f"with ViT-B/16+ at 240); the backbone here: {own}.",
    ]
    if newer:
        found.append(
            f"The FAPrompt paper does not have {', '.join(dict.fromkeys(newer))}: footnotes name "
            "the sources of what is printed for them."
        )
    if braces:
        found.append(
            "What our variants do otherwise than papers and released codes: docs/fidelity.md."
        )
    if exact_pro and request.pro == "exact":
        found.append(
            "The printed PRO is the released codes' score over 200 thresholds; "
            "ours is exact unless official200 is asked for."
        )
    return found


def _limit_remarks(matrix: Matrix) -> list[str]:
    found = []
    if limits := _protocol_values(matrix, "limit"):
        few = ", ".join(limits)
        found.append(f"Only the first {few} images of each category and label were scored.")
    if limits := _protocol_values(matrix, "auxiliary_limit"):
        few = ", ".join(limits)
        found.append(
            f"Methods learned from the first {few} images of each category and label of their "
            "auxiliary dataset only."
        )
    return found


def _protocol_values(matrix: Matrix, name: str) -> list[str]:
    """The different values of a protocol entry in the records that are shown, without None."""
    records = [record for method in matrix.methods for record in matrix.of_method(method)]
    values = [record.protocol.get(name) for record in records]
    return list(dict.fromkeys(str(value) for value in values if value is not None))
