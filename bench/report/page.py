"""A run as one HTML page: readable without network and without JavaScript, on paper too.

Everything that comes from a run is data: the template escapes it, and a content policy in the page
lets only the page's own script run and only pictures within the page be shown.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from ..analysis import published
from ..analysis.formats import Number, Row, Table, TableCell
from ..analysis.matrix import is_incomplete
from ..analysis.overview import Entrant, Overview, Target, result_of
from ..analysis.tables import make_table
from ..files import read_json, write_text
from ..metric_table import HEADLINES, LEVELS, METRICS, Level, of_level
from ..records.gallery import KINDS, Case, GalleryError, read_gallery, strip_path
from ..records.record import Record, environment

TEMPLATES = Path(__file__).parent / "templates"
MEGABYTE = 1_000_000
COLOURS = 10
"""Colours that differ without colour vision; beyond them lines are dashed."""
PANEL = 120.0
PRO_LIMIT = 0.3
DOMAIN_TITLES = {"synthetic": "Built-in", "custom": "Own", "other": "Other"}
CURVES = {"image_roc": "image ROC", "pixel_roc": "pixel ROC", "pixel_pro": "PRO"}
CURVE_METRIC = {"image_roc": "image_auroc", "pixel_roc": "pixel_auroc", "pixel_pro": "pixel_pro"}


def write_report(
    run: Path,
    out: Path,
    title: str | None = None,
    picture_megabytes: float = 8.0,
    allow_incomplete: bool = False,
) -> Path:
    """Write the report of a run directory as one HTML file.

    Args:
        run: a run directory.
        out: the file to write.
        title: heading of the page; the run's name if None.
        picture_megabytes: what the gallery's pictures may take; 0 leaves it out.
        allow_incomplete: let incomplete datasets into means, and beside printed numbers.

    Raises:
        RecordError: the directory is not a run, or a record is broken.
        FileError: the page cannot be written.
        GalleryError: a picture of the run is broken.
        UsageError: the run has no cells.
    """
    write_text(out, render_report(run, title, picture_megabytes, allow_incomplete))
    return out


def render_report(
    run: Path,
    title: str | None = None,
    picture_megabytes: float = 8.0,
    allow_incomplete: bool = False,
) -> str:
    """The page as text; arguments and errors as `write_report`."""
    overview = Overview.read(run, allow_incomplete)
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    matrices = [own for own in (matrix(overview, level) for level in LEVELS) if own.has_values]
    pictures = gallery(run, overview, int(picture_megabytes * MEGABYTE))
    return (
        _templates()
        .get_template("report.html")
        .render(
            title=title or run.resolve().name,
            css=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
            js=Markup(script),
            js_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            version=environment()["zsad"],
            overview=overview,
            backbones=_distinct(overview, "backbone"),
            podiums=podiums(overview, matrices),
            matrices=matrices,
            comparison=compare_published(overview, matrices),
            curves=curve_groups(overview),
            costs=costs(overview),
            gallery=pictures,
            cells=cell_rows(overview),
            metrics=[(metric.name, metric.title) for metric in METRICS.values()],
            many_seeds=len({r.cell.seed for r in overview.records}) > 1,
            shared=shared_facts(overview),
            differing=differing_facts(overview),
            dumps=[(record, dump(record)) for record in overview.everything],
            plan=_plan_text(run),
        )
    )


def _templates() -> Environment:
    """The templates, escaping everything that is not marked as ours."""
    found = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "signed": signed,
        "direction": direction,
        "domain_title": domain_title,
        "style": style_of,
        "short": lambda metric: METRICS[metric].title,
        "grouped": grouped,
    }
    return found


def grouped(number: str) -> str:
    """A number with narrow spaces between its thousands."""
    whole, point, rest = number.partition(".")
    return f"{int(whole):,}".replace(",", "\u202f") + point + rest


def style_of(entrant: Entrant) -> str:
    """The CSS classes of an entrant: a colour, and a dash where colours repeat."""
    return f"s{entrant.index % COLOURS} d{entrant.index // COLOURS % 3}"


# -- tables -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Matrix:
    """The table of a level, its rows by domain."""

    level: Level
    table: Table
    blocks: list[tuple[str, list[Row]]]

    @property
    def has_values(self) -> bool:
        """Whether any number is defined."""
        return any(n.value is not None for n in self._numbers())

    @property
    def has_changes(self) -> bool:
        """Whether any number has a printed one beside it."""
        return any(n.printed is not None and n.value is not None for n in self._numbers())

    @property
    def remarks(self) -> list[str]:
        """The table's remarks, without those about signs that the page does not use."""
        own = [text for text in self.table.remarks if not text.startswith("In braces")]
        return own if self.has_changes else [t for t in own if "printed" not in t]

    def _numbers(self) -> Iterator[Number]:
        for row in self.table.rows:
            for cell in row.cells:
                yield from cell.numbers


def matrix(overview: Overview, level: Level) -> Matrix:
    """The table of one level; printed numbers stand only beside comparable ones."""
    allow = overview.allow_incomplete
    table = make_table(overview.everything, level, delta=True, allow_incomplete=allow)
    by_title = {target.title: target for target in overview.targets}
    rows = tuple(_comparable_row(overview, row, by_title.get(row.label)) for row in table.rows)
    table = dataclasses.replace(table, rows=rows)
    blocks: dict[str, list[Row]] = {}
    for row in rows:
        blocks.setdefault(row.group, []).append(row)
    return Matrix(level, table, list(blocks.items()))


def _comparable_row(overview: Overview, row: Row, target: Target | None) -> Row:
    """A row without the printed numbers that are about something else."""
    cells = []
    for entrant, cell in zip(overview.entrants, row.cells, strict=True):
        targets = [target] if target else [t for t in overview.targets if t.domain == row.group]
        if all(is_comparable(overview, entrant, t) for t in targets):
            cells.append(cell)
        else:
            cells.append(_unprinted(cell))
    return dataclasses.replace(row, cells=tuple(cells))


def _unprinted(cell: TableCell) -> TableCell:
    numbers = tuple(dataclasses.replace(number, printed=None) for number in cell.numbers)
    notes = tuple(note for note in cell.notes if not note.startswith("the printed value"))
    return dataclasses.replace(cell, numbers=numbers, notes=notes)


def is_comparable(overview: Overview, entrant: Entrant, target: Target) -> bool:
    """Whether a cell measures what the paper printed.

    It does not with changed options, on a part of the images, with the tiny backbone, on a
    built-in dataset, or on an incomplete one unless that is allowed.
    """
    records = overview.finished(entrant, target)
    limited = any(record.protocol.get("limit") is not None for record in records)
    chosen = any(r.completeness is not None and r.completeness.chosen for r in records)
    incomplete = is_incomplete(records) and not overview.allow_incomplete
    built_in = any(overview.is_built_in(record) for record in records)
    return not (entrant.options or limited or chosen or incomplete or built_in)


@dataclass(frozen=True)
class PodiumRow:
    """An entrant's mean; `position` is the place of its dot in percent of the axis."""

    entrant: Entrant
    text: str
    position: float


@dataclass(frozen=True)
class Podium:
    """The entrants by their AUROC over the datasets of a domain.

    Attributes:
        over: what the mean is over, in words.
        low, high: ends of the axis in percent.
    """

    title: str
    domain: str
    over: str
    low: int
    high: int
    rows: list[PodiumRow]


def podiums(overview: Overview, matrices: Sequence[Matrix]) -> list[Podium]:
    """For each domain and level the mean row of the table, best first.

    A domain with a single dataset shows that one; one with several and no mean shows nothing.
    """
    found = []
    for own in matrices:
        for domain, rows in own.blocks:
            means = [row for row in rows if row.summary] or (rows if len(rows) == 1 else [])
            found += [_podium(overview, own.level, domain, row) for row in means[:1]]
    return [podium for podium in found if podium.rows]


def _podium(overview: Overview, level: Level, domain: str, row: Row) -> Podium:
    values = [
        (entrant, cell.numbers[0].value)
        for entrant, cell in zip(overview.entrants, row.cells, strict=True)
        if cell.numbers and cell.numbers[0].value is not None
    ]
    values.sort(key=lambda item: -(item[1] or 0))
    low = 10 * int(min((v or 0 for _, v in values), default=0) // 10)
    rows = [
        PodiumRow(entrant, f"{value:.1f}", 100 * (value - low) / max(100 - low, 1))
        for entrant, value in values
        if value is not None
    ]
    over = row.label if not row.summary else "; ".join([row.label, *row.notes])
    title = f"{domain_title(domain)}, {level} level"
    return Podium(title, domain, over, low, 100, rows)


def domain_title(domain: str) -> str:
    """A domain as a heading."""
    return DOMAIN_TITLES.get(domain, domain.capitalize())


# -- against the printed numbers ----------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    """A number beside its printed one, percent.

    Attributes:
        doubt: why the printed number is doubtful, or "".
    """

    target: Target
    entrant: Entrant
    metric: str
    number: Number
    doubt: str

    @property
    def points(self) -> float:
        """Here minus printed."""
        return float(self.number.delta_text)

    @property
    def width(self) -> float:
        """Length of the bar in percent of half the axis, which ends at 10 points."""
        return min(abs(self.points), 10.0) * 10


@dataclass(frozen=True)
class Comparison:
    """All differences, and in one sentence how they are."""

    differences: list[Difference]
    sentence: str


def compare_published(overview: Overview, matrices: Sequence[Matrix]) -> Comparison:
    """Every number of the run that the paper prints too and that is comparable."""
    differences: list[Difference] = []
    by_title = {target.title: target for target in overview.targets}
    for own in matrices:
        for row in own.table.rows:
            target = by_title.get(row.label)
            if target is not None and not row.summary:
                differences += _row_differences(overview, own.level, target, row)
    if not differences:
        return Comparison([], "")
    sizes = [abs(d.points) for d in differences]
    largest = max(differences, key=lambda d: abs(d.points))
    within = sum(size <= 0.5 for size in sizes)
    sentence = (
        f"{len(differences)} numbers have a printed counterpart; {within} of them lie within "
        f"0.5 points of it. The median distance is {median(sizes):.1f} points, the largest "
        f"difference {signed(largest.number)} ({largest.entrant.label}, {largest.target.title}, "
        f"{METRICS[largest.metric].title})."
    )
    return Comparison(differences, sentence)


def _row_differences(
    overview: Overview, level: Level, target: Target, row: Row
) -> Iterator[Difference]:
    for entrant, cell in zip(overview.entrants, row.cells, strict=True):
        doubts = [note for note in cell.notes if note.startswith("the printed value")]
        for metric, number in zip(of_level(level, HEADLINES), cell.numbers, strict=True):
            if number.value is not None and number.printed is not None:
                yield Difference(target, entrant, metric, number, "".join(doubts[:1]))


def signed(number: Number) -> str:
    """The difference to the printed number with a real minus sign, "" without one."""
    if number.value is None or number.printed is None:
        return ""
    return number.delta_text.replace("-", "−").replace("+0.0", "0.0")


def direction(number: Number) -> str:
    """The class of a difference: up, down, same or ""."""
    text = signed(number)
    return {"": "", "+": "up", "−": "down"}.get(text[:1], "same")


# -- curves -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """A entrant's curve as an SVG path in a square of `PANEL` units."""

    entrant: Entrant
    path: str
    text: str


@dataclass(frozen=True)
class Panel:
    """One kind of curve of one category."""

    kind: str
    title: str
    x_end: str
    lines: list[Line]


@dataclass(frozen=True)
class CurveGroup:
    """The panels of a dataset by category."""

    target: Target
    categories: list[tuple[str, list[Panel]]]


def curve_groups(overview: Overview) -> list[CurveGroup]:
    """ROC and PRO curves, all entrants of a category in one panel, a line per seed."""
    groups = []
    for target in overview.targets:
        categories = []
        for category in overview.categories(target):
            panels = [_panel(overview, target, category, kind) for kind in CURVES]
            panels = [panel for panel in panels if panel.lines]
            if panels:
                categories.append((category, panels))
        if categories:
            groups.append(CurveGroup(target, categories))
    return groups


def _panel(overview: Overview, target: Target, category: str, kind: str) -> Panel:
    end = PRO_LIMIT if kind == "pixel_pro" else 1.0
    lines = []
    for entrant in overview.entrants:
        for record in overview.finished(entrant, target):
            result = result_of(record, category)
            if result is None or kind not in result.curves:
                continue
            curve = result.curves[kind]
            path = svg_path(curve["x"], curve["y"], end)
            value = result.metrics.get(CURVE_METRIC[kind])
            text = entrant.label if value is None else f"{entrant.label}: {100 * value:.1f}"
            if path:
                lines.append(Line(entrant, path, text))
    return Panel(kind, CURVES[kind], f"{end:g}", lines)


def svg_path(x: Sequence[float], y: Sequence[float], x_end: float = 1.0) -> str:
    """A curve as an SVG path in a square of `PANEL` units, cut at `x_end`.

    Points that change the line by less than a quarter unit are left out.
    """
    points: list[tuple[float, float]] = []
    for a, b in zip(x, y, strict=True):
        if a > x_end:
            if points:
                left, height = points[-1]
                share = (x_end - left) / (a - left)
                points.append((x_end, height + share * (b - height)))
            break
        points.append((float(a), float(b)))
    scaled = [(PANEL * a / x_end, PANEL * (1 - min(max(b, 0.0), 1.0))) for a, b in points]
    kept = _thinned(scaled, 0.25)
    return "M" + "L".join(f"{_short(a)},{_short(b)}" for a, b in kept) if len(kept) > 1 else ""


def _thinned(points: Sequence[tuple[float, float]], tolerance: float) -> list[tuple[float, float]]:
    """The Ramer-Douglas-Peucker simplification of a line."""
    if len(points) < 3:
        return list(points)
    keep = {0, len(points) - 1}
    spans = [(0, len(points) - 1)]
    while spans:
        start, end = spans.pop()
        (x0, y0), (x1, y1) = points[start], points[end]
        length = max(((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5, 1e-9)
        farthest, distance = start, 0.0
        for i in range(start + 1, end):
            px, py = points[i]
            off = abs((x1 - x0) * (y0 - py) - (x0 - px) * (y1 - y0)) / length
            if off > distance:
                farthest, distance = i, off
        if distance > tolerance:
            keep.add(farthest)
            spans += [(start, farthest), (farthest, end)]
    return [points[i] for i in sorted(keep)]


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


# -- speed and memory ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Cost:
    """What an entrant took: times over all its images, the longest fitting and the greatest memory.

    What was not recorded is None.

    Attributes:
        effective, published: learned parameters here, and as the paper counts them.
        ms_per_image: visual forward and the method's own part.
        printed: the paper's time per image on an RTX 3090, in milliseconds.
        width: length of the time's bar in percent.
    """

    entrant: Entrant
    effective: int | None
    published: int | None
    train_seconds: float | None
    ms_per_image: float | None
    own_ms_per_image: float | None
    memory_mb: float | None
    printed: float | None
    devices: str
    width: float = 0.0


def costs(overview: Overview) -> list[Cost]:
    """Parameters, times and memory of every entrant that finished a cell."""
    found = []
    for entrant in overview.entrants:
        records = [r for target in overview.targets for r in overview.finished(entrant, target)]
        if records:
            found.append(_cost(entrant, records))
    slowest = max((c.ms_per_image or 0 for c in found), default=0)
    if not slowest:
        return found
    return [dataclasses.replace(c, width=100 * (c.ms_per_image or 0) / slowest) for c in found]


def _cost(entrant: Entrant, records: Sequence[Record]) -> Cost:
    def timings(name: str) -> list[float]:
        return [r.timing[name] for r in records if name in r.timing]

    images = sum(timings("images"))
    forward, own = sum(timings("seconds_forward")), sum(timings("seconds_predict"))
    per_image = timings("ms_per_image")
    mean = sum(per_image) / len(per_image) if per_image else None
    model = entrant.contender.printed_as([cost.model for cost in published.costs()])
    printed = [cost.infer_ms for cost in published.costs() if cost.model == model]
    devices = sorted({str(r.provenance.get("device", "")) for r in records} - {""})
    return Cost(
        entrant,
        records[0].effective_parameters,
        records[0].published_parameters,
        max(timings("seconds_train"), default=None),
        1000 * (forward + own) / images if images and forward + own else mean,
        1000 * own / images if images and own else None,
        max(timings("peak_memory_mb"), default=None),
        None if entrant.options else next(iter(printed), None),
        ", ".join(devices),
    )


# -- gallery ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Picture:
    """A strip within the page."""

    case: Case
    uri: str


@dataclass(frozen=True)
class Wall:
    """The pictures of one category: per entrant its best and worst cases."""

    category: str
    columns: list[tuple[Entrant, list[Picture]]]


@dataclass(frozen=True)
class GalleryView:
    """All pictures by dataset, and how many had to stay out."""

    rooms: list[tuple[Target, list[Wall]]]
    shown: int
    left_out: int


def gallery(run: Path, overview: Overview, budget: int) -> GalleryView:
    """The pictures of the first seed of every cell, the extreme ones first, within a budget.

    Args:
        run: the run directory.
        overview: of its records.
        budget: bytes that the pictures may take within the page.

    Raises:
        GalleryError: an index or a picture is broken.
    """
    wanted: list[tuple[int, int, Target, Entrant, str, Case]] = []
    for target in overview.targets:
        order = {name: i for i, name in enumerate(overview.categories(target))}
        for entrant in overview.entrants:
            for record in overview.finished(entrant, target)[:1]:
                key = record.cell.key
                wanted += [
                    (case.rank, order[case.category], target, entrant, key, case)
                    for case in read_gallery(run, key)
                    if case.category in order
                ]
    wanted.sort(key=lambda item: item[:2])  # every dataset's first category before its second
    pictures: dict[tuple[str, str, str], list[Picture]] = {}
    spent = shown = 0
    for _, _, target, entrant, key, case in wanted if budget > 0 else []:
        uri = _data_uri(strip_path(run, key, case))
        if spent + len(uri) > budget:
            break
        spent, shown = spent + len(uri), shown + 1
        place = (target.name, case.category, entrant.label)
        pictures.setdefault(place, []).append(Picture(case, uri))
    rooms = []
    for target in overview.targets:
        walls = [_wall(overview, target, c, pictures) for c in overview.categories(target)]
        walls = [wall for wall in walls if wall.columns]
        if walls:
            rooms.append((target, walls))
    return GalleryView(rooms, shown, len(wanted) - shown)


def _wall(
    overview: Overview,
    target: Target,
    category: str,
    pictures: Mapping[tuple[str, str, str], list[Picture]],
) -> Wall:
    columns = []
    for entrant in overview.entrants:
        own = pictures.get((target.name, category, entrant.label), [])
        if own:
            own = sorted(own, key=lambda p: (KINDS.index(p.case.kind), p.case.rank))
            columns.append((entrant, own))
    return Wall(category, columns)


def _data_uri(path: Path) -> str:
    """A picture as a data URI, much smaller than its PNG.

    Raises:
        GalleryError: no readable picture.
    """
    try:
        with Image.open(path, formats=("PNG",)) as image:
            buffer = io.BytesIO()
            image.convert("RGBA").save(buffer, format="WEBP", quality=62, method=2)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise GalleryError(f"{path} is no readable picture ({error})") from error
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


# -- cells and provenance -----------------------------------------------------------------------


@dataclass(frozen=True)
class CellRow:
    """A category of a cell with all its metrics."""

    entrant: Entrant
    target: Target
    category: str
    seed: int
    n_normal: int
    n_anomalous: int
    values: list[tuple[float | None, str]]


def cell_rows(overview: Overview) -> list[CellRow]:
    """One row per dataset, category, entrant and seed."""
    rows = []
    for target in overview.targets:
        for category in overview.categories(target):
            for entrant in overview.entrants:
                for record in overview.finished(entrant, target):
                    result = result_of(record, category)
                    if result is None:
                        continue
                    values = [
                        (result.metrics.get(m), result.undefined.get(m, "not measured"))
                        for m in METRICS
                    ]
                    rows.append(
                        CellRow(
                            entrant,
                            target,
                            category,
                            record.cell.seed,
                            result.n_normal,
                            result.n_anomalous,
                            values,
                        )
                    )
    return rows


def _facts(record: Record) -> dict[str, str]:
    """Protocol and provenance as text, nested names joined by dots."""
    return dict(_flat({**record.protocol, **record.provenance}))


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, item in sorted(value.items()):
        if isinstance(item, Mapping):
            yield from _flat(item, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", item if isinstance(item, str) else json.dumps(item)


def shared_facts(overview: Overview) -> list[tuple[str, str]]:
    """What is equal in all finished cells."""
    facts = [_facts(record) for record in overview.records]
    if not facts:
        return []
    return [(k, v) for k, v in sorted(facts[0].items()) if all(f.get(k) == v for f in facts)]


def differing_facts(overview: Overview) -> list[tuple[str, list[tuple[str, int]]]]:
    """Facts that are not the same everywhere: each with its values and how many cells have it."""
    facts = [_facts(record) for record in overview.records]
    same = {name for name, _ in shared_facts(overview)}
    names = sorted({name for f in facts for name in f} - same)
    found = []
    for name in names:
        counts: dict[str, int] = {}
        for f in facts:
            value = f.get(name, "–")
            counts[value] = counts.get(value, 0) + 1
        found.append((name, sorted(counts.items(), key=lambda item: -item[1])))
    return found


def dump(record: Record) -> str:
    """A record without its long lists, as indented JSON."""
    value = dataclasses.asdict(record)
    value.pop("categories")
    value.pop("error")
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False)


def _plan_text(run: Path) -> str:
    """The run's plan as indented JSON, "" where it has none."""
    path = run / "plan.json"
    try:
        return json.dumps(read_json(path), indent=1, sort_keys=True, ensure_ascii=False)
    except (OSError, ValueError, RecursionError):
        return ""


def _distinct(overview: Overview, name: str) -> list[str]:
    """The different values of a protocol's entry."""
    return _unique(str(r.protocol[name]) for r in overview.records if r.protocol.get(name))


def _unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))
