"""Cards: the facts of a method and of a dataset, from records and from the registry."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from .. import registry
from ..analysis.costs import Cost, cost_of
from ..analysis.gathering import backbone_of
from ..analysis.matrix import EvaluatedMethod, Matrix, TargetDataset
from ..dataset import Counts, Dataset
from ..errors import UsageError
from ..names import display_name
from ..records.record import Record
from .catalogue import Catalogue
from .fidelity import Words, fidelity_of, words_of


@dataclass(frozen=True)
class Variant:
    """An evaluated method on its method's card.

    Attributes:
        trained_on: what its records were learned from, in words.
        cost: over all its finished cells.
    """

    method: EvaluatedMethod
    backbones: tuple[str, ...]
    trained_on: tuple[str, ...]
    cost: Cost


@dataclass(frozen=True)
class MethodCard:
    """A method and the evaluated methods that it is the source of.

    Attributes:
        fidelity: sections (heading, HTML) on where it differs from its paper and its code.
    """

    name: str
    title: str
    words: Words
    variants: tuple[Variant, ...]
    fidelity: tuple[tuple[str, Markup], ...]


def method_card(catalogue: Catalogue, name: str) -> MethodCard:
    """The card of a method, by its registry name."""
    methods = catalogue.by_name[name]
    records = [r for method in methods for r in catalogue.matrix.of_method(method)]
    variants = [_variant(catalogue.matrix, method) for method in methods]
    title = records[0].title
    return MethodCard(name, title, words_of(name), tuple(variants), tuple(fidelity_of(title)))


def _variant(matrix: Matrix, method: EvaluatedMethod) -> Variant:
    records = [record for record in matrix.of_method(method) if record.error is None]
    return Variant(
        method,
        _each(map(backbone_of, records)),
        _each(map(_trained_on, records)),
        cost_of(matrix, method),
    )


def _each(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text for text in texts if text))


def _trained_on(record: Record) -> str:
    """What a record was learned from, in words; "" where nothing was learned or it is unknown."""
    if record.auxiliary is None:
        stated = record.protocol.get("auxiliary")
        return "" if stated is None else display_name(str(stated))
    auxiliary = record.auxiliary
    splits = "both splits" if auxiliary.split == "all" else f"{auxiliary.split} split"
    return f"{display_name(auxiliary.name)} ({splits}, {auxiliary.images:,} images)"


@dataclass(frozen=True)
class DatasetCard:
    """A dataset: what it is, as the registry says, and what the records' copies held.

    Attributes:
        known: its class; None for one that is not installed here.
        counts: images of the complete release.
        scored: (normal, anomalous) test images of each category that were scored.
        remarks: what the records say of their copies, and warn of.
    """

    dataset: TargetDataset
    known: type[Dataset] | None
    counts: Counts
    scored: tuple[tuple[str, int, int], ...]
    remarks: tuple[str, ...]

    @property
    def is_link(self) -> bool:
        """Whether the source's page is an address."""
        return self.known is not None and self.known.source.page.startswith("http")


def dataset_card(matrix: Matrix, dataset: TargetDataset) -> DatasetCard:
    """The card of a dataset."""
    records = [record for record in matrix.of_dataset(dataset) if record.error is None]
    known = _class_of(records)
    scored = {
        result.category: (result.category, result.n_normal, result.n_anomalous)
        for record in reversed(records)
        for result in record.categories
    }
    order = matrix.categories(dataset)
    held = [record.completeness.words() for record in records if record.completeness is not None]
    return DatasetCard(
        dataset,
        known,
        Counts() if known is None else known.expected(),
        tuple(scored[name] for name in order if name in scored),
        _each([*held, *(text for record in records for text in record.warnings)]),
    )


def _class_of(records: Sequence[Record]) -> type[Dataset] | None:
    try:
        return registry.dataset_class(records[0].cell.dataset) if records else None
    except UsageError:
        return None
