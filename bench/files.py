"""Files that are whole or absent, JSON that is strict, and names that every file system accepts.

Everything that the package writes goes through `whole_file` (its own files) or `output_file` (files
that the user names).
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from .errors import FileError, shortened

if TYPE_CHECKING:
    from PIL.Image import Image

STALE_SECONDS = 3600.0  # no file takes so long to be written
LONGEST_NAME = 160  # characters; file systems take 255 bytes, temporary names need some
_WRITER = re.compile(r"\.(?P<process>\d+)-\d+\.tmp$")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write into that becomes `path` at the end: it is whole or absent.

    Raises:
        FileError: the disk is full or not writable; names the file.
    """
    owner = f".{socket.gethostname()}.{os.getpid()}-{threading.get_ident()}.tmp"
    temporary = path.with_name(f".{path.name}{owner}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def output_file(path: Path) -> Iterator[BinaryIO]:
    """A file that the user named, to write into: as `whole_file`, so it is whole or absent.

    A link is followed, and a device or a pipe (/dev/stdout) is written to as it stands.

    Raises:
        FileError: the disk is full or not writable, or a folder has the name; names the file.
    """
    try:
        as_it_stands = path.exists() and not path.is_file()
        target = path.resolve() if path.is_symlink() else path
        with path.open("wb") if as_it_stands else whole_file(target) as file:
            yield file
    except OSError as error:
        raise _unwritable(path, error) from error


def write_text(path: Path, text: str) -> None:
    """Write a text, in UTF-8, to a file that the user named.

    Raises:
        FileError: as `output_file`.
    """
    with output_file(path) as file:
        file.write(text.encode())


def write_png(path: Path, image: Image) -> None:
    """Write a picture; the file is whole or absent.

    Raises:
        FileError: as `whole_file`.
    """
    with whole_file(path) as file:
        image.save(file, format="PNG")


def _unwritable(path: Path, error: OSError) -> FileError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    fix = "make room" if full else "make it writable or choose another place"
    return FileError(f"{path} cannot be written ({error}): {fix}, and start the command again")


def remove_abandoned(folder: Path) -> None:
    """Remove the temporary files that killed writers left below a folder.

    The name that `whole_file` gives holds host and process: on this host the process decides. A
    file of another host, or with a name of earlier versions, is removed by its age.
    """
    for pattern in (".*.tmp", ".*.tmp.*", "*.tmp.npz"):
        for path in folder.rglob(pattern):
            with suppress(OSError):
                if _is_abandoned(path):
                    path.unlink()


def _is_abandoned(path: Path) -> bool:
    owner = _WRITER.search(path.name)
    if owner and path.name[: owner.start()].endswith(f".{socket.gethostname()}"):
        return not _lives(int(owner["process"]))
    return time.time() - path.stat().st_mtime > STALE_SECONDS


def _lives(process: int) -> bool:
    """Whether this host has a process of that number, whoever owns it."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def write_json(path: Path, value: Any) -> None:
    """Write JSON; the file is whole or absent.

    Raises:
        FileError: as `whole_file`.
    """
    with whole_file(path) as file:
        file.write(json.dumps(value, indent=1, allow_nan=False).encode())


def read_json(path: Path) -> Any:
    """Read strict JSON: NaN, Infinity and numbers too large to compute with are refused.

    An unpaired surrogate, which cannot be written to a file or a terminal, is read as "?".

    Raises:
        OSError, ValueError, RecursionError: the file is missing, not JSON, or nested too deeply.
    """
    text = path.read_text(encoding="utf-8")
    value = json.loads(
        text, parse_constant=_refuse, parse_float=_finite_float, parse_int=_moderate_int
    )
    if _SURROGATE.search(text):
        value = json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    return value


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a JSON number")


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is too large")
    return value


def _moderate_int(text: str) -> int:
    if len(text) > 20:
        raise ValueError(f"{shortened(text)} is too large")
    return int(text)


def file_name(text: str) -> str:
    """A text as a file name: letters, digits, - and _; different texts keep different names."""
    name = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "_" for c in text)
    if name == text and len(name) <= LONGEST_NAME:
        return name
    return f"{name[:LONGEST_NAME]}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def csv_text(text: str) -> str:
    """A text as a CSV cell that no spreadsheet takes for a formula; numbers stay numbers.

    >>> csv_text("=1+1"), csv_text("-x"), csv_text("-0.5")
    ("'=1+1", "'-x", '-0.5')
    """
    if not text.startswith(("=", "+", "-", "@", "\t", "\r", "\n")):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text
