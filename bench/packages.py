"""Packages that a method may need and zsad does without: which are missing, how to get them."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from .errors import UsageError


@dataclass(frozen=True)
class Package:
    """An optional package.

    Attributes:
        module: what is imported of it.
        install: what pip is asked for: an extra of zsad, or the package itself.
    """

    module: str
    install: str

    @property
    def is_missing(self) -> bool:
        """Whether it is not installed; nothing is imported to find out."""
        return find_spec(self.module) is None

    @property
    def advice(self) -> str:
        """What is missing and how to get it."""
        return f"{self.module}, which is not installed: pip install '{self.install}'"


def refuse_missing(package: Package | None, who: str) -> None:
    """Refuse to go on without a package.

    Args:
        package: that is needed, or None.
        who: needs it.

    Raises:
        UsageError: it is missing; names it and the extra.
    """
    if package is not None and package.is_missing:
        raise UsageError(f"{who} needs {package.advice}")
