"""What docstrings say of parameters and attributes, for the command line and for JSON Schemas."""

from __future__ import annotations

import inspect
import re


def described(text: str | None, heading: str) -> tuple[str, dict[str, str]]:
    r"""What a docstring in Google's style says before a section, and in it of each name.

    >>> described("Sum up.\n\nArgs:\n    a, b: numbers\n        to add.\n", "Args")
    ('Sum up.', {'a': 'numbers to add.', 'b': 'numbers to add.'})

    Args:
        text: the docstring.
        heading: of the section, "Args" or "Attributes".
    """
    before, _, section = inspect.cleandoc(text or "").partition(f"{heading}:\n")
    found = re.findall(r"^    (\w+(?:, \w+)*): (.*(?:\n {8}.*)*)", section, re.MULTILINE)
    words = {name: " ".join(own.split()) for names, own in found for name in names.split(", ")}
    return before.strip(), words
