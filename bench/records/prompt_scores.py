"""Scores of each patch under each abnormal prompt alone, kept with a run's records for t-SNE."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import ZsadError, reading
from ..files import whole_file
from .cell import Cell
from .run_folder import prompt_scores_path


class PromptScoresError(ZsadError):
    """A file of prompt-wise scores is broken."""


@dataclass(frozen=True)
class PromptScores:
    """Anomaly scores of every image under every single prompt.

    Attributes:
        scores: [N, K, L] float32, image by prompt by patch.
        labels: [N], 0 normal, 1 anomalous.
    """

    scores: NDArray[np.float32]
    labels: NDArray[np.int64]


def write_prompt_scores(run: Path, cell: Cell, category: str, found: PromptScores) -> Path:
    """Keep prompt-wise scores, for the figure `tsne`."""
    path = prompt_scores_path(run, cell, category)
    scores, labels = found.scores.astype(np.float32), found.labels.astype(np.int64)
    with whole_file(path) as file:
        np.savez_compressed(file, scores=scores, labels=labels)
    return path


def read_prompt_scores(path: Path) -> PromptScores:
    """Read what `write_prompt_scores` wrote.

    Raises:
        PromptScoresError: the file is broken, or its arrays do not fit one another.
    """
    with (
        reading(path, "file of prompt-wise scores", PromptScoresError),
        np.load(path, allow_pickle=False) as file,
    ):
        scores, labels = np.asarray(file["scores"], np.float32), np.asarray(file["labels"])
    fits = scores.ndim == 3 and labels.shape == scores.shape[:1] and min(scores.shape) > 0
    if not fits or not np.isfinite(scores).all() or not np.isin(labels, (0, 1)).all():
        raise PromptScoresError(
            f"{path} must hold finite scores [images, prompts, patches] and a label 0 or 1 for "
            f"each image, not {scores.shape} and {labels.shape}"
        )
    return PromptScores(scores, labels.astype(np.int64))
