"""Text in LaTeX: escapes, emphasis, labels, and how wide it is set."""

from __future__ import annotations

import re
import unicodedata

from .style import Style
from .table_data import DASH

# Points per character at 8 points in Computer Modern, rounded up.
DIGIT, LOWER, UPPER, NARROW = 4.3, 4.2, 6.0, 2.4
_SPECIAL = {
    **{char: f"\\{char}" for char in "{}&%$#_"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "±": r"$\pm$",
    "×": r"$\times$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "→": r"$\rightarrow$",
    "−": "$-$",
    "…": r"\ldots{}",
    "“": "``",
    "”": "''",
    "’": "'",
    DASH: "--",
}
_COMMAND = re.compile(r"\\([a-zA-Z]+ ?|(?=[{}&%$#_]))|(?<!\\)[{}$]")
_MINUS = re.compile(r"(?<![\w-])-(?=\d)")


def escape(text: str) -> str:
    """A text on one line, as LaTeX sets it with any engine.

    Characters that the usual fonts lack are named by their number, as "[U+4E2D]".
    """
    plain = _MINUS.sub("−", " ".join(text.split()))
    return "".join(map(_character, plain))


def _character(char: str) -> str:
    if char in _SPECIAL:
        return _SPECIAL[char]
    if char.isascii() and char.isprintable():
        return char
    if "À" <= char <= "ž" and unicodedata.category(char).startswith("L"):
        return char
    return f"[U+{ord(char):04X}]"


LATEX = Style(escape, r"\textbf{%s}", r"\underline{%s}", r"\textsuperscript{%s}", ",")


def points(text: str) -> float:
    r"""About how wide a text of LaTeX is at 8 points; never much less than it is.

    >>> points(r"\textbf{85.0}$\pm$1.0") == points("85.0+1.0")
    True
    """
    plain = _COMMAND.sub("", text.replace(r"\pm", "+"))
    return sum(map(_width, plain))


def _width(char: str) -> float:
    if char in "ijl.,:;'|!()[] ":
        return NARROW if char != " " else 2.9
    if char.isdigit():
        return DIGIT
    return UPPER if char.isupper() or char in "mwMW%+-–" else LOWER


def broken(text: str, width: float) -> str:
    """A heading in as many lines as the width in points asks for, broken between words."""
    lines: list[str] = []
    for word in text.split(" "):
        if lines and points(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines[0] if len(lines) == 1 else r"\shortstack{" + r" \\ ".join(lines) + "}"


def slug(title: str) -> str:
    """The name of a label that a title gives.

    >>> slug("Image-level AUROC in percent, part 2 of 3")
    'image-level-auroc-in-percent-part-2-of-3'
    """
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-") or "table"
