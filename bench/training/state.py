"""A training on disk: kept after each epoch, so that one that was killed resumes."""

from __future__ import annotations

import dataclasses
import io
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..files import whole_file
from .optimisation import Optimisation, Step

LOG = logging.getLogger(__name__)
POSITION = ("epoch", "step", "lr")  # of a step in the history, beside the loss terms

History = list[Step]


@dataclass
class TrainingState:
    """How far a training has come."""

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    history: History = field(default_factory=list)


@dataclass(frozen=True)
class StateFile:
    """Where a training is kept after each epoch.

    Attributes:
        path: the file; it is replaced as a whole.
        identity: of the training; a state of another training is not resumed.
    """

    path: Path
    identity: str

    def keep(self, optimisation: Optimisation, state: TrainingState) -> None:
        """Write the training; the file is whole or the one before."""
        payload = {
            "identity": self.identity,
            "state": dataclasses.asdict(state),
            "optimisation": optimisation.state_dict(),
        }
        buffer = io.BytesIO()  # torch would turn an error of the disk into one of its own
        torch.save(payload, buffer)
        with whole_file(self.path) as file:
            file.write(buffer.getbuffer())

    def restore(self, optimisation: Optimisation) -> TrainingState | None:
        """Bring an optimisation to where it was kept; None where there is nothing to resume."""
        if not self.path.exists():
            return None
        try:
            payload = torch.load(self.path, map_location="cpu", weights_only=True)
            if payload["identity"] != self.identity:
                LOG.warning("%s is of another training: starting again", self.path)
                return None
            state = _checked_state(payload["state"], optimisation.epochs)
            optimisation.load_state_dict(payload["optimisation"])
        except Exception as error:  # whatever a broken file holds, the training can start again
            LOG.warning("%s is not readable (%s): starting again", self.path, error)
            return None
        LOG.info("resuming from %s after %d epochs", self.path, state.epoch)
        return state

    def remove(self) -> None:
        """Drop the state of a training that is finished."""
        self.path.unlink(missing_ok=True)


def _checked_state(raw: Mapping[str, Any], epochs: int) -> TrainingState:
    """How far a training that was kept has come.

    Raises:
        ValueError, TypeError: a field is missing, of a wrong type or out of range.
    """
    state = TrainingState(**raw)
    counts = (state.epoch, state.step)
    if not all(isinstance(count, int) for count in counts) or not 1 <= state.epoch <= epochs:
        raise ValueError(f"epoch {state.epoch!r} and step {state.step!r} do not fit")
    if not isinstance(state.seconds, float) or len(state.history) != state.step:
        raise ValueError("its history or its seconds do not fit")
    values = [value for step in state.history for value in step.values()]
    if not all({*POSITION, "total"} <= set(step) for step in state.history) or not all(
        isinstance(value, int | float) for value in values
    ):
        raise ValueError("its history holds other things than numbers")
    return state
