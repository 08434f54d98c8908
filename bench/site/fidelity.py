"""What the pages say of a method: its module's words, and where it differs from its paper and code.

Both are read as text: neither a method's module nor torch is imported for it.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from markupsafe import Markup

from .. import registry
from ..errors import UsageError

PAGE = Path(__file__).parents[2] / "docs" / "fidelity.md"  # in a checkout and when installed
MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")
OF_ALL = "All methods"
NO_CHANGE = ("Axes:", "Differences from")  # paragraphs for those who read the code


@dataclass(frozen=True)
class Words:
    """What a method's module says of it: its first line, and the paragraphs below, as HTML."""

    headline: Markup
    paragraphs: tuple[Markup, ...]


def words_of(method: str) -> Words:
    """The docstring of a method's module; empty where it is not installed or has none."""
    try:
        module = registry.resolve("method", method).module
        found = importlib.util.find_spec(module)
        text = Path(found.origin).read_text("utf-8") if found and found.origin else ""
        own = ast.get_docstring(ast.parse(text)) or ""
    except (UsageError, ImportError, OSError, SyntaxError, ValueError):
        return Words(Markup(), ())
    first, *others = [" ".join(part.split()) for part in own.split("\n\n")] or [""]
    shown = [text for text in others if not text.startswith(NO_CHANGE)]
    return Words(_inline(first), tuple(map(_inline, shown)))


def fidelity_of(title: str) -> list[tuple[str, Markup]]:
    """The sections of docs/fidelity.md on a method, as (heading, HTML), the one on all last."""
    own = [name for name in _sections() if title in _titles(name)]
    return [(name, _html(_sections()[name])) for name in [*own, OF_ALL] if own]


def _titles(heading: str) -> list[str]:
    """The titles of methods in a heading such as "CoOp and CoCoOp" or "WinCLIP: two sets"."""
    return re.split(r" and |, ", heading.partition(":")[0])


@cache
def _sections() -> Mapping[str, str]:
    """The sections of the page by their headings; none where it is not installed."""
    try:
        text = PAGE.read_text("utf-8")
    except OSError:
        return {}
    parts = re.split(r"^## (.+)$", text, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def _inline(text: str) -> Markup:
    return Markup(MARKDOWN.renderInline(text))


def _html(text: str) -> Markup:
    """Markdown as HTML: any HTML in it is shown as text, and links within the docs are words."""
    linkless = re.sub(r"\[([^\]]+)\]\((?!https?:)[^)]*\)", r"\1", text)
    found = MARKDOWN.render(linkless)
    table = re.compile(r"<table>.*?</table>", re.S)
    return Markup(table.sub(lambda m: f'<div class="scroll">{m[0]}</div>', found))
