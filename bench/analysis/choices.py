"""What an evaluation chooses and papers seldom state, and how a user asks for its effect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import UsageError
from ..metric_table import METRICS, checked_metrics
from ..names import display_name, known_name
from .changed_maps import RULES, WAYS

DEFAULT = ("pixel_auroc", "pixel_pro")
PRO = "pixel_pro"
KEPT = "kept"  # the value that changes nothing
SMALLEST_MAP = 8  # as `--map-size` of a run


@dataclass(frozen=True)
class Choice:
    """Something that an evaluation has to choose.

    Attributes:
        title: of the table and of the figure's axis.
        values: that are looked at unless others are named.
        says: what a reader must know of it.
        unit: of the values, where they are numbers; "" where they are words.
        resizes: the values are ways to bring maps or masks to another size.
    """

    title: str
    values: tuple[str, ...]
    says: str
    unit: str = ""
    resizes: bool = False


_FROM_KEPT = (
    "Masks are resized from the size at which they were kept, not from the dataset's files."
)
CHOICES: Mapping[str, Choice] = {
    "map_size": Choice(
        "side of maps and masks",
        (KEPT, "32", "64", "128", "256", "518"),
        f"Maps are resized bilinearly, masks as the released codes do. {_FROM_KEPT}",
        "pixels",
    ),
    "smoothing": Choice(
        "sigma of a further Gaussian",
        ("0", "1", "2", "4", "8"),
        "The Gaussian comes on top of what the method itself smooths; 0 is the map as it was kept.",
        "pixels of the kept map",
    ),
    "interpolation": Choice(
        "interpolation of maps",
        tuple(WAYS),
        f"Masks are resized as the released codes do. {_FROM_KEPT}",
        resizes=True,
    ),
    "mask_rule": Choice(
        "resizing of masks",
        tuple(RULES),
        "official is the released codes' bilinear resizing, of which what is above 0.5 is kept. "
        f"Maps are resized bilinearly. {_FROM_KEPT}",
        resizes=True,
    ),
    "pro_limit": Choice(
        "greatest false positive rate of PRO",
        ("0.05", "0.1", "0.2", "0.3", "1.0"),
        "The area under the curve up to the limit is divided by the limit.",
        "as a fraction",
    ),
}
IMAGE_SIZE = "image_size"
OF_RUNS = Choice(
    "side of the input images",
    (),
    "Every size is a run of its own: maps have the input's size unless the run sets --map-size.",
    "pixels",
)


@dataclass(frozen=True)
class Question:
    """What a study asks, checked.

    Attributes:
        over: a name of `CHOICES`.
        metrics: pixel-level ones.
        values: as texts.
        side: to which maps and masks are brought where the choice is how; None is half of theirs.
    """

    over: str
    metrics: tuple[str, ...]
    values: tuple[str, ...]
    side: int | None = None

    @classmethod
    def ask(
        cls,
        over: str,
        metrics: Sequence[str] = (),
        values: Sequence[str] = (),
        side: int | None = None,
    ) -> Question:
        """A question in a user's words.

        Raises:
            UsageError: an unknown choice, metric or value, or a metric that does not depend on it.
        """
        name = known_name("choice to study", over, (*CHOICES, IMAGE_SIZE))
        if name == IMAGE_SIZE:
            raise UsageError("image-size needs the model again: kept maps do not answer it")
        choice = CHOICES[name]
        if side is not None and not choice.resizes:
            raise UsageError(
                f"--side is the size that maps are brought to; {display_name(name)} has none"
            )
        if side is not None and side < SMALLEST_MAP:
            raise UsageError(f"--side is a whole number of at least {SMALLEST_MAP}, not {side}")
        asked = tuple(dict.fromkeys(_checked(name, value) for value in values)) or choice.values
        return cls(name, studied_metrics(name, metrics), asked, side)


def studied_metrics(over: str, names: Sequence[str]) -> tuple[str, ...]:
    """The metrics of a study: those that are named, else those of the paper's pixel table.

    Raises:
        UsageError: no such metric, or one that does not depend on the choice.
    """
    chosen = checked_metrics(names)
    if over == "pro_limit":
        if set(chosen) - {PRO}:
            raise UsageError("pro-limit concerns pixel-pro alone: leave --metric out")
        return (PRO,)
    wrong = [name for name in chosen if METRICS[name].scores_further_images]
    if over != IMAGE_SIZE:
        wrong += [name for name in chosen if METRICS[name].level == "image"]
    if wrong:
        raise UsageError(
            f"{display_name(wrong[0])} cannot be computed from kept maps alone: choose pixel-level "
            "metrics without a learned threshold"
        )
    return tuple(name for name in METRICS if name in chosen) or DEFAULT


def _checked(over: str, text: str) -> str:
    """A value of a choice under its own name.

    Raises:
        UsageError: it is none.
    """
    choice, value = CHOICES[over], text.strip()
    if not choice.unit:
        return known_name(f"value of {display_name(over)}", value, choice.values)
    if over == "map_size" and value == KEPT:
        return value
    sizes, limits = over == "map_size", over == "pro_limit"
    try:
        number = int(value) if sizes else float(value)
    except ValueError:
        number = -1
    least, most = (SMALLEST_MAP if sizes else 0), (1 if limits else 100_000)
    if not least <= number <= most or (limits and number == 0):
        words = f"{least} to {most}" if not limits else "above 0, up to 1"
        whole = "a whole number" if sizes else "a number"
        raise UsageError(f"a value of {display_name(over)} is {whole}, {words}; not '{text}'")
    return value
