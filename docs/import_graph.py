"""Which module of the project imports which; run as a script, it draws docs/architecture.svg.

python docs/import_graph.py
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Set
from functools import cache
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("bench", "methods", "datasets")
ROOMS = (
    "metrics",
    "data",
    "records",
    "training",
    "running",
    "analysis",
    "report",
    "export",
    "site",
    "cli",
)
PICTURE = Path(__file__).with_name("architecture.svg")

Graph = Mapping[str, Set[str]]

WORDS = {  # what people look for in a box of the picture
    "cli": "the zsad command, one file per group of verbs",
    "report": "the page and the figures",
    "export": "records in the formats of others",
    "site": "leaderboards of many runs",
    "running": "from a plan to records",
    "analysis": "tables, statistics, comparisons, baseline",
    "training": "from frozen features to learned weights",
    "metrics": "exact metrics of labels, scores and maps",
    "records": "what is written, whole or not at all",
    "data": "reading, checking and showing datasets",
    "methods": "one file, one method",
    "datasets": "one file, one dataset",
    "bench": "the contract that plug-ins import",
}
BOX, GAP, ROW = (230, 54), 24, 104


@cache
def modules() -> Mapping[str, Path]:
    """Every module of the project, by its name."""
    found = {}
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(("zsad", *parts)).removesuffix(".__init__")] = path
    return found


@cache
def graph() -> Graph:
    """Module -> the modules of the project that it imports at any time, but for types alone."""
    return {name: set(_imports(name, path)) - {name} for name, path in modules().items()}


def room(module: str) -> str:
    """The sub-package of bench that a module lies in; "" for what lies in bench itself."""
    part = module.removeprefix("zsad.bench").strip(".").partition(".")[0]
    return part if part in ROOMS else ""


def _imports(module: str, path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    package = module if path.stem == "__init__" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules())
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*above, node.module] if node.module else above)
            source = base if node.level else node.module or ""
            for alias in node.names:
                inside = f"{source}.{alias.name}"
                yield from [name for name in (inside, source) if name in modules()][:1]


# -- the picture --------------------------------------------------------------------------------


def _box(module: str) -> str:
    """The box of the picture that a module belongs to."""
    folder = module.split(".")[1]
    return (room(module) or "bench") if folder == "bench" else folder


def _arrows(skipped: Set[str]) -> dict[str, set[str]]:
    """Box -> boxes that it imports, without those that an arrow on the way says already."""
    found: dict[str, set[str]] = {box: set() for box in WORDS}
    for module, targets in graph().items():
        if module not in skipped:
            found[_box(module)] |= {_box(target) for target in targets} - {_box(module)}
    return {
        box: {to for to in direct if not any(to in _below(found, via) for via in direct - {to})}
        for box, direct in found.items()
    }


def _below(arrows: Mapping[str, set[str]], box: str) -> set[str]:
    """All boxes that a box imports, directly or not; there is no circle."""
    return arrows[box].union(*(_below(arrows, to) for to in arrows[box]))


def _level(arrows: Mapping[str, set[str]], box: str) -> int:
    """How many rows of the picture lie below a box."""
    return 1 + max((_level(arrows, to) for to in arrows[box]), default=-1)


def picture(skipped: Set[str]) -> str:
    """The rooms as SVG text; an arrow means imports.

    Args:
        skipped: modules whose imports are not drawn, as they stand above the rooms.
    """
    arrows = _arrows(skipped)
    rows: dict[int, list[str]] = {}
    for box in WORDS:
        rows.setdefault(_level(arrows, box), []).append(box)
    width = max(len(row) for row in rows.values()) * (BOX[0] + GAP) + GAP
    height = len(rows) * ROW
    place = {}
    for level, row in rows.items():
        left = (width - len(row) * (BOX[0] + GAP) + GAP) / 2
        for number, box in enumerate(row):
            place[box] = (left + number * (BOX[0] + GAP), (max(rows) - level) * ROW + 20)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        'font-family="sans-serif" aria-label="Rooms of the project; an arrow means imports">',
        '<defs><marker id="end" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="#6b7280"/></marker></defs>',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for box, targets in arrows.items():
        for to in sorted(targets):
            (x, y), (u, v) = place[box], place[to]
            lines.append(
                f'<line x1="{x + BOX[0] / 2:g}" y1="{y + BOX[1]:g}" x2="{u + BOX[0] / 2:g}" '
                f'y2="{v:g}" stroke="#6b7280" stroke-width="1.2" marker-end="url(#end)"/>'
            )
    for box, (x, y) in place.items():
        title = box if box in ("bench", "methods", "datasets") else f"bench/{box}"
        middle = x + BOX[0] / 2
        lines += [
            f'<rect x="{x:g}" y="{y:g}" width="{BOX[0]}" height="{BOX[1]}" rx="6" fill="#f3f4f6" '
            'stroke="#374151"/>',
            f'<text x="{middle:g}" y="{y + 22:g}" text-anchor="middle" font-size="15" '
            f'font-weight="600" fill="#111827">{escape(title)}/</text>',
            f'<text x="{middle:g}" y="{y + 41:g}" text-anchor="middle" font-size="9.5" '
            f'fill="#374151">{escape(WORDS[box])}</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])


# They stand above the rooms although users import or run them from bench itself.
ABOVE = frozenset(
    {
        "zsad.bench",
        "zsad.bench.conformance",
        "zsad.bench.factory",
        "zsad.bench.main.__main__",
        "zsad.bench.tiny.train",
    }
)

if __name__ == "__main__":
    PICTURE.write_text(picture(ABOVE), encoding="utf-8")
