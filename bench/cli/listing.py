"""`zsad list`: the methods, datasets, backbones and metrics that there are."""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING, Annotated

import typer

from .. import registry
from ..errors import UsageError
from ..metric_table import METRICS
from ..names import display_name
from .grid import WIDTH, Grid, echo_facts, echo_grid
from .options import Json
from .terminal import echo

if TYPE_CHECKING:
    from .describe import Description

KINDS = ("methods", "datasets", "backbones", "metrics")
LICENCE, MEANT_BY = 20, 10  # characters of columns where they are piped


def list_names(
    what: Annotated[str, typer.Argument()] = "methods",
    verbose: Annotated[bool, typer.Option("--verbose", "-v")] = False,
    as_json: Json = False,
) -> None:
    """List the methods, datasets, backbones or metrics that there are.

    Args:
        what: methods, datasets, backbones or metrics
        verbose: Describe each.
    """
    if what not in KINDS:
        raise UsageError(f"list takes {', '.join(KINDS[:-1])} or {KINDS[-1]}, not '{what}'")
    if not verbose:
        names = _names(what)
        echo(json.dumps(names, indent=1) if as_json else "\n".join(names))
        return
    if what == "metrics":
        _metrics(as_json)
        return
    from .describe import DESCRIPTIONS

    found = DESCRIPTIONS[what]()
    if as_json:
        content = {what: found.facts, "broken": list(found.broken), "note": found.note}
        echo(json.dumps(content, indent=1, default=str))
    elif what == "backbones":
        echo("\n".join(str(facts["name"]) for facts in found.facts))
    else:
        _methods(found) if what == "methods" else _datasets(found)
        note = textwrap.fill(found.note, WIDTH, break_on_hyphens=False)
        echo("\n".join(line for line in (note, *found.broken) if line))


def _names(what: str) -> list[str]:
    if what == "metrics":
        return [display_name(name) for name in METRICS]
    if what == "backbones":
        from .describe import backbones

        return [str(facts["name"]) for facts in backbones().facts]
    return [display_name(name) for name in registry.names(what.removesuffix("s"))]


def _metrics(as_json: bool) -> None:
    facts = {
        display_name(m.name): {"title": m.title, "definition": m.definition, "level": m.level}
        for m in METRICS.values()
    }
    if as_json:
        echo(json.dumps({"metrics": [{"name": k, **v} for k, v in facts.items()]}, indent=1))
        return
    for name, own in facts.items():
        echo_facts(f"{name}: {own['title']}", {"is": own["definition"]})


def _methods(found: Description) -> None:
    for facts in found.facts:
        own = {name: value for name, value in facts.items() if name not in ("name", "title")}
        echo_facts(f"{facts['name']}: {facts['title']}", own)


def _datasets(found: Description) -> None:
    head = ["name", "domain", "meant by", "cat.", "test images", "level", "licence"]
    rows = [
        [
            facts["name"],
            facts["domain"],
            facts["meant by"],
            facts["categories"],
            _images(facts["normal"], facts["anomalous"]),
            _level(facts["image-level"], facts["pixel-level"]),
            facts["licence"],
        ]
        for facts in found.facts
    ]
    echo_grid(Grid(head, rows, {"licence": LICENCE, "meant by": MEANT_BY}))
    groups: dict[str, list[str]] = {}
    for facts in found.facts:
        groups.setdefault(facts["auxiliary"], []).append(facts["name"])
    usual = max(groups, key=lambda name: len(groups[name]))
    others = [f"{name} before {', '.join(own)}" for name, own in groups.items() if name != usual]
    notes = [
        "test images: normal + anomalous, as released",
        f"trained methods learn from {'; from '.join([*others, f'{usual} before all others'])}",
    ]
    echo("\n".join(["", *(textwrap.fill(note, WIDTH, break_on_hyphens=False) for note in notes)]))


def _images(normal: int | None, anomalous: int | None) -> str | None:
    return None if normal is None or anomalous is None else f"{normal} + {anomalous}"


def _level(image: bool, pixel: bool) -> str:
    return "both" if image and pixel else "image" if image else "pixel"
