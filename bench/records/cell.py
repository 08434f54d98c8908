"""The identity of a record, and the file name derived from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..files import file_name
from ..json_fields import Integer, Label


@dataclass(frozen=True, eq=False)
class Cell:
    """What one record is about.

    Cells are equal when their JSON forms are: an option written as a tuple is read as a list.

    Attributes:
        method, dataset: registry names.
        options: only what differs from the variant's defaults.
        label, dataset_label: of the plan's entry, to tell two entries apart that are otherwise
            equal here; empty without one.
    """

    method: Label
    variant: Label
    dataset: Label
    seed: Integer
    options: Mapping[str, Any] = field(default_factory=dict)
    label: Label = ""
    dataset_label: Label = ""

    @property
    def target(self) -> str:
        """The dataset with its label: what tells rows of a table and a plan's datasets apart."""
        return labelled(self.dataset, self.dataset_label)

    @property
    def options_text(self) -> str:
        """The options as JSON text with sorted names; "" without options."""
        return json.dumps(dict(self.options), sort_keys=True, default=str) if self.options else ""

    @property
    def key(self) -> str:
        """A file name that is the cell's identity; never leaves the run directory."""
        return self._named(self.target, f"seed{self.seed}")

    @property
    def method_key(self) -> str:
        """A file name for the method with its variant, options and label, whatever the dataset."""
        return self._named()

    def _named(self, *middle: str) -> str:
        parts = [labelled(self.method, self.label), self.variant, *middle]
        if self.options:
            parts.append(hashlib.sha256(self.options_text.encode()).hexdigest()[:8])
        return file_name("--".join(parts))

    def _identity(self) -> tuple[str | int, ...]:
        labels = (self.label, self.dataset_label)
        return (self.method, self.variant, self.dataset, self.seed, self.options_text, *labels)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Cell) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())


def labelled(name: str, label: str) -> str:
    """A name with the label of its entry in a plan.

    >>> labelled("MVTecAD", "copy"), labelled("MVTecAD", "")
    ('MVTecAD (copy)', 'MVTecAD')
    """
    return f"{name} ({label})" if label else name
