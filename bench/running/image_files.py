"""The image files of a category while it is scored: hashed beside it, and seen not to change."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ..content import content_hashes, stamp_of
from ..dataset import Dataset, Sample, files_of
from ..errors import DataError, ZsadError
from ..progress import Progress


def stamps(samples: Sequence[Sample]) -> list[str]:
    """What tells files from those that lay at their paths before; "" for one that is missing."""
    found = []
    for path in files_of(samples):
        try:
            found.append(stamp_of(path))
        except DataError:  # reading it will say so
            found.append("")
    return found


def refuse_changed_files(
    dataset: Dataset, category: str, samples: Sequence[Sample], before: Sequence[str]
) -> None:
    """Raise `DataError` if files changed while they were scored: it is unknown which were read."""
    for path, earlier, now in zip(files_of(samples), before, stamps(samples), strict=True):
        if earlier != now:
            raise DataError(
                f"{path} changed while {dataset.title} {category} was scored: start the same "
                "command again"
            )


class Hashing(threading.Thread):
    """Hashes files beside the scoring of their images, so that the disk is read once."""

    def __init__(self, paths: Sequence[Path], title: str, progress: Progress) -> None:
        super().__init__(daemon=True)
        self.paths, self.title, self.progress = paths, title, progress
        self.own = Progress(progress.bar)

    def run(self) -> None:
        """Hash; whoever needs a file that could not be hashed will say so."""
        with suppress(ZsadError):
            content_hashes(self.paths, f"hashing {self.title}", self.own)

    def wait(self) -> None:
        """Wait until all files are hashed, unless a stop is asked for before."""
        while self.is_alive():
            self.progress.check()
            self.join(0.2)


@contextmanager
def hashing(
    dataset: Dataset, by_category: Mapping[str, Sequence[Sample]], progress: Progress
) -> Iterator[Hashing]:
    """Hash the files of these samples in a thread until the block ends."""
    samples = [sample for category in by_category.values() for sample in category]
    thread = Hashing(files_of(samples), dataset.title, progress)
    thread.start()
    try:
        yield thread
    finally:
        thread.own.stop.set()
        thread.join()
