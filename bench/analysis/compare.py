"""Two runs or two methods side by side: their differences, and how sure these are.

Methods of one track are compared only: whoever sees more of the target has an easier task.
Image-level metrics are resampled over images, the same images for both sides, from the per-image
scores that every record keeps. Pixel-level metrics have no such scores: they are compared over
datasets only.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from ..errors import UsageError
from ..names import normalize_name
from ..records.record import Record
from ..track import Track
from .matrix import EvaluatedMethod, Matrix, TargetDataset, arrange
from .protocol_notes import protocol_difference
from .resampling import (
    DEFAULT_SETTINGS,
    Bootstrap,
    Settings,
    SharedImages,
    pair_images,
    remembering,
)
from .statistics import RESAMPLED, PairedTest, SignedRank, holm, paired, signed_rank
from .values import measure


@dataclass(frozen=True)
class Difference:
    """One metric on one dataset: a - b in [-1, 1].

    Attributes:
        a, b: in [0, 1]; None where undefined, with the reason in the notes.
        test: the paired bootstrap; None for pixel-level metrics and where images do not match.
        p_holm: its p-value corrected over the datasets of the comparison.
        notes: why there is no test, and what of the protocol differs.
        left_out: takes no part in what is said over all datasets: a side's copy is incomplete.
    """

    dataset: str
    metric: str
    a: float | None
    b: float | None
    test: PairedTest | None = None
    p_holm: float | None = None
    notes: tuple[str, ...] = ()
    left_out: bool = False

    @property
    def gap(self) -> float | None:
        """The difference a - b; None where one is undefined."""
        return None if self.a is None or self.b is None else self.a - self.b


@dataclass(frozen=True)
class OverDatasets:
    """A metric's differences over all datasets.

    Attributes:
        mean: mean difference.
        wins, losses: datasets where a is greater, where b is.
        test: Wilcoxon's test; None where no dataset differs.
        p_holm: its p-value corrected over everything that was compared at once.
    """

    metric: str
    mean: float
    wins: int
    losses: int
    test: SignedRank | None
    p_holm: float | None = None


Tested = TypeVar("Tested", Difference, OverDatasets)


@dataclass(frozen=True)
class Comparison:
    """Side a against side b, both of one track."""

    a: str
    b: str
    differences: tuple[Difference, ...]
    over_datasets: tuple[OverDatasets, ...]
    only_a: tuple[str, ...] = ()
    only_b: tuple[str, ...] = ()
    track: Track = Track.ZERO_SHOT


@dataclass(frozen=True)
class _Side:
    """One side: a method's datasets with a finished cell, by normalized name, and their records."""

    label: str
    track: Track
    cells: Mapping[str, tuple[TargetDataset, Sequence[Record]]]

    @classmethod
    def of(cls, matrix: Matrix, method: EvaluatedMethod, run: str = "") -> _Side:
        """The side of a method in a matrix, which is that of run "a" or "b" where there are two."""
        finished = [d for d in matrix.datasets if matrix.finished(method, d)]
        cells = {normalize_name(d.name): (d, matrix.cell(method, d)) for d in finished}
        label = f"{method.label} (run {run})" if run else method.label
        return cls(label, method.track, cells)


def compare_runs(
    run_a: Sequence[Record],
    run_b: Sequence[Record] | None = None,
    method_a: str | None = None,
    method_b: str | None = None,
    settings: Settings = DEFAULT_SETTINGS,
) -> list[Comparison]:
    """Compare two methods of one run, a method of two runs, or all methods that two runs share.

    What is tested over datasets is corrected within each track.

    Args:
        run_a: records of the first run.
        run_b: records of the second run; None compares within the first.
        method_a: NAME or NAME@VARIANT of side a; None takes every method that both runs have.
        method_b: the same for side b; None is `method_a`.
        settings: metrics and bootstrap.

    Raises:
        UsageError: a method is not in the run, is ambiguous, or the two sides are the same or of
            two tracks.
    """
    return _compared(_sides(run_a, run_b, method_a, method_b), settings)


def compare_pairs(
    matrix: Matrix,
    pairs: Iterable[tuple[EvaluatedMethod, EvaluatedMethod]],
    settings: Settings = DEFAULT_SETTINGS,
) -> list[Comparison]:
    """Compare methods of one matrix, pair by pair, in the order of the pairs' tracks.

    What is tested over datasets is corrected over all pairs of a track.

    Raises:
        UsageError: two methods of a pair are of two tracks.
    """
    sides = ((_Side.of(matrix, a), _Side.of(matrix, b)) for a, b in pairs)
    return _compared(sides, settings)


def _compared(pairs: Iterable[tuple[_Side, _Side]], settings: Settings) -> list[Comparison]:
    sides = list(pairs)
    for a, b in sides:
        if a.track is not b.track:
            raise UsageError(
                f"{a.label} is of the {a.track} track and {b.label} of the {b.track} track, which "
                "are not compared: name two methods of one track"
            )
    bootstrap = remembering(settings)
    found = [_compare(a, b, settings, bootstrap) for a, b in sides]
    by_track: dict[Track, list[Comparison]] = {}
    for comparison in found:
        by_track.setdefault(comparison.track, []).append(comparison)
    return [c for own in by_track.values() for c in _corrected_over_datasets(own)]


def _corrected_over_datasets(found: Sequence[Comparison]) -> Iterator[Comparison]:
    """The comparisons of one track, their tests over datasets corrected over all of them."""
    over = iter(_corrected([o for comparison in found for o in comparison.over_datasets]))
    for comparison in found:
        own = tuple(next(over) for _ in comparison.over_datasets)
        yield dataclasses.replace(comparison, over_datasets=own)


def _sides(
    run_a: Sequence[Record],
    run_b: Sequence[Record] | None,
    method_a: str | None,
    method_b: str | None,
) -> list[tuple[_Side, _Side]]:
    matrix_a = arrange(run_a)
    if run_b is None:
        if method_a is None or method_b is None:
            raise UsageError("name two methods of the run (--method-a, --method-b) or a second run")
        a, b = find_method(matrix_a, method_a), find_method(matrix_a, method_b)
        if a == b:
            raise UsageError(f"'{method_a}' and '{method_b}' are the same method of this run")
        return [(_Side.of(matrix_a, a), _Side.of(matrix_a, b))]
    matrix_b = arrange(run_b)
    pairs = [(method, method) for method in matrix_a.methods if method in matrix_b.methods]
    if method_a is not None or method_b is not None:
        a = find_method(matrix_a, method_a or method_b or "")
        b = find_method(matrix_b, method_b or method_a or "")
        pairs = [(a, b)]
    if not pairs:
        raise UsageError("the runs share no method: name one of each (--method-a, --method-b)")
    return [(_Side.of(matrix_a, a, "a"), _Side.of(matrix_b, b, "b")) for a, b in pairs]


def find_method(matrix: Matrix, name: str) -> EvaluatedMethod:
    """The method that NAME or NAME@VARIANT means.

    Raises:
        UsageError: there is none or several.
    """
    found = matrix.select_methods([name])
    plain = [m for m in found if not m.options]
    titled = normalize_name(name.partition("@")[0])
    plain = [m for m in plain if normalize_name(m.title) == titled] or plain
    if len(found) > 1 and len(plain) != 1:
        rivals = ", ".join(f"{m.method}@{m.variant} {m.options_text} ({m.title})" for m in found)
        raise UsageError(f"'{name}' means several methods of this run: {rivals}")
    return found[0] if len(found) == 1 else plain[0]


def _compare(a: _Side, b: _Side, settings: Settings, bootstrap: Bootstrap) -> Comparison:
    """Two sides, their bootstrap's p-values corrected over the datasets of each metric."""
    found = []
    for name, (dataset, left) in a.cells.items():
        if name in b.cells:
            _, right = b.cells[name]
            found.append(_dataset_differences(dataset.title, left, right, settings, bootstrap))
    by_metric = [_corrected(own) for own in zip(*found, strict=True)]
    over = [_over_datasets(own) for own in by_metric]
    return Comparison(
        a.label,
        b.label,
        tuple(d for of_dataset in zip(*by_metric, strict=True) for d in of_dataset),
        tuple(summary for summary in over if summary is not None),
        tuple(dataset.title for name, (dataset, _) in a.cells.items() if name not in b.cells),
        tuple(dataset.title for name, (dataset, _) in b.cells.items() if name not in a.cells),
        a.track,
    )


def _dataset_differences(
    title: str,
    left: Sequence[Record],
    right: Sequence[Record],
    settings: Settings,
    bootstrap: Bootstrap,
) -> list[Difference]:
    """The difference of every metric on one dataset."""
    images = pair_images(left, right)
    protocol = [*protocol_difference(left, right), *_code_difference(left, right)]
    pairs = {m: (measure(left, m), measure(right, m)) for m in settings.metrics}
    defined = [m for m, sides in pairs.items() if all(v.value is not None for v in sides)]
    tests = _tests(images, defined, settings.level, bootstrap)
    found = []
    for metric, (a, b) in pairs.items():
        if metric in defined:
            notes = [*a.notes, *b.notes, *protocol]
            notes += [images.why_not] * (metric in RESAMPLED and images.why_not != "")
            left_out = (a.incomplete or b.incomplete) and not settings.allow_incomplete
        else:
            notes = [f"{side}: {note}" for side, v in (("a", a), ("b", b)) for note in v.notes]
            left_out = False
        test, unique = tests.get(metric), tuple(dict.fromkeys(notes))
        found.append(Difference(title, metric, a.value, b.value, test, None, unique, left_out))
    return found


def _code_difference(left: Sequence[Record], right: Sequence[Record]) -> list[str]:
    """A note where one method's records were made by different code.

    Different methods are different code anyway, and records of earlier versions state none.
    """
    if {r.cell.method for r in left} != {r.cell.method for r in right}:
        return []
    for name in ("code", "training code"):
        a, b = ({r.identity[name] for r in side if name in r.identity} for side in (left, right))
        if a and b and a != b:
            return ["a and b were made by different code"]
    return []


def _tests(
    images: SharedImages, metrics: Sequence[str], level: float, bootstrap: Bootstrap
) -> dict[str, PairedTest]:
    """The paired tests of the metrics that can be resampled; none where images do not match."""
    chosen = [metric for metric in RESAMPLED if metric in metrics]
    if images.why_not or not chosen:
        return {}
    found = bootstrap(images, chosen)
    n = images.n_a
    return {
        metric: paired(
            float(values[:n].mean() - values[n:].mean()),
            replicates[:n].mean(axis=0) - replicates[n:].mean(axis=0),
            level,
        )
        for metric, (values, replicates) in found.items()
    }


def _over_datasets(differences: Sequence[Difference]) -> OverDatasets | None:
    """What the differences of one metric say together; None where there are none."""
    gaps = [d.gap for d in differences if d.gap is not None and not d.left_out]
    if not gaps:
        return None
    wins, losses = sum(g > 0 for g in gaps), sum(g < 0 for g in gaps)
    mean = float(np.mean(gaps))
    return OverDatasets(differences[0].metric, mean, wins, losses, signed_rank(gaps))


def _corrected(found: Sequence[Tested]) -> list[Tested]:
    """What was tested, with Holm's correction over all that has a test."""
    p_values = iter(holm([item.test.p for item in found if item.test is not None]))
    return [
        item if item.test is None else dataclasses.replace(item, p_holm=next(p_values))
        for item in found
    ]
