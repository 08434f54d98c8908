"""sha256 of files' bytes, remembered on disk, so that a file is read for its hash only once.

A hash is remembered by the file's path together with its inode, size, time of modification and
time of status change. No program can set the last one, so a file that was rewritten in place and
given its old times back is read again. A file that changed within the last seconds is not
remembered: a second change might leave the same times where clocks are coarse.

Times are only the key of this cache: the hash is of the content alone.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from stat import S_ISREG

from .errors import DataError
from .progress import Progress

LOG = logging.getLogger(__name__)

FILE = "hashes.sqlite"
THREADS = min(8, 2 * (os.cpu_count() or 1))  # hashing releases the interpreter's lock
SETTLED_SECONDS = 2.0  # FAT counts two seconds, network file systems one
SLOW_SECONDS = 2.0  # a bar is shown for what takes longer
LOCK_SECONDS = 10.0
ATTEMPTS = 3
AT_ONCE = 500  # hashes that are stored together

Stamp = str
"""What tells a file from the one that lay at its path before, without reading it."""

_memory: dict[str, tuple[Stamp, str]] = {}
_memory_lock = threading.Lock()


def hashes_folder() -> Path:
    """Where hashes are remembered: $ZSAD_HASHES or ~/.cache/zsad/hashes; may be deleted."""
    named = os.environ.get("ZSAD_HASHES")
    return Path(named) if named else Path.home() / ".cache" / "zsad" / "hashes"


def content_sha256(path: Path | str) -> str:
    """sha256 of a file's bytes, as 64 hexadecimal digits.

    Raises:
        DataError: the file is missing or cannot be read; names it.
    """
    return content_hashes([Path(path)])[Path(path)]


def content_hashes(
    paths: Iterable[Path],
    title: str = "hashing",
    progress: Progress | None = None,
) -> dict[Path, str]:
    """sha256 of many files' bytes; those that are not remembered are read in threads.

    Args:
        paths: files; links are followed.
        title: of the bar, which is shown where it takes longer than some seconds.
        progress: asked after each file that was read whether to stop.

    Raises:
        DataError: a file is missing or cannot be read; names it.
    """
    wanted = {path: os.path.abspath(path) for path in paths}  # noqa: PTH100, as fast as possible
    stamps = {path: stamp_of(path) for path in wanted}
    found: dict[Path, str] = {}
    for remembered in (_in_memory, _stored):
        unknown = [path for path in wanted if path not in found]
        known = remembered([wanted[path] for path in unknown])
        for path in unknown:
            stamp, digest = known.get(wanted[path], ("", ""))
            if stamp == stamps[path]:
                found[path] = digest
    _remember({wanted[path]: (stamps[path], digest) for path, digest in found.items()})
    new = [path for path in unknown if path not in found]
    fresh: dict[str, tuple[Stamp, str]] = {}
    try:
        for path, stamp, digest in _hashed(new, title, progress or Progress()):
            found[path] = digest
            if _is_settled(path):
                fresh[wanted[path]] = (stamp, digest)
            if len(fresh) >= AT_ONCE:
                _keep(fresh)
                fresh = {}
    finally:
        _keep(fresh)
    return {path: found[path] for path in wanted}


def stamp_of(path: Path | str) -> Stamp:
    """A file's inode, size and times; it changes whenever the content does.

    Raises:
        DataError: the file is missing, is a link to nowhere, or is not a regular file; names it.
    """
    try:
        stat = os.stat(path)  # noqa: PTH116, ten thousand of them are asked for at a start
    except OSError as error:
        raise DataError(f"file {path} cannot be reached ({error.strerror})") from error
    if not S_ISREG(stat.st_mode):  # reading a pipe would wait for ever
        raise DataError(f"{path} is not a regular file: remove it, or put the file there")
    return f"{stat.st_ino}-{stat.st_size}-{stat.st_mtime_ns}-{stat.st_ctime_ns}"


def _hashed(
    paths: Sequence[Path], title: str, progress: Progress
) -> Iterator[tuple[Path, Stamp, str]]:
    """Path, stamp and sha256 of each file, read in threads, in order."""
    if len(paths) <= 1:
        for path in paths:
            yield (path, *_read(path))
        return
    with (
        ThreadPoolExecutor(THREADS) as pool,
        progress.track(len(paths), title, "file", delay=SLOW_SECONDS) as bar,
    ):
        try:
            for path, (stamp, digest) in zip(paths, pool.map(_read, paths), strict=True):
                yield path, stamp, digest
                bar.update()
                progress.check()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _read(path: Path) -> tuple[Stamp, str]:
    """A file's stamp and the sha256 of the bytes that it had under that stamp."""
    for _ in range(ATTEMPTS):
        before = stamp_of(path)
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise DataError(f"file {path} cannot be read ({error.strerror})") from error
        if stamp_of(path) == before:
            return before, digest
    raise DataError(f"file {path} changes while it is read: start again once it is complete")


def _is_settled(path: Path) -> bool:
    """Whether a file changed so long ago that its next change will show in its times."""
    stat = path.stat()
    return time.time() - max(stat.st_mtime, stat.st_ctime) > SETTLED_SECONDS


# -- on disk ------------------------------------------------------------------------------------


def _in_memory(places: Sequence[str]) -> dict[str, tuple[Stamp, str]]:
    with _memory_lock:
        return {place: _memory[place] for place in places if place in _memory}


def _remember(known: Mapping[str, tuple[Stamp, str]]) -> None:
    with _memory_lock:
        _memory.update(known)


def _keep(known: Mapping[str, tuple[Stamp, str]]) -> None:
    """Remember hashes in this process and on disk."""
    if not known:
        return
    _remember(known)
    rows = [(os.fsencode(place), *known[place]) for place in known]

    def write(store: sqlite3.Connection) -> None:
        with store:
            store.executemany("INSERT OR REPLACE INTO hashes VALUES (?, ?, ?)", rows)

    _with_store(write)


def _stored(places: Sequence[str]) -> dict[str, tuple[Stamp, str]]:
    """What is remembered on disk of these files."""
    found: dict[str, tuple[Stamp, str]] = {}

    def read(store: sqlite3.Connection) -> None:
        for place in places:
            row = store.execute(
                "SELECT stamp, sha256 FROM hashes WHERE path = ?", (os.fsencode(place),)
            ).fetchone()
            if row is not None and is_sha256(row[1]):
                found[place] = (str(row[0]), row[1])

    if places:
        _with_store(read)
    return found


def is_sha256(value: object) -> bool:
    """Whether a value is a digest of sha256 in hexadecimal digits."""
    return isinstance(value, str) and len(value) == 64 and not value.strip("0123456789abcdef")


def _with_store(use: Callable[[sqlite3.Connection], None]) -> None:
    """Do something with the file of hashes; where that cannot be, files are simply read again."""
    path = hashes_folder() / FILE
    for attempt in range(2):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(path, timeout=LOCK_SECONDS)) as store:
                store.execute(
                    "CREATE TABLE IF NOT EXISTS hashes "
                    "(path BLOB PRIMARY KEY, stamp TEXT, sha256 TEXT) WITHOUT ROWID"
                )
                use(store)
            return
        except (OSError, sqlite3.OperationalError) as error:  # locked, full or read-only
            LOG.info("hashes in %s are not usable (%s)", path, error)
            return
        except sqlite3.DatabaseError as error:
            LOG.warning("%s is broken (%s) and is made again", path, error)
            for name in (path, path.with_name(f"{path.name}-journal")):
                with suppress(OSError):
                    name.unlink(missing_ok=True)
            if attempt:
                return
