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

from . import published as paper
from .errors import UsageError, unknown_name
from .grid import (
    NOT_RUN,
    UNDEFINED,
    Contender,
    Grid,
    Value,
    arrange,
    column_notes,
    labels,
    measure,
    place,
    protocol_notes,
)
from .published import Level, squash
from .records import METRICS, CategoryResult, Record, read_records
from .table_format import Column, Number, Row, Table, TableCell

LAYOUTS = ("image", "pixel", "breakdown", "complexity", "ablation", "datasets")
PRO_METRICS: Mapping[str, str] = {"exact": "pixel_pro", "official200": "pixel_pro_official200"}
METRIC_LABELS: Mapping[str, str] = {
    "image_auroc": "AUROC",
    "image_ap": "AP",
    "image_f1max": "F1-max",
    "pixel_auroc": "AUROC",
    "pixel_ap": "AP",
    "pixel_f1max": "F1-max",
    "pixel_pro": "PRO",
    "pixel_pro_official200": "PRO (200 thresholds)",
}
DOMAINS = ("industrial", "medical")
ALL = "all"  # the label of a row that counts a dataset's categories together


@dataclass(frozen=True)
class Request:
    """How a table is wanted; see `make_table`."""

    published: bool = False
    delta: bool = False
    pro: str = "exact"
    datasets: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()

    def pair(self, level: Level) -> tuple[str, str]:
        """The two metrics of the paper's table at a level."""
        return ("image_auroc", "image_ap") if level == "image" else ("pixel_auroc", self.pro_metric)

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
        metrics: only these, in layout breakdown; all four of the paper if empty.

    Raises:
        RecordError: the run directory is none, or a record is broken.
        UsageError: an unknown layout, PRO, dataset or metric, or nothing to show.
    """
    if layout not in LAYOUTS:
        raise unknown_name("layout", layout, LAYOUTS)
    if pro not in PRO_METRICS:
        raise unknown_name("PRO", pro, PRO_METRICS)
    for metric in metrics:
        if metric not in METRICS:
            raise unknown_name("metric", metric, METRICS)
    records = read_records(source) if isinstance(source, (str, Path)) else list(source)
    grid = arrange(records, datasets)
    request = Request(published, delta, pro, tuple(datasets), tuple(metrics))
    makers: dict[str, Callable[[Grid, Request], Table]] = {
        "image": lambda g, r: _level_table(g, r, "image"),
        "pixel": lambda g, r: _level_table(g, r, "pixel"),
        "breakdown": _breakdown_table,
        "complexity": _complexity_table,
        "ablation": _ablation_table,
        "datasets": _datasets_table,
    }
    return makers[layout](grid, request)


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


def _columns(grid: Grid, names: tuple[str, ...]) -> tuple[Column, ...]:
    texts = labels(grid.contenders)
    return tuple(
        Column(text, names, column_notes(grid, contender))
        for text, contender in zip(texts, grid.contenders, strict=True)
    )


# -- image and pixel (Tables 1 and 2) -----------------------------------------------------------


def _level_table(grid: Grid, request: Request, level: Level) -> Table:
    """Tables 1 and 2: datasets by methods, then domain means."""
    metrics = request.pair(level)
    printed = _printed_pairs(level)
    names = paper.models()
    protocol = protocol_notes(grid)
    rows: list[Row] = []
    left_out: dict[str, str] = {}
    measured: dict[str, dict[Contender, tuple[Value, ...]]] = {}
    for dataset in grid.datasets:
        values = {
            c: tuple(measure(grid.records(c, dataset), m) for m in metrics) for c in grid.contenders
        }
        why = _undefined_everywhere(values.values())
        if (
            why
            and squash(dataset) not in map(squash, paper.datasets(level))
            and paper.domain_of(dataset)
        ):
            left_out[grid.title(dataset)] = why
            continue
        measured[dataset] = values
        cells = []
        for contender, pair in values.items():
            model = contender.printed_as(names)
            numbers = printed.get((squash(dataset), model or ""), (None, None))
            notes = _notes(pair)
            if request.published or request.delta:
                notes += _doubts(paper.MAIN_TABLE[level], dataset, model)
            if any(v.value is not None for v in pair):
                notes += protocol.get((contender, dataset), ())
            cells.append(_pair_cell(pair, numbers, notes))
        rows.append(Row(grid.title(dataset), _ranked(cells), grid.domain(dataset)))
    for domain in DOMAINS:
        covered = paper.mean_datasets(level, domain)
        mean = _mean_row(
            grid, measured, covered, domain, lambda c, n: _printed_of(printed, n, c, names)
        )
        if mean is not None:
            rows.append(mean)
    title = (
        f"{level.capitalize()}-level ({', '.join(METRIC_LABELS[m] for m in metrics)}) in percent"
    )
    remarks = _remarks(request, f"Table {paper.MAIN_TABLE[level]}", level == "pixel")
    for why in dict.fromkeys(left_out.values()):
        names_of = ", ".join(name for name, reason in left_out.items() if reason == why)
        remarks.append(f"Not shown: {names_of} ({why}).")
    return Table(
        level,
        title,
        ("Domain", "Dataset"),
        _columns(grid, tuple(METRIC_LABELS[m] for m in metrics)),
        tuple(_by_group(rows)),
        tuple(remarks),
        request.published,
        request.delta,
    )


def _by_group(rows: Sequence[Row]) -> list[Row]:
    """Rows of a group together, groups in the order of their first rows."""
    groups = list(dict.fromkeys(row.group for row in rows))
    return [row for group in groups for row in rows if row.group == group]


def _undefined_everywhere(values: Iterable[tuple[Value, ...]]) -> str:
    """Why no method has any value of a row; "" if one has, or if one failed."""
    every = [value for pair in values for value in pair]
    notes = dict.fromkeys(note for value in every for note in value.notes)
    reasons = [note.removeprefix(UNDEFINED) for note in notes if note.startswith(UNDEFINED)]
    others = [note for note in notes if not note.startswith(UNDEFINED) and note != NOT_RUN]
    if any(v.value is not None for v in every) or others:
        return ""
    return "; ".join(reasons)


def _notes(values: Sequence[Value]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(note for value in values for note in value.notes))


def _doubts(table: int, dataset: str, model: str | None, category: str = "") -> tuple[str, ...]:
    doubt = paper.doubt_about(table, dataset, model, category) if model else None
    return () if doubt is None else (f"the printed value is doubtful: {doubt.reason}",)


def _pair_cell(
    values: Sequence[Value], printed: Sequence[float | None], notes: tuple[str, ...]
) -> TableCell:
    numbers = tuple(_number(v, p) for v, p in zip(values, printed, strict=True))
    return TableCell(numbers, notes=notes)


def _printed_pairs(level: Level) -> dict[tuple[str, str], tuple[float | None, ...]]:
    return {
        (squash(p.dataset), p.model): (p.auroc, p.second)
        for p in paper.main_results()
        if p.level == level
    }


def _printed_of(
    printed: Mapping[tuple[str, str], tuple[float | None, ...]],
    dataset: str,
    contender: Contender,
    names: Sequence[str],
) -> tuple[float | None, ...]:
    return printed.get((squash(dataset), contender.printed_as(names) or ""), (None, None))


def _mean_row(
    grid: Grid,
    measured: Mapping[str, Mapping[Contender, Sequence[Value]]],
    names: Sequence[str],
    domain: str,
    printed: Callable[[Contender, str], Sequence[float | None]],
) -> Row | None:
    """The mean over a domain: of the paper's datasets those that every shown method has.

    Methods without any value in the domain show a dash and do not count. There is no row for fewer
    than two datasets, nor where no dataset has a value of every method.

    Args:
        grid: for its contenders.
        measured: dataset -> contender -> values.
        names: the paper's datasets of the domain.
        domain: industrial or medical.
        printed: the paper's values of a contender on a dataset.
    """
    present = {n: v for n in names for d, v in measured.items() if squash(d) == squash(n)}
    active = [
        c for c in grid.contenders if any(_complete(values[c]) for values in present.values())
    ]
    common = [
        n for n, values in present.items() if active and all(_complete(values[c]) for c in active)
    ]
    if len(present) < 2 or not common:
        return None
    size = len(next(iter(present.values()))[active[0]])
    cells = []
    for contender in grid.contenders:
        if contender not in active:
            cells.append(TableCell((Number(),) * size, notes=("no value in this domain",)))
            continue
        values = [
            fmean(v for n in common if (v := present[n][contender][i].value) is not None)
            for i in range(size)
        ]
        beside = [_mean_or_none([printed(contender, n)[i] for n in common]) for i in range(size)]
        numbers = (_number(Value(v), p) for v, p in zip(values, beside, strict=True))
        cells.append(TableCell(tuple(numbers)))
    complete = len(common) == len(names)
    label = "Mean" if complete else f"Mean of {len(common)} of {len(names)}"
    notes = [f"without {paper.LEFT_OUT_OF_MEANS}, as in the paper"] * (domain == "industrial")
    if not complete:
        notes.append(f"over {', '.join(common)}")
    return Row(label, _ranked(cells), domain, tuple(notes), summary=True)


def _complete(values: Sequence[Value]) -> bool:
    return all(value.value is not None for value in values)


def _mean_or_none(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None


def _remarks(request: Request, where: str, pixel: bool) -> list[str]:
    """What a reader must know about the printed numbers that are shown."""
    shown = []
    if request.published:
        shown.append(f"in brackets the number printed in {where} of the FAPrompt paper")
    if request.delta:
        shown.append("in braces the difference to the printed number in percentage points")
    if not shown:
        return []
    text = " and ".join(shown)
    remarks = [f"{text[0].upper()}{text[1:]}."]
    remarks.append(
        "The printed numbers were made with CLIP ViT-L/14@336px at 518 pixels "
        "(WinCLIP and AnoVL with ViT-B/16+ at 240)."
    )
    if pixel and request.pro == "exact":
        remarks.append(
            "The printed PRO is the released codes' score over 200 thresholds; "
            "ours is exact unless official200 is asked for."
        )
    return remarks


# -- breakdown (Tables 12-19) -------------------------------------------------------------------


def _breakdown_table(grid: Grid, request: Request) -> Table:
    """Tables 12-19: the categories of a dataset by methods, one group of rows per metric."""
    metrics = request.metrics or (*request.pair("image"), *request.pair("pixel"))
    names = paper.models()
    protocol = protocol_notes(grid)
    printed = {
        (squash(p.dataset), squash(p.category), p.model, p.metric): p for p in paper.breakdown()
    }
    chosen = grid.datasets
    if not request.datasets:
        chosen = tuple(d for d in grid.datasets if len(_categories(grid, d)) > 1) or chosen
    rows = []
    for dataset in chosen:
        for metric in metrics:
            beside = "pixel_pro" if metric == request.pro_metric else metric
            group, described = f"{grid.title(dataset)} {_metric_words(metric)}", []
            for category in [*_categories(grid, dataset), None]:
                cells = []
                for contender in grid.contenders:
                    value = measure(grid.records(contender, dataset), metric, category)
                    model = contender.printed_as(names)
                    key = category or paper.DATASET_MEAN
                    found = printed.get((squash(dataset), squash(key), model or "", beside))
                    notes = value.notes
                    if found is not None and (request.published or request.delta):
                        notes += _doubts(found.table, dataset, model, key)
                    if category is None and value.value is not None:
                        notes += protocol.get((contender, dataset), ())
                    number = _number(value, found.value if found else None)
                    cells.append(TableCell((number,), notes=notes))
                label = category or "mean"
                described.append(Row(label, _ranked(cells), group, summary=category is None))
            if any(c.numbers[0].value is not None for row in described for c in row.cells):
                rows += described
    if not rows:
        raise UsageError("no category has a value to show in layout 'breakdown'")
    return Table(
        "breakdown",
        "Per category in percent",
        ("Metric", "Category"),
        _columns(grid, ()),
        tuple(rows),
        tuple(_remarks(request, "Tables 12 to 19", True)),
        request.published,
        request.delta,
    )


def _categories(grid: Grid, dataset: str) -> list[str]:
    """The categories of a dataset in the paper's order, then in the records'."""
    order = [squash(name) for name in paper.categories(dataset)]
    found = dict.fromkeys(r.category for record in grid.of_row(dataset) for r in record.categories)
    return sorted(found, key=lambda name: place(squash(name), order))


def _metric_words(metric: str) -> str:
    return f"{metric.partition('_')[0]}-level {METRIC_LABELS[metric]}"


# -- complexity (Table 6) -----------------------------------------------------------------------


def _complexity_table(grid: Grid, request: Request) -> Table:
    """Table 6: parameters, training time per batch and inference time per image, and ours."""
    printed = {cost.model: cost for cost in paper.costs()}
    rows = []
    devices = set()
    for contender, label in zip(grid.contenders, labels(grid.contenders), strict=True):
        records = [r for r in grid.of_column(contender) if r.status == "ok"]
        cost = printed.get(contender.printed_as(printed) or "")
        devices |= {str(r.provenance["device"]) for r in records if r.provenance.get("device")}
        failed = () if records else _notes([measure(grid.of_column(contender), METRICS[0])])
        images = sum(r.timing.get("images", 0.0) for r in records)
        seconds = sum(_seconds(r) for r in records)
        infer = 1000 * seconds / images if images and seconds else None
        numbers = [
            _whole(
                _largest(r.published_parameters for r in records), cost.parameters if cost else None
            ),
            _whole(_largest(r.effective_parameters for r in records)),
            Number(
                _largest(r.timing.get("train_ms_per_batch") for r in records),
                printed=cost.train_ms if cost else None,
            ),
            Number(_largest(r.timing.get("seconds_train") for r in records)),
            Number(infer, printed=cost.infer_ms if cost else None),
            Number(None if infer is None else 1000 / infer),
            _whole(_largest(r.timing.get("peak_memory_mb") for r in records)),
        ]
        cells = tuple(TableCell((number,)) for number in numbers)
        notes = failed + column_notes(grid, contender)
        rows.append(Row(label, cells, notes=notes))
    names = (
        "Parameters",
        "of them learning",
        "Training ms/batch",
        "Training s",
        "Inference ms/image",
        "Images/s",
        "Peak memory MB",
    )
    remarks = [f"Measured on: {', '.join(sorted(devices))}."] if devices else []
    remarks.append(
        "Parameters as the paper counts them; those that learn receive a gradient. Inference "
        "counts the visual forward in full for each method, although methods share it in a run."
    )
    if request.published or request.delta:
        remarks.append(
            "Table 6 of the FAPrompt paper was measured on an RTX 3090: training per batch of 8, "
            "inference per image. In brackets its numbers, in braces the difference to them."
        )
    return Table(
        "complexity",
        "Complexity",
        ("Method",),
        tuple(Column(name) for name in names),
        tuple(rows),
        tuple(remarks),
        request.published,
        request.delta,
    )


def _seconds(record: Record) -> float:
    timing = record.timing
    own = timing.get("seconds_forward", 0.0) + timing.get("seconds_predict", 0.0)
    return own or timing.get("ms_per_image", 0.0) * timing.get("images", 0.0) / 1000


def _whole(value: float | None, printed: float | None = None) -> Number:
    return Number(value, printed=printed, decimals=0)


def _largest(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


# -- ablation (Tables 20, 21 and 3) -------------------------------------------------------------


def _ablation_table(grid: Grid, request: Request) -> Table:
    """Tables 20 and 21 with the averages of Table 3: datasets by models, both levels."""
    models = paper.ablation_models()
    names = {c: _ablation_name(c, models) for c in grid.contenders}
    studied = {c.method for c, name in names.items() if name is not None}
    order = sorted(
        (c for c in grid.contenders if not studied or c.method in studied),
        key=lambda c: (place(names[c], models), grid.contenders.index(c)),
    )
    grid = dataclasses.replace(grid, contenders=tuple(order))
    protocol = protocol_notes(grid)
    rows: list[Row] = []
    for level in paper.LEVELS:
        metrics = request.pair(level)
        table = 20 if level == "image" else 21
        printed = {
            (squash(p.dataset), p.model): (p.auroc, p.second)
            for p in paper.ablations()
            if p.table == table
        }
        averages = {
            (p.domain, p.model): (p.auroc, p.second)
            for p in paper.ablations()
            if p.table in (3, 10) and p.level == level
        }
        measured = {}
        for domain in dict.fromkeys(grid.domain(d) for d in grid.datasets):
            group = f"{level}, {domain}"
            described = []
            for dataset in (d for d in grid.datasets if grid.domain(d) == domain):
                values = {
                    c: tuple(measure(grid.records(c, dataset), m) for m in metrics)
                    for c in grid.contenders
                }
                if not any(_complete(pair) for pair in values.values()):
                    continue
                measured[dataset] = values
                cells = []
                for contender, pair in values.items():
                    model = names[contender] or ""
                    notes = _notes(pair) + protocol.get((contender, dataset), ())
                    if request.published or request.delta:
                        notes += _doubts(table, dataset, names[contender])
                    cells.append(
                        _pair_cell(pair, printed.get((squash(dataset), model), (None, None)), notes)
                    )
                described.append(Row(grid.title(dataset), _ranked(cells), group))
            rows += described
            covered = paper.mean_datasets(level, domain)

            def beside(
                contender: Contender,
                dataset: str,
                printed: Mapping[tuple[str, str], tuple[float, float]] = printed,
            ) -> Sequence[float | None]:
                return printed.get((squash(dataset), names[contender] or ""), (None, None))

            mean = _mean_row(grid, measured, covered, domain, beside)
            if mean is not None:
                rows.append(
                    _with_averages(mean, group, grid, names, averages, domain)
                    if mean.label == "Mean"
                    else dataclasses.replace(mean, group=group)
                )
    if not rows:
        raise UsageError("no dataset has a value to show in layout 'ablation'")
    columns = [
        dataclasses.replace(
            column,
            label=column.label if names[c] in (None, c.title) else f"{names[c]}",
            names=("AUROC", "AP/PRO"),
        )
        for column, c in zip(_columns(grid, ()), grid.contenders, strict=True)
    ]
    return Table(
        "ablation",
        "Ablation: (AUROC, AP) at image level, (AUROC, PRO) at pixel level, in percent",
        ("Level", "Dataset"),
        tuple(columns),
        tuple(rows),
        tuple(_remarks(request, "Tables 20, 21 and 3", True)),
        request.published,
        request.delta,
    )


def _with_averages(
    mean: Row,
    group: str,
    grid: Grid,
    names: Mapping[Contender, str | None],
    averages: Mapping[tuple[str, str], tuple[float, float]],
    domain: str,
) -> Row:
    """A complete mean row beside the averages that Table 3 prints."""
    cells = []
    for contender, cell in zip(grid.contenders, mean.cells, strict=True):
        pair = averages.get((domain, names[contender] or ""))
        numbers = cell.numbers
        if pair is not None:
            numbers = tuple(
                dataclasses.replace(n, printed=p) for n, p in zip(numbers, pair, strict=True)
            )
        cells.append(dataclasses.replace(cell, numbers=numbers))
    return dataclasses.replace(mean, group=group, cells=tuple(cells))


def _ablation_name(contender: Contender, models: Sequence[str]) -> str | None:
    """The paper's name of an ablation: by the variant where that is one, else by the method."""
    if contender.ablation is not None:
        return contender.ablation
    return None if contender.options else contender.printed_as(models)


# -- datasets (Tables 4 and 5) ------------------------------------------------------------------


def _datasets_table(grid: Grid, request: Request) -> Table:
    """Tables 4 and 5: how many test images were scored, beside the printed counts."""
    rows = []
    order = list(dict.fromkeys(squash(count.dataset) for count in paper.counts()))
    for dataset in sorted(grid.datasets, key=lambda name: place(squash(name), order)):
        scored = [r for r in grid.of_row(dataset) if r.status == "ok"]
        printed = {
            squash(c.category): c for c in paper.counts() if squash(c.dataset) == squash(dataset)
        }
        title = grid.title(dataset)
        if not scored:
            notes = _notes([measure(grid.of_row(dataset), METRICS[0])])
            rows.append(Row(ALL, (TableCell(),) * 6, title, notes))
            continue
        record = max(scored, key=lambda r: len(r.categories))
        by_name = {r.category: r for r in record.categories}
        details = len(printed) > 1
        if details:
            for category in _categories(grid, dataset):
                if category in by_name:
                    known = printed.get(squash(category))
                    rows.append(_count_row(title, category, [by_name[category]], known))
        if details:
            total: paper.PrintedCounts | None = _total(list(printed.values()))
        else:
            total = next(iter(printed.values()), None)
        notes = () if _same_counts(scored) else ("records of this dataset differ in their images",)
        row = _count_row(title, ALL, record.categories, total)
        rows.append(dataclasses.replace(row, notes=notes, summary=details))
    names = ("Domain", "Modality", "Type", "Categories", "Test normal", "Test anomalous")
    remarks = []
    if request.published or request.delta:
        remarks = [
            "In brackets the counts of Tables 4 and 5, in braces the difference to them. For AITEX "
            "and ELPV the paper counts defect and module types; both are scored as one category. "
            "For tile it prints 83 anomalous images where the dataset has 84."
        ]
    rows = [
        dataclasses.replace(
            row, cells=(TableCell(text=_domain_of(grid, row.group)), *row.cells[1:])
        )
        for row in rows
    ]
    return Table(
        "datasets",
        "Datasets: the images that were scored",
        ("Dataset", "Category"),
        tuple(Column(name) for name in names),
        tuple(rows),
        tuple(remarks),
        request.published,
        request.delta,
    )


def _domain_of(grid: Grid, title: str) -> str:
    return next((grid.domain(d) for d in grid.datasets if grid.title(d) == title), "")


def _count_row(
    dataset: str,
    label: str,
    results: Sequence[CategoryResult],
    printed: paper.PrintedCounts | None,
) -> Row:
    cells = (
        TableCell(),
        TableCell(text=printed.modality if printed else ""),
        TableCell(text=printed.kind if printed else ""),
        TableCell((_whole(len(results), printed.n_categories if printed else None),))
        if label == ALL
        else TableCell(),
        TableCell((_whole(_sum_normal(results), printed.test_normal if printed else None),)),
        TableCell((_whole(_sum_anomalous(results), printed.test_anomalous if printed else None),)),
    )
    return Row(label, cells, dataset)


def _total(parts: Sequence[paper.PrintedCounts]) -> paper.PrintedCounts:
    return dataclasses.replace(
        parts[0],
        category="",
        kind="",
        n_categories=len(parts),
        test_normal=sum(part.test_normal for part in parts),
        test_anomalous=sum(part.test_anomalous for part in parts),
    )


def _sum_normal(results: Sequence[CategoryResult]) -> int:
    return sum(result.n_normal for result in results)


def _sum_anomalous(results: Sequence[CategoryResult]) -> int:
    return sum(result.n_anomalous for result in results)


def _same_counts(records: Sequence[Record]) -> bool:
    seen = {
        tuple(sorted((r.category, r.n_normal, r.n_anomalous) for r in record.categories))
        for record in records
    }
    return len(seen) == 1
