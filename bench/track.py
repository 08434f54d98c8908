"""What a method may see of its target: four tracks, which no table and no ranking mixes."""

from __future__ import annotations

import enum


class Track(enum.StrEnum):
    """What a method sees of the target dataset beside the image that it scores.

    Whoever sees more has an easier task, so numbers of two tracks are not compared. Adaptation to
    the scored image alone is zero-shot: the answer still depends on that image only.

    Attributes:
        ZERO_SHOT: nothing; it may have been trained on an auxiliary dataset.
        TRANSDUCTIVE: the other unlabelled test images of the category.
        FEW_SHOT: k normal training images of the category, given by the harness.
        FULL_SHOT: all normal training images of the category.
    """

    ZERO_SHOT = "zero-shot"
    TRANSDUCTIVE = "transductive"
    FEW_SHOT = "few-shot"
    FULL_SHOT = "full-shot"

    @property
    def place(self) -> int:
        """Its place in the order of tables: who sees more comes later."""
        return list(Track).index(self)

    @property
    def meaning(self) -> str:
        """What a method of the track sees of the target, as a sentence below a table."""
        seen = _SEEN[self]
        return f"{self.capitalize()} track: beside the image that it scores, a method sees {seen}."

    @property
    def has_references(self) -> bool:
        """Whether normal training images of the category are shown to a method."""
        return self in (Track.FEW_SHOT, Track.FULL_SHOT)


_SEEN = {
    Track.ZERO_SHOT: "nothing of the target dataset",
    Track.TRANSDUCTIVE: "the other unlabelled test images of the category",
    Track.FEW_SHOT: "a few normal training images of the category",
    Track.FULL_SHOT: "all normal training images of the category",
}
