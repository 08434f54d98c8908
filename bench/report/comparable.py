"""Which numbers of a run measure what is printed, and why the others do not."""

from __future__ import annotations

from collections.abc import Iterator

from ..analysis.matrix import EvaluatedMethod, Matrix, TargetDataset
from ..analysis.notices import is_built_in
from ..analysis.values import is_incomplete
from ..names import normalize_name

PRINTED_BACKBONE = "ViT-L-14-336"
OTHER_PRINTED_BACKBONE = {"winclip": "ViT-B-16-plus-240", "anovl": "ViT-B-16-plus-240"}


def is_comparable(matrix: Matrix, method: EvaluatedMethod, dataset: TargetDataset) -> bool:
    """Whether a cell measures what the paper printed.

    It does not with changed options, on a part of the images, with the tiny backbone, on a
    built-in dataset, or on an incomplete one unless that is allowed.
    """
    return not why_not(matrix, method, dataset)


def why_not(matrix: Matrix, method: EvaluatedMethod, dataset: TargetDataset) -> str:
    """Why a cell does not measure what the paper printed; "" where it does."""
    records = matrix.finished(method, dataset)
    if any(is_built_in(record) for record in records):
        return "a built-in dataset or the built-in backbone"
    if is_incomplete(records) and not matrix.allow_incomplete:
        return "an incomplete dataset"
    limits = [r.protocol.get(name) for r in records for name in ("limit", "auxiliary_limit")]
    limited = any(limit is not None for limit in limits)
    if limited or any(r.completeness is not None and r.completeness.chosen for r in records):
        return "a part of the images"
    return "changed options" if method.options else ""


def reasons(matrix: Matrix) -> list[str]:
    """Sentences on the cells that are not held against print, and on those of other backbones."""
    found: dict[str, list[tuple[EvaluatedMethod, TargetDataset]]] = {}
    for method in matrix.methods:
        for dataset in matrix.datasets:
            why = why_not(matrix, method, dataset) if matrix.finished(method, dataset) else ""
            if why:
                found.setdefault(why, []).append((method, dataset))
    sentences = [
        f"Not compared because of {why}: {_named(cells, matrix)}." for why, cells in found.items()
    ]
    others = [
        f"{method.label} ({name})"
        for method in matrix.methods
        for name in dict.fromkeys(_other_backbones(matrix, method))
    ]
    if others:
        sentences.append(
            f"On another backbone than the printed numbers: {', '.join(others)}. What is printed "
            f"was made with {PRINTED_BACKBONE} (WinCLIP and AnoVL with ViT-B-16-plus-240)."
        )
    return sentences


def _named(cells: list[tuple[EvaluatedMethod, TargetDataset]], matrix: Matrix) -> str:
    """Some cells by their datasets, and by their methods where these are not all of the run."""
    datasets = ", ".join(dict.fromkeys(dataset.title for _, dataset in cells))
    methods = dict.fromkeys(method.label for method, _ in cells)
    return (
        datasets if len(methods) == len(matrix.methods) else f"{', '.join(methods)} on {datasets}"
    )


def _other_backbones(matrix: Matrix, method: EvaluatedMethod) -> Iterator[str]:
    """The backbones of a method's cells that are neither the printed one nor the built-in one."""
    printed = OTHER_PRINTED_BACKBONE.get(normalize_name(method.method), PRINTED_BACKBONE)
    for record in matrix.of_method(method):
        name = str(record.protocol.get("backbone") or "")
        if name and not name.startswith(printed) and not is_built_in(record):
            yield name
