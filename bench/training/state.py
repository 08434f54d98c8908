"""A training on disk: kept after each epoch, so that one that was killed resumes."""

from __future__ import annotations

import copy
import io
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..files import whole_file
from ..method import TrainableMethod
from .optimisation import Generators, Optimisation, Step, TrainingConfig
from .stages import StageRun

LOG = logging.getLogger(__name__)
POSITION = ("epoch", "step", "lr")  # of a step in the history, beside the loss terms

History = list[Step]


@dataclass
class TrainingState:
    """How far a training has come.

    Attributes:
        epoch, step: the next ones, from 0.
        seconds: spent so far.
        history: of every step.
        remarks: what its checkpoint and records are to say of how it went.
    """

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    history: History = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


@dataclass
class TrainingRun:
    """A training under way.

    Attributes:
        method: that learns.
        runs: its stages.
        config: how they are gone through.
        generators: of all stages.
        state: how far it has come.
        resumed: of the stage in which it was kept, at the end of its last whole epoch.
    """

    method: TrainableMethod
    runs: Sequence[StageRun]
    config: TrainingConfig
    generators: Generators = field(init=False)
    state: TrainingState = field(default_factory=TrainingState)
    resumed: Optimisation | None = None

    def __post_init__(self) -> None:
        self.generators = Generators(self.config.seed)

    def optimisation(self, run: StageRun) -> Optimisation:
        """Of a stage, before its first step."""
        return Optimisation(self.method, run, self.config, self.generators)

    def begin(self, run: StageRun) -> Optimisation:
        """Prepare the method for a stage, which starts or resumes."""
        resumed = self.resumed
        if resumed is None or resumed.run is not run:
            self._prepare(run)
            return self.optimisation(run)
        kept = copy.deepcopy(resumed.state_dict())
        self._prepare(run)
        resumed.load_state_dict(kept)
        return resumed

    def _prepare(self, run: StageRun) -> None:
        with torch.no_grad():
            self.method.begin_stage(run.stage, sorted(set(run.source.words())))


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
        # As text: copying and pickling thousands of steps after each epoch takes longer than it.
        payload = {
            "identity": self.identity,
            "state": {**vars(state), "history": json.dumps(state.history)},
            "optimisation": optimisation.state_dict(),
        }
        buffer = io.BytesIO()  # torch would turn an error of the disk into one of its own
        torch.save(payload, buffer)
        with whole_file(self.path) as file:
            file.write(buffer.getbuffer())

    def restore(self, training: TrainingRun) -> None:
        """Bring a training to where it was kept; it starts from nothing where that cannot be."""
        if not self.path.exists():
            return
        try:
            payload = torch.load(self.path, map_location="cpu", weights_only=True)
            if payload["identity"] != self.identity:
                LOG.warning("%s is of another training: starting again", self.path)
                return
            state = _checked_state(payload["state"], training.runs[-1].end)
            optimisation = training.optimisation(
                next(run for run in training.runs if state.epoch <= run.end)
            )
            optimisation.load_state_dict(payload["optimisation"])
        except Exception as error:  # whatever a broken file holds, the training can start again
            LOG.warning("%s is not readable (%s): starting again", self.path, error)
            return
        training.state, training.resumed = state, optimisation
        LOG.info("resuming from %s after %d epochs", self.path, state.epoch)

    def remove(self) -> None:
        """Drop the state of a training that is finished."""
        self.path.unlink(missing_ok=True)


def _checked_state(raw: Mapping[str, Any], epochs: int) -> TrainingState:
    """How far a training that was kept has come.

    Raises:
        KeyError, ValueError, TypeError: a field is missing, of a wrong type or out of range.
    """
    state = TrainingState(**{**raw, "history": json.loads(raw["history"])})
    counts = (state.epoch, state.step)
    if not all(isinstance(count, int) for count in counts) or not 1 <= state.epoch <= epochs:
        raise ValueError(f"epoch {state.epoch!r} and step {state.step!r} do not fit")
    if not isinstance(state.seconds, float) or len(state.history) != state.step:
        raise ValueError("its history or its seconds do not fit")
    if not all(isinstance(remark, str) for remark in state.remarks):
        raise ValueError("its remarks are not texts")
    values = [value for step in state.history for value in step.values()]
    if not all({*POSITION, "total"} <= set(step) for step in state.history) or not all(
        isinstance(value, int | float) for value in values
    ):
        raise ValueError("its history holds other things than numbers")
    return state
