"""What the objects of test images look like; `_descriptions.toml` has the words.

They describe the classes that are tested on, which the plain class name does not: whoever compares
results should know that a method reads them.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

_FILE = Path(__file__).with_suffix(".toml")
DESCRIPTIONS: Mapping[str, str] = tomllib.loads(_FILE.read_text(encoding="utf-8"))


def description(class_name: str) -> str:
    """The description of a class name, or the name itself in plain words."""
    found = DESCRIPTIONS.get(class_name) or DESCRIPTIONS.get(class_name.lower())
    return found or plain(class_name)


def plain(class_name: str) -> str:
    """A class name in plain words.

    >>> plain("metal_nut")
    'metal nut'
    """
    return class_name.replace("_", " ")
