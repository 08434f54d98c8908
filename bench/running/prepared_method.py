"""A method of a run with all that is known of it, and the isolation of its failures."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ..data.loading import is_death_of_reader
from ..errors import ContractError, Stopped, message_of
from ..method import Method, Prediction, Query
from ..names import display_name
from ..progress import Progress
from ..records.cell import Cell
from ..records.record import Auxiliary
from .plan import Job

LOG = logging.getLogger(__name__)


@dataclass
class PreparedMethod:
    """A job with its method, ready to be scored, or with the error that made it fail.

    Attributes:
        protocol: what a record must state for numbers to be comparable.
        training: seconds and epochs spent on fitting it in this process.
        remarks: what records are to say of how it was fitted.
        auxiliary: what it was learned from, where that is known.
        answers: whether it gives scores and whether it gives maps, once it has answered.
        single: a first batch of one image and its answer, until they can be examined.
        examined: its answers were seen not to depend on how images are batched.
    """

    job: Job
    method: Method | None = None
    error: BaseException | None = None
    map_size: int = 0
    protocol: dict[str, Any] = field(default_factory=dict)
    training: dict[str, float] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    auxiliary: Auxiliary | None = None
    answers: tuple[bool, bool] | None = None
    single: tuple[Query, Prediction] | None = None
    examined: bool = False

    def group_key(self) -> tuple[Any, ...]:
        """Methods with equal keys share batches and visual forwards."""
        return (*self.ready.forward_key(), self.map_size)

    @property
    def cell(self) -> Cell:
        """The key of its record."""
        return self.job.cell

    @property
    def ready(self) -> Method:
        """The method; only of one without an error."""
        if self.method is None:
            raise ValueError(f"{self.cell.key} is not ready")
        return self.method


@contextmanager
def isolated(prepared: PreparedMethod, progress: Progress) -> Iterator[None]:
    """Whatever a method raises inside is an error of that method alone.

    `sys.exit` and a KeyboardInterrupt that the method raises are failures of the method. A user's
    interrupt differs: `progress` learns of the signal first.

    Raises:
        Stopped, KeyboardInterrupt: the user wants the work to stop.
    """
    try:
        yield
    except Stopped:
        raise
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and progress.asked_to_stop():
            raise
        if is_death_of_reader(error):
            raise
        traceback.clear_frames(error.__traceback__)  # they would keep tensors in memory
        if not isinstance(error, Exception):  # raised again it would end the process
            what = f"{type(error).__name__}({message_of(error)})"
            reason = ContractError(f"method '{display_name(prepared.cell.method)}' raised {what}")
            reason.__cause__ = error
            error = reason
        LOG.warning("%s is left out from here on: %s", prepared.cell.key, message_of(error))
        prepared.error = error
