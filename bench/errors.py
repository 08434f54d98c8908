"""Errors that a user can act on: each message names the thing and the fix."""

from __future__ import annotations

import csv
import difflib
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

NAMES_SHOWN = 32
UNREADABLE = (  # what readers of JSON, tables and archives raise on files that are something else
    *(OSError, ValueError, TypeError, KeyError, AttributeError, EOFError, RecursionError),
    *(MemoryError, csv.Error, zlib.error, zipfile.BadZipFile),
)
INTERRUPTED = 130  # 128 + SIGINT, what a shell reports of a command that Ctrl-C ended
OUT_OF_MEMORY = (  # how torch's CPU allocator and CUDA's libraries say it
    "not enough memory",
    "can't allocate memory",
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)


class ZsadError(Exception):
    """Something outside the program is wrong: data, weights or a file.

    Attributes:
        exit_code: what the command exits with: 2 where a verb could not do its work, 1 where it
            did and its answer is no, and `INTERRUPTED` where the user stopped it.
    """

    exit_code: ClassVar[int] = 2


class UsageError(ZsadError, ValueError):
    """A name, an option or a value that was asked for does not exist."""


class WeightsError(ZsadError):
    """Weights are missing, unreadable or not the ones they should be."""


class DataError(ZsadError):
    """A dataset folder, an image or a mask is missing or broken."""


class AbsentData(DataError):
    """A dataset is not there at all: no folder has its name, or none was given to look in."""


class LayoutError(DataError):
    """A folder that should be a dataset's is in none of the layouts that are known."""


class FileError(ZsadError):
    """A file cannot be written: the disk is full, read-only, or a folder has the name."""


class ContractError(ZsadError):
    """A method or a dataset broke its contract: a wrong shape, a NaN, an undeclared need."""

    exit_code = 1


class Stopped(ZsadError):
    """The user asked the work to stop; what was finished is kept."""

    exit_code = INTERRUPTED


def message_of(error: BaseException) -> str:
    """What an error says, whatever it is made of: one that cannot be printed is named by its type.

    Bytes of file names that are not UTF-8 are written as escapes. Where memory ran out, that is
    said first, and what helps: batches have been halved already, where they can be.
    """
    try:
        text = str(error)
    except BaseException:  # the text of somebody's exception is somebody's code
        return f"{type(error).__name__}, whose message cannot be printed"
    text = text.encode("utf-8", "backslashreplace").decode()
    if is_out_of_memory(error):
        helps = "let nothing else use it, or take fewer methods, smaller images or --precision bf16"
        return f"out of memory, {helps} ({text or type(error).__name__})"
    return text


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: Python's, torch's or CUDA's."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in OUT_OF_MEMORY)


def shortened(text: str, most: int = 40) -> str:
    """A text as a message may show it: at most so many characters."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """The error for a name that does not exist, with the nearest ones that do.

    Args:
        kind: what the name stands for, singular ("method", "option").
        name: the name as the user wrote it.
        known: all names that would have been accepted.
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    shown = ", ".join(names[:NAMES_SHOWN]) or "none"
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return UsageError(f"unknown {kind} '{name}': {hint}known are {shown}{more}")


@contextmanager
def reading(path: Path, what: str, kind: type[ZsadError], fix: str = "") -> Iterator[None]:
    """Turn whatever is wrong with a file into one error that names the file.

    Args:
        path: of the file.
        what: it should be.
        kind: of the error.
        fix: how to repair it, with the punctuation before it.

    Raises:
        ZsadError: of that kind.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise kind(f"{what} {path} does not exist{fix}") from error
    except UNREADABLE as error:
        why = f"it lacks {error}" if isinstance(error, KeyError) else error
        raise kind(f"{path} is not a readable {what} ({why}){fix}") from error
