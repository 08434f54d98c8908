"""The image files of a category while it is scored: hashed beside it, and seen not to change."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ..content import content_hashes, stamp_of
from ..dataset import Dataset, Sample, files_of
from ..errors import DataError, ZsadError
from ..progress import Progress


def stamps(samples: Sequence[Sample]) -> dict[Path, str]:
    """What changes whenever a file does, for each file that is there."""
    found: dict[Path, str] = {}
    for path in files_of(samples):
        with suppress(DataError):  # reading it will say so
            found[path] = stamp_of(path)
    return found


def refuse_changed_files(
    dataset: Dataset, category: str, samples: Sequence[Sample], before: Mapping[Path, str]
) -> None:
    """Raise `DataError` if files changed while they were scored: it is unknown which were read."""
    now = stamps(samples)
    for path in files_of(samples):
        if now.get(path) != before.get(path):
            raise DataError(
                f"{path} changed while {dataset.title} {category} was scored: start the same "
                "command again"
            )


@contextmanager
def hashing(
    dataset: Dataset, by_category: Mapping[str, Sequence[Sample]], progress: Progress
) -> Iterator[Callable[[], None]]:
    """Hash the files of these samples in a thread until the block ends.

    Hashed beside the scoring of their images, files are read from the disk once. A file that
    cannot be hashed is reported where its hash is needed.

    Yields:
        A function that waits until all files are hashed, unless a stop is asked for before.
    """
    files = files_of(sample for samples in by_category.values() for sample in samples)
    own = Progress(progress.bar)

    def hash_all() -> None:
        with suppress(ZsadError):
            content_hashes(files, f"hashing {dataset.title}", own)

    def wait() -> None:
        while thread.is_alive():
            progress.check()
            thread.join(0.2)

    thread = threading.Thread(target=hash_all, daemon=True)
    thread.start()
    try:
        yield wait
    finally:
        own.stop.set()
        thread.join()
