"""What a method costs beside the visual forward that it shares with others, as it declares it."""

from __future__ import annotations

from dataclasses import dataclass

from .json_fields import Amount


@dataclass(frozen=True)
class ExtraWork:
    """What scoring costs beside the shared visual forward, the weights and a batch.

    Attributes:
        forwards: visual forwards of the method's own for each image, as those of a method that
            changes tokens inside the tower or that looks at views of an image.
        memory: what it keeps while it scores, with its size, as a table may say it after "keeps":
            "a feature per patch of the auxiliary dataset". "" is nothing to speak of.
    """

    forwards: Amount = 0.0
    memory: str = ""
