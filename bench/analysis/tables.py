"""From records to the tables of the FAPrompt paper, in its order of rows and columns.

A dataset's value is the unweighted mean over its categories, a domain's value the unweighted mean
over datasets (industrial without MVTec AD), as in the paper. Whatever would make two numbers of a
column or a row incomparable is a footnote: nothing is dropped and nothing is filled in.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from ..errors import UsageError, unknown_name
from ..metric_table import HEADLINES, METRICS, Level, checked_metrics, of_level
from ..names import normalize_name
from ..records.record import Record, read_records
from . import published as paper
from .fact_tables import complexity_table, datasets_table
from .formats import Column, Number, Row, Table, TableCell, has_differences, has_printed
from .matrix import EvaluatedMethod, Matrix, TargetDataset, arrange, place
from .protocol_notes import CellNotes, column_notes, protocol_notes
from .values import NOT_RUN, UNDEFINED, Value, notes_of

LAYOUTS = ("image", "pixel", "breakdown", "complexity", "ablation", "datasets")
FIXED_LAYOUTS = ("complexity", "ablation", "datasets")
PRO_METRICS: Mapping[str, str] = {"exact": "pixel_pro", "official200": "pixel_pro_official200"}
DOMAINS = ("industrial", "medical")
ABLATION_TABLES: Mapping[Level, int] = {"image": 20, "pixel": 21}
MEAN = "Mean"

_RowValues = Mapping[EvaluatedMethod, Sequence[Value]]  # both metrics of every column


@dataclass(frozen=True)
class Request:
    """How a table is wanted; see `make_table`."""

    published: bool = False
    delta: bool = False
    pro: str = "exact"
    datasets: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()

    def of_level(self, level: Level) -> tuple[str, ...]:
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

    def pair(self, level: Level) -> tuple[str, str]:
        """The two metrics of the paper's table at a level."""
        exchanged = {PRO_METRICS["exact"]: self.pro_metric}
        first, second = of_level(level, HEADLINES)
        return first, exchanged.get(second, second)

    @property
    def beside(self) -> bool:
        """Printed numbers take part in what is shown."""
        return self.published or self.delta

    @property
    def pro_metric(self) -> str:
        """Which PRO is shown."""
        return PRO_METRICS[self.pro]


def make_table(
    source: Path | str | Iterable[Record],
    layout: str,
    *,
    published: bool = False,
    delta: bool = False,
    pro: str = "exact",
    datasets: Sequence[str] = (),
    metrics: Sequence[str] = (),
    allow_incomplete: bool = False,
) -> Table:
    """A table in one of the paper's layouts.

    Args:
        source: a run directory or records.
        layout: image (Table 1), pixel (Table 2), breakdown (12-19), complexity (6), ablation (20,
            21 and 3) or datasets (4 and 5).
        published: show the paper's numbers in brackets.
        delta: show the difference to them in braces, in percentage points.
        pro: the exact PRO, or the released codes' PRO of 200 thresholds.
        datasets: only these; all if empty.
        metrics: only these, in layouts image, pixel and breakdown; the paper's if empty. The other
            layouts have fixed columns.
        allow_incomplete: let incomplete datasets into domain means, and beside printed numbers.

    Raises:
        RecordError: the run directory is none, or a record is broken.
        UsageError: an unknown layout, PRO, dataset or metric, or nothing to show.
    """
    if layout not in LAYOUTS:
        raise unknown_name("layout", layout, LAYOUTS)
    if pro not in PRO_METRICS:
        raise unknown_name("PRO", pro, PRO_METRICS)
    chosen = checked_metrics(metrics)
    if chosen and layout in FIXED_LAYOUTS:
        raise UsageError(
            f"layout '{layout}' has fixed columns: metrics are chosen in layouts "
            f"{', '.join(name for name in LAYOUTS if name not in FIXED_LAYOUTS)}"
        )
    records = read_records(source) if isinstance(source, (str, Path)) else list(source)
    matrix = arrange(records, datasets, allow_incomplete)
    request = Request(published, delta, pro, tuple(datasets), chosen)
    makers: dict[str, Callable[[Matrix, Request], Table]] = {
        "image": lambda g, r: _level_table(g, r, "image"),
        "pixel": lambda g, r: _level_table(g, r, "pixel"),
        "breakdown": _breakdown_table,
        "complexity": lambda g, r: complexity_table(g, r.published, r.delta),
        "ablation": _ablation_table,
        "datasets": lambda g, r: datasets_table(g, r.published, r.delta),
    }
    return makers[layout](matrix, request)


def _number(value: Value, printed: float | None = None) -> Number:
    """A fraction as percent beside the printed percent."""
    return Number(
        None if value.value is None else 100 * value.value,
        None if value.spread is None else 100 * value.spread,
        printed,
    )


def _ranked(cells: Sequence[TableCell]) -> tuple[TableCell, ...]:
    """The cells of a row with the best and second best of each number marked.

    Numbers that look equal are equal. A number without a rival has no rank.
    """
    size = max((len(cell.numbers) for cell in cells), default=0)
    ranked = [list(cell.numbers) for cell in cells]
    for i in range(size):
        shown = [n[i].bare(n[i].value) for n in ranked if len(n) > i and n[i].value is not None]
        if len(shown) < 2:
            continue
        best = sorted(set(map(float, shown)), reverse=True)[:2]
        for numbers in ranked:
            if len(numbers) > i and numbers[i].value is not None:
                value = float(numbers[i].bare(numbers[i].value))
                rank = best.index(value) + 1 if value in best else 0
                numbers[i] = dataclasses.replace(numbers[i], rank=rank)
    return tuple(
        dataclasses.replace(cell, numbers=tuple(numbers))
        for cell, numbers in zip(cells, ranked, strict=True)
    )


def _columns(matrix: Matrix, names: tuple[str, ...]) -> tuple[Column, ...]:
    return tuple(
        Column(method.label, names, column_notes(matrix, method)) for method in matrix.methods
    )


# -- image and pixel (Tables 1 and 2) -----------------------------------------------------------


@dataclass(frozen=True)
class _Pairs:
    """The pairs of one level: what a run has and what the paper prints beside it.

    Attributes:
        table: the paper's table, for doubts about its values.
        metrics: in the order of a cell's numbers.
        models: the paper's name of each column, None where it has none.
        printed: (normalized dataset, model) -> the printed numbers by metric.
    """

    matrix: Matrix
    request: Request
    level: Level
    table: int
    metrics: tuple[str, ...]
    models: Mapping[EvaluatedMethod, str | None]
    printed: Mapping[tuple[str, str], Mapping[str, float]]

    @classmethod
    def of(
        cls,
        matrix: Matrix,
        request: Request,
        level: Level,
        table: int,
        models: Mapping[EvaluatedMethod, str | None],
        metrics: tuple[str, ...],
    ) -> _Pairs:
        """The pairs beside one of the paper's tables."""
        printed = {
            (normalize_name(p.dataset), p.model): p.metrics
            for p in (*paper.main_results(), *paper.ablations())
            if p.table == table
        }
        return cls(matrix, request, level, table, metrics, models, printed)

    def values(self, dataset: TargetDataset) -> _RowValues:
        """The metrics of every column."""
        return {
            c: tuple(self.matrix.value(c, dataset, metric) for metric in self.metrics)
            for c in self.matrix.methods
        }

    def beside(self, method: EvaluatedMethod, dataset: TargetDataset) -> Sequence[float | None]:
        """The printed numbers of a cell; the released codes' PRO is what is printed as PRO."""
        found = self.printed.get((normalize_name(dataset.name), self.models[method] or ""), {})
        names = {self.request.pro_metric: "pixel_pro"}
        return [found.get(names.get(metric, metric)) for metric in self.metrics]

    def hidden(self, dataset: TargetDataset, why: str) -> Row:
        """The row of a dataset without any value."""
        empty = TableCell((Number(),) * len(self.metrics))
        cells = (empty,) * len(self.matrix.methods)
        notes = (UNDEFINED + why,)
        return Row(dataset.title, cells, dataset.domain, notes)

    def row(
        self, dataset: TargetDataset, values: _RowValues, group: str, protocol: CellNotes
    ) -> Row:
        """A dataset's row."""
        cells = []
        for method, pair in values.items():
            notes = notes_of(pair)
            if any(value.value is not None for value in pair):
                notes += protocol.get((method, dataset), ())
            printed = self.beside(method, dataset)
            if any(map(self.matrix.leaves_out, pair)):
                printed = [None] * len(pair)
            elif self.request.beside:
                notes += _doubts(self.table, dataset, self.models[method])
            numbers = (_number(v, p) for v, p in zip(pair, printed, strict=True))
            cells.append(TableCell(tuple(numbers), notes=notes))
        return Row(dataset.title, _ranked(cells), group)

    def counts(self, values: Sequence[Value]) -> bool:
        """Whether a cell takes part in means."""
        return _complete(values) and not any(map(self.matrix.leaves_out, values))

    def mean(
        self, measured: Mapping[TargetDataset, _RowValues], domain: str, group: str
    ) -> Row | None:
        """The mean over a domain: of the paper's datasets those that every shown method has.

        Methods without any value in the domain show a dash and do not count. There is no row for
        fewer than two datasets, nor where no dataset has a value of every method. Datasets whose
        copy is incomplete do not count unless they are allowed.
        """
        names = paper.mean_datasets(self.level, domain)
        by_name = {normalize_name(d.name): d for d in measured}
        present = [by_name[n] for n in map(normalize_name, names) if n in by_name]
        active = [
            m for m in self.matrix.methods if any(self.counts(measured[d][m]) for d in present)
        ]
        common = [d for d in present if active and all(self.counts(measured[d][m]) for m in active)]
        if len(present) < 2 or not common:
            return None
        cells = []
        for method in self.matrix.methods:
            if method in active:
                cells.append(self._mean_cell(method, common, measured))
                continue
            some = any(_complete(measured[d][method]) for d in present)
            why = "no complete dataset in this domain" if some else "no value in this domain"
            cells.append(TableCell((Number(),) * len(self.metrics), notes=(why,)))
        complete = len(common) == len(names)
        label = MEAN if complete else f"{MEAN} of {len(common)} of {len(names)}"
        notes = [f"without {paper.LEFT_OUT_OF_MEANS}, as in the paper"] * (domain == "industrial")
        if not complete:
            notes.append(f"over {', '.join(d.title for d in common)}")
        return Row(label, _ranked(cells), group, tuple(notes), summary=True)

    def _mean_cell(
        self,
        method: EvaluatedMethod,
        datasets: Sequence[TargetDataset],
        measured: Mapping[TargetDataset, _RowValues],
    ) -> TableCell:
        """The means of a method over datasets, beside those of the printed numbers."""
        numbers = []
        for i in range(len(self.metrics)):
            own = [measured[d][method][i].value for d in datasets]
            printed = [self.beside(method, d)[i] for d in datasets]
            numbers.append(_number(Value(_mean_or_none(own)), _mean_or_none(printed)))
        return TableCell(tuple(numbers))


def _level_table(matrix: Matrix, request: Request, level: Level) -> Table:
    """Tables 1 and 2: datasets by methods, then domain means."""
    names = paper.models()
    models = {c: c.printed_as(names) for c in matrix.methods}
    metrics = request.of_level(level)
    pairs = _Pairs.of(matrix, request, level, paper.MAIN_TABLE[level], models, metrics)
    protocol = protocol_notes(matrix)
    rows: list[Row | None] = []
    measured: dict[TargetDataset, _RowValues] = {}
    left_out: dict[str, list[str]] = {}  # reason -> datasets
    hidden: list[Row] = []
    for dataset in matrix.datasets:
        values = pairs.values(dataset)
        why = _undefined_everywhere(values.values())
        if why and _is_left_out(dataset, level):
            left_out.setdefault(why, []).append(dataset.title)
            hidden.append(pairs.hidden(dataset, why))
            continue
        measured[dataset] = values
        rows.append(pairs.row(dataset, values, dataset.domain, protocol))
    rows += [pairs.mean(measured, domain, domain) for domain in DOMAINS]
    labelled = tuple(METRICS[metric].label for metric in metrics)
    shown = _by_group([row for row in rows if row is not None])
    where = f"Table {paper.MAIN_TABLE[level]}"
    remarks = _remarks(matrix, request, where, "pixel_pro" in metrics, shown)
    remarks += [f"Not shown: {', '.join(titles)} ({why})." for why, titles in left_out.items()]
    return Table(
        level,
        f"{level.capitalize()}-level ({', '.join(labelled)}) in percent",
        ("Domain", "Dataset"),
        _columns(matrix, labelled),
        tuple(shown),
        tuple(remarks),
        request.published,
        request.delta,
        tuple(hidden),
    )


def _is_left_out(dataset: TargetDataset, level: Level) -> bool:
    """The paper has the dataset, but not in its table of this level."""
    known = paper.domain_of(dataset.name) is not None
    return known and normalize_name(dataset.name) not in map(normalize_name, paper.datasets(level))


def _by_group(rows: Sequence[Row]) -> list[Row]:
    """Rows of a group together, groups in the order of their first rows."""
    groups = list(dict.fromkeys(row.group for row in rows))
    return [row for group in groups for row in rows if row.group == group]


def _undefined_everywhere(values: Iterable[Sequence[Value]]) -> str:
    """Why no method has any value of a row; "" if one has, or if one failed."""
    every = [value for pair in values for value in pair]
    notes = dict.fromkeys(note for value in every for note in value.notes)
    reasons = [note.removeprefix(UNDEFINED) for note in notes if note.startswith(UNDEFINED)]
    others = [note for note in notes if not note.startswith(UNDEFINED) and note != NOT_RUN]
    if any(v.value is not None for v in every) or others:
        return ""
    return "; ".join(reasons)


def _doubts(
    table: int, dataset: TargetDataset, model: str | None, category: str = ""
) -> tuple[str, ...]:
    doubt = paper.doubt_about(table, dataset.name, model, category) if model else None
    return () if doubt is None else (f"the printed value is doubtful: {doubt.reason}",)


def _complete(values: Sequence[Value]) -> bool:
    return all(value.value is not None for value in values)


def _mean_or_none(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None


def _remarks(
    matrix: Matrix, request: Request, where: str, exact_pro: bool, rows: Sequence[Row]
) -> list[str]:
    """What a reader must know about all numbers, and about the printed ones that are shown."""
    remarks = []
    limits = _entries(matrix, "limit")
    if limits:
        few = ", ".join(limits)
        remarks.append(f"Only the first {few} images of each category and label were scored.")
    shown = ["in brackets the number printed in " + where + " of the FAPrompt paper"]
    shown = shown * (request.published and has_printed(rows))
    braces = request.delta and has_differences(rows)
    shown += ["in braces the difference to the printed number in percentage points"] * braces
    if not shown:
        return remarks
    text = " and ".join(shown)
    remarks.append(f"{text[0].upper()}{text[1:]}.")
    own = ", ".join(_entries(matrix, "backbone")) or "not recorded"
    remarks.append(
        "The printed numbers were made with CLIP ViT-L/14@336px at 518 pixels (WinCLIP and AnoVL "
        f"with ViT-B/16+ at 240); the backbone here: {own}."
    )
    if braces:
        remarks.append(
            "What our variants do otherwise than papers and released codes: docs/fidelity.md."
        )
    if exact_pro and request.pro == "exact":
        remarks.append(
            "The printed PRO is the released codes' score over 200 thresholds; "
            "ours is exact unless official200 is asked for."
        )
    return remarks


def _entries(matrix: Matrix, name: str) -> list[str]:
    """The different values of a protocol entry in the records that are shown, without None."""
    records = [record for method in matrix.methods for record in matrix.of_method(method)]
    values = [record.protocol.get(name) for record in records]
    return list(dict.fromkeys(str(value) for value in values if value is not None))


# -- breakdown (Tables 12-19) -------------------------------------------------------------------


def _breakdown_table(matrix: Matrix, request: Request) -> Table:
    """Tables 12-19: the categories of a dataset by methods, one group of rows per metric."""
    metrics = request.metrics or (*request.pair("image"), *request.pair("pixel"))
    protocol = protocol_notes(matrix)
    chosen = matrix.datasets
    if not request.datasets:
        chosen = tuple(d for d in matrix.datasets if len(matrix.categories(d)) > 1) or chosen
    rows: list[Row] = []
    hidden: list[Row] = []
    for dataset in chosen:
        for metric in metrics:
            group = [
                _category_row(matrix, request, dataset, metric, category, protocol)
                for category in (*matrix.categories(dataset), None)
            ]
            if any(cell.numbers[0].value is not None for row in group for cell in row.cells):
                rows += group
            else:
                hidden.append(group[-1])
    if not rows:
        raise UsageError("no category has a value to show in layout 'breakdown'")
    remarks = _remarks(matrix, request, "Tables 12 to 19", "pixel_pro" in metrics, rows)
    for row in hidden:
        why = "; ".join(dict.fromkeys(note for cell in row.cells for note in cell.notes))
        remarks.append(f"Not shown: {row.group} ({why}).")
    return Table(
        "breakdown",
        "Per category in percent",
        ("Metric", "Category"),
        _columns(matrix, ()),
        tuple(rows),
        tuple(remarks),
        request.published,
        request.delta,
        tuple(hidden),
    )


def _category_row(
    matrix: Matrix,
    request: Request,
    dataset: TargetDataset,
    metric: str,
    category: str | None,
    protocol: CellNotes,
) -> Row:
    """A category's row, or for None the row of the mean over categories."""
    printed = _printed_categories(dataset, category, metric, request)
    cells = []
    for method in matrix.methods:
        value = matrix.value(method, dataset, metric, category)
        found = printed.get(method.printed_as(printed) or "")
        found = None if matrix.leaves_out(value) else found
        notes = value.notes
        if category is None and value.value is not None:
            notes += protocol.get((method, dataset), ())
        if found is not None and request.beside:
            notes += _doubts(found.table, dataset, found.model, found.category)
        cells.append(TableCell((_number(value, found.value if found else None),), notes=notes))
    group = f"{dataset.title} {_metric_words(metric)}"
    return Row(category or "mean", _ranked(cells), group, summary=category is None)


def _printed_categories(
    dataset: TargetDataset, category: str | None, metric: str, request: Request
) -> Mapping[str, paper.PrintedCategory]:
    """The printed numbers beside a row of the breakdown, by model."""
    beside = "pixel_pro" if metric == request.pro_metric else metric
    name = normalize_name(category or paper.DATASET_MEAN)
    return paper.breakdown_by_row().get((normalize_name(dataset.name), name, beside), {})


def _metric_words(metric: str) -> str:
    return f"{METRICS[metric].level}-level {METRICS[metric].label}"


# -- ablation (Tables 20, 21 and 3) -------------------------------------------------------------


def _ablation_table(matrix: Matrix, request: Request) -> Table:
    """Tables 20 and 21 with the averages of Table 3: datasets by models, both levels."""
    matrix, models = _studied(matrix)
    protocol = protocol_notes(matrix)
    rows: list[Row] = []
    for level, table in ABLATION_TABLES.items():
        pairs = _Pairs.of(matrix, request, level, table, models, request.pair(level))
        for domain in dict.fromkeys(dataset.domain for dataset in matrix.datasets):
            group = f"{level}, {domain}"
            inside = [d for d in matrix.datasets if d.domain == domain]
            measured = {dataset: pairs.values(dataset) for dataset in inside}
            defined = {d: v for d, v in measured.items() if any(map(_complete, v.values()))}
            rows += [pairs.row(d, values, group, protocol) for d, values in defined.items()]
            mean = pairs.mean(defined, domain, group)
            if mean is not None:
                rows.append(_beside_table_three(mean, matrix, models, level, domain))
    if not rows:
        raise UsageError("no dataset has a value to show in layout 'ablation'")
    columns = [
        dataclasses.replace(column, label=c.ablation or column.label)
        for column, c in zip(_columns(matrix, ("AUROC", "AP/PRO")), matrix.methods, strict=True)
    ]
    return Table(
        "ablation",
        "Ablation: (AUROC, AP) at image level, (AUROC, PRO) at pixel level, in percent",
        ("Level", "Dataset"),
        tuple(columns),
        tuple(rows),
        tuple(_remarks(matrix, request, "Tables 20, 21 and 3", True, rows)),
        request.published,
        request.delta,
    )


def _studied(matrix: Matrix) -> tuple[Matrix, dict[EvaluatedMethod, str | None]]:
    """The columns of an ablation in the paper's order, and the paper's name of each.

    Shown are the methods of which a variant is among the paper's models; all if there is none.
    """
    order = paper.ablation_models()
    models = {c: _ablation_name(c, order) for c in matrix.methods}
    studied = {c.method for c, name in models.items() if name is not None}
    columns = sorted(
        (c for c in matrix.methods if not studied or c.method in studied),
        key=lambda c: (place(models[c], order), matrix.methods.index(c)),
    )
    return dataclasses.replace(matrix, methods=tuple(columns)), models


def _beside_table_three(
    mean: Row,
    matrix: Matrix,
    models: Mapping[EvaluatedMethod, str | None],
    level: Level,
    domain: str,
) -> Row:
    """A mean row beside the averages that Table 3 prints, if it covers what they cover."""
    if mean.label != MEAN:
        return mean
    printed = {
        p.model: (p.auroc, p.second)
        for p in paper.ablations()
        if p.table in (3, 10) and (p.level, p.domain) == (level, domain)
    }
    cells = []
    for method, cell in zip(matrix.methods, mean.cells, strict=True):
        pair = printed.get(models[method] or "", tuple(n.printed for n in cell.numbers))
        numbers = (
            dataclasses.replace(n, printed=p) for n, p in zip(cell.numbers, pair, strict=True)
        )
        cells.append(dataclasses.replace(cell, numbers=tuple(numbers)))
    return dataclasses.replace(mean, cells=tuple(cells))


def _ablation_name(method: EvaluatedMethod, models: Sequence[str]) -> str | None:
    """The paper's name of an ablation: by the variant where that is one, else by the method."""
    if method.ablation is not None:
        return method.ablation
    return None if method.options else method.printed_as(models)
