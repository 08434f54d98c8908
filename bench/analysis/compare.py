"""Two runs or two methods side by side: their differences, and how sure these are.

Image-level metrics are resampled over images, the same images for both sides, from the per-image
scores that every record keeps. Pixel-level metrics have no such scores: they are compared over
datasets only.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import UsageError
from ..names import normalize_name
from ..records.record import Record
from .matrix import EvaluatedMethod, Matrix, TargetDataset, arrange
from .protocol_notes import protocol_difference
from .resampling import Settings, SharedImages, pair_images
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
        p_holm: its p-value corrected over everything that was compared in one go.
    """

    metric: str
    mean: float
    wins: int
    losses: int
    test: SignedRank | None
    p_holm: float | None = None


@dataclass(frozen=True)
class Comparison:
    """Side a against side b."""

    a: str
    b: str
    differences: tuple[Difference, ...]
    over_datasets: tuple[OverDatasets, ...]
    only_a: tuple[str, ...] = ()
    only_b: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Side:
    """One side: a method of a matrix, under a label."""

    label: str
    matrix: Matrix
    method: EvaluatedMethod

    @property
    def finished(self) -> dict[str, TargetDataset]:
        """The datasets with a finished cell, by normalized name."""
        return {
            normalize_name(dataset.name): dataset
            for dataset in self.matrix.datasets
            if self.matrix.finished(self.method, dataset)
        }


def compare_runs(
    run_a: Sequence[Record],
    run_b: Sequence[Record] | None = None,
    method_a: str | None = None,
    method_b: str | None = None,
    settings: Settings | None = None,
) -> list[Comparison]:
    """Compare two methods of one run, a method of two runs, or all methods that two runs share.

    Args:
        run_a: records of the first run.
        run_b: records of the second run; None compares within the first.
        method_a: NAME or NAME@VARIANT of side a; None takes every method that both runs have.
        method_b: the same for side b; None is `method_a`.
        settings: metrics and bootstrap.

    Raises:
        UsageError: a method is not in the run, is ambiguous, or the two sides are the same.
    """
    settings = settings or Settings()
    pairs = _sides(run_a, run_b, method_a, method_b)
    return _corrected([_compare(a, b, settings) for a, b in pairs])


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
        a, b = (_side(matrix_a, name, "") for name in (method_a, method_b))
        if a.method == b.method:
            raise UsageError(f"'{method_a}' and '{method_b}' are the same method of this run")
        return [(a, b)]
    matrix_b = arrange(run_b)
    if method_a is not None or method_b is not None:
        first, second = method_a or method_b or "", method_b or method_a or ""
        return [(_side(matrix_a, first, " (run a)"), _side(matrix_b, second, " (run b)"))]
    shared = [c for c in matrix_a.methods if c in matrix_b.methods]
    if not shared:
        raise UsageError("the runs share no method: name one of each (--method-a, --method-b)")
    return [
        (_Side(f"{m.label} (run a)", matrix_a, m), _Side(f"{m.label} (run b)", matrix_b, m))
        for m in shared
    ]


def _side(matrix: Matrix, name: str, suffix: str) -> _Side:
    method = find_method(matrix, name)
    return _Side(method.label + suffix, matrix, method)


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


def _compare(a: _Side, b: _Side, settings: Settings) -> Comparison:
    of_a, of_b = a.finished, b.finished
    differences = []
    for name in [name for name in of_a if name in of_b]:
        left = a.matrix.cell(a.method, of_a[name])
        right = b.matrix.cell(b.method, of_b[name])
        differences += _dataset_differences(of_a[name].title, left, right, settings)
    return Comparison(
        a.label,
        b.label,
        tuple(differences),
        tuple(o for m in settings.metrics if (o := _over_datasets(m, differences)) is not None),
        tuple(dataset.title for name, dataset in of_a.items() if name not in of_b),
        tuple(dataset.title for name, dataset in of_b.items() if name not in of_a),
    )


def _dataset_differences(
    title: str, left: Sequence[Record], right: Sequence[Record], settings: Settings
) -> list[Difference]:
    images = pair_images(left, right)
    protocol = [*protocol_difference(left, right), *_code_difference(left, right)]
    pairs = {m: (measure(left, m), measure(right, m)) for m in settings.metrics}
    tests = _tests(
        images,
        [m for m, sides in pairs.items() if all(v.value is not None for v in sides)],
        settings,
    )
    found = []
    for metric, (a, b) in pairs.items():
        if a.value is None or b.value is None:
            reasons = [f"{side}: {n}" for side, v in (("a", a), ("b", b)) for n in v.notes]
            found.append(Difference(title, metric, a.value, b.value, notes=tuple(reasons)))
            continue
        notes, test = [*a.notes, *b.notes, *protocol], tests.get(metric)
        if metric in RESAMPLED and images.why_not:
            notes.append(images.why_not)
        left_out = (a.incomplete or b.incomplete) and not settings.allow_incomplete
        unique = tuple(dict.fromkeys(notes))
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
    images: SharedImages, metrics: Sequence[str], settings: Settings
) -> dict[str, PairedTest]:
    """The paired tests of the metrics that can be resampled; none where images do not match."""
    chosen = [metric for metric in RESAMPLED if metric in metrics]
    if images.why_not or not chosen:
        return {}
    found = settings.bootstrap(images, chosen)
    n = images.n_a
    return {
        metric: paired(
            float(values[:n].mean() - values[n:].mean()),
            replicates[:n].mean(axis=0) - replicates[n:].mean(axis=0),
            settings.level,
        )
        for metric, (values, replicates) in found.items()
    }


def _over_datasets(metric: str, differences: Sequence[Difference]) -> OverDatasets | None:
    known = [d.gap for d in differences if d.metric == metric and not d.left_out]
    gaps = [gap for gap in known if gap is not None]
    if not gaps:
        return None
    wins, losses = sum(g > 0 for g in gaps), sum(g < 0 for g in gaps)
    return OverDatasets(metric, float(np.mean(gaps)), wins, losses, signed_rank(gaps))


def _corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons with Holm's correction.

    The bootstrap's p-values are corrected over the datasets of a comparison and metric, Wilcoxon's
    over all comparisons and metrics.
    """
    tests = [o.test.p for c in comparisons for o in c.over_datasets if o.test is not None]
    over = iter(holm(tests))
    corrected = []
    for comparison in comparisons:
        differences = list(comparison.differences)
        for metric in dict.fromkeys(d.metric for d in differences):
            places = [i for i, d in enumerate(differences) if d.metric == metric and d.test]
            ps = holm([t.p for i in places if (t := differences[i].test) is not None])
            for i, p in zip(places, ps, strict=True):
                differences[i] = dataclasses.replace(differences[i], p_holm=p)
        summaries = tuple(
            o if o.test is None else dataclasses.replace(o, p_holm=next(over))
            for o in comparison.over_datasets
        )
        corrected.append(
            dataclasses.replace(comparison, differences=tuple(differences), over_datasets=summaries)
        )
    return corrected
