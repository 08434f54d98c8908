"""What is written about a user's own images: scores.csv, scores.json and decision.json."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ..files import csv_text, whole_file, write_json

SCORES, DECISION = "scores", "decision.json"


@dataclass(frozen=True)
class FileScore:
    """What is written about one image file; paths are relative to the output folder.

    Attributes:
        score: greater is more anomalous; None from a method without image-level scores.
        anomalous: whether the score is above the threshold; None without a threshold.
        p_value: how surprising the score is among the normal images; None without any.
        region: share of the map's pixels above the threshold of maps; None without one.
        overlay, map: files, None where the method gives no maps.
        error: why the file could not be scored.
    """

    path: str
    score: float | None = None
    anomalous: bool | None = None
    p_value: float | None = None
    region: float | None = None
    overlay: str | None = None
    map: str | None = None
    error: str | None = None


@dataclass(frozen=True)
class Decision:
    """How images were told normal or anomalous; all None where nobody asked for it.

    Attributes:
        rule: how the threshold came about, in words.
        threshold: images with a greater score are anomalous.
        map_rule: how the threshold of maps came about, in words.
        map_threshold: pixels with a greater value are the region that overlays outline.
        alpha, quantile: what the threshold was asked to hold.
        normal: sorted scores of the normal images that p-values count.
        anomalous: number of anomalous images that the threshold was chosen with.
    """

    rule: str | None = None
    threshold: float | None = None
    map_rule: str | None = None
    map_threshold: float | None = None
    alpha: float | None = None
    quantile: float | None = None
    normal: tuple[float, ...] = ()
    anomalous: int = 0


@dataclass(frozen=True)
class Predictions:
    """The answer of `zsad predict`: a row for each file, in the order of the call."""

    rows: Sequence[FileScore]
    decision: Decision

    @property
    def by_score(self) -> list[FileScore]:
        """The rows, most anomalous first; without scores by region, and errors last."""
        return sorted(
            self.rows,
            key=lambda row: (
                row.error is not None,
                -(row.score if row.score is not None else float("-inf")),
                -(row.region or 0.0),
            ),
        )

    @property
    def anomalous(self) -> int:
        """How many images are anomalous."""
        return sum(row.anomalous is True for row in self.rows)


def write_predictions(out: Path, found: Predictions) -> None:
    """Write scores.csv, scores.json and, with a threshold, decision.json.

    Raises:
        FileError: a file cannot be written.
    """
    import pandas as pd

    table = [asdict(row) for row in found.rows]
    write_json(out / f"{SCORES}.json", table)
    safe = [{k: csv_text(v) if isinstance(v, str) else v for k, v in row.items()} for row in table]
    with whole_file(out / f"{SCORES}.csv") as file:
        text = pd.DataFrame(safe).to_csv(index=False)
        file.write(text.encode("utf-8", "backslashreplace"))
    if found.decision == Decision():
        (out / DECISION).unlink(missing_ok=True)  # of an earlier call
    else:
        write_json(out / DECISION, asdict(found.decision))
