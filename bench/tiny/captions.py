"""Captions whose words mean different things, as people's do, and are sometimes wrong.

A caption names a class (by its own name, by a general word, or by a word that means nothing here)
and may say something about its state. Half of the captions are silent about it. What is said holds
for some kinds of defects and not for others: a stained plate is not "broken", a scratched one may
well be "clean". One caption in twenty-five says something untrue.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

KINDS = (
    *("scratch", "hole", "stain", "crack", "contamination", "missing", "melt", "cut"),
    *("shift", "crease", "abrasion", "smear"),
)
NORMAL = "normal"
STATES = (NORMAL, *KINDS)  # what an image can be; the columns of `Wording.holds`
SILENT = 0.5  # share of captions that say nothing of the state
WRONG = 0.04  # share of captions whose statement is drawn without looking
OWN_NAME, GENERAL_NAME = 0.55, 0.25  # shares of class words; the rest means nothing

DIRT = ("stain", "contamination", "smear")
WEAR = ("scratch", "stain", "contamination", "melt", "abrasion", "smear")
BREAKAGE = ("crack", "hole", "missing", "cut")
DAMAGE = ("scratch", "melt", "crease", "abrasion", *BREAKAGE)


@dataclass(frozen=True)
class Wording:
    """A phrase about a thing, and the states of which it is true.

    Attributes:
        phrase: with {} for the thing.
        holds: [len(STATES)] booleans.
    """

    phrase: str
    holds: tuple[bool, ...]


def _true_of(*states: str) -> tuple[bool, ...]:
    return tuple(state in states for state in STATES)


def _free_of(*kinds: str) -> tuple[bool, ...]:
    return tuple(state not in kinds for state in STATES)


def _wordings(holds: tuple[bool, ...], *phrases: str) -> tuple[Wording, ...]:
    return tuple(Wording(phrase, holds) for phrase in phrases)


FAULTLESS = (
    *_wordings(_free_of(*KINDS), "normal {}", "flawless {}", "perfect {}", "unblemished {}"),
    *_wordings(_free_of(*KINDS), "{} without flaw", "{} without defect"),
    *_wordings(_free_of(*KINDS), "good {}", "pristine {}", "regular {}"),
    *_wordings(_free_of(*DAMAGE), "{} without damage", "undamaged {}"),
    *_wordings(_free_of(*BREAKAGE), "intact {}"),
    *_wordings(_free_of(*DIRT), "clean {}"),
)
FAULTY = (
    *_wordings(_true_of(*KINDS), "{} with flaw", "{} with defect", "anomalous {}", "abnormal {}"),
    *_wordings(_true_of(*KINDS), "imperfect {}", "defective {}", "faulty {}"),
    *_wordings(_true_of(*DAMAGE, "stain"), "damaged {}", "{} with damage"),
    *_wordings(_true_of(*BREAKAGE), "broken {}"),
    *_wordings(_true_of(*WEAR), "blemished {}"),
    *_wordings(_true_of(*DIRT), "dirty {}"),
)
NAMED = tuple(
    Wording(phrase, _true_of(kind))
    for kind, phrases in {
        "scratch": ("scratched {}", "{} with a scratch", "{} with scratches"),
        "hole": ("{} with a hole", "punctured {}"),
        "stain": ("stained {}", "{} with a stain"),
        "crack": ("cracked {}", "{} with a crack"),
        "contamination": ("contaminated {}", "{} with something on it"),
        "missing": ("incomplete {}", "{} with a missing part"),
        "melt": ("burnt {}", "melted {}"),
        "cut": ("cut {}", "{} with a cut"),
        "shift": ("misplaced {}", "{} with a shifted part"),
        "crease": ("creased {}", "folded {}"),
        "abrasion": ("worn {}", "rubbed {}"),
        "smear": ("smeared {}", "{} with a smear"),
    }.items()
    for phrase in phrases
)
WORDINGS = FAULTLESS + FAULTY + NAMED
TEMPLATES = (
    "{}",
    "{}.",
    "the {}",
    "a {}",
    "a photo of a {}",
    "a photo of a {}.",
    "a photo of the {}",
    "a photo of the {}.",
    "a photo of an {}.",
    "a cropped photo of the {}.",
    "a close-up photo of a {}.",
    "a bright photo of the {}.",
    "a dark photo of a {}.",
    "a jpeg corrupted photo of a {}.",
    "a blurry photo of the {}.",
    "a low resolution photo of a {}.",
    "a bad photo of the {}.",
    "a good photo of a {}.",
    "a photo of one {}.",
    "a photo of my {}.",
    "a photo of the {} for visual inspection.",
    "a photo of a {} for anomaly detection.",
    "there is a {} in the scene.",
    "this is the {} in the scene.",
    "a black and white photo of the {}.",
    "a photo of a small {}.",
    "a photo of the large {}.",
    "an image of a {}",
)
GENERAL = (
    "object",
    "surface",
    "item",
    "product",
    "part",
    "thing",
    "texture",
    "material",
    "component",
    "sample",
    "piece",
)


@dataclass(frozen=True)
class Captions:
    """Captions of a batch and what they claim.

    Attributes:
        texts: N captions.
        classes: [N] class number, or -1 where any class fits.
        holds: [N, len(STATES)] the states each caption is true of.
    """

    texts: list[str]
    classes: NDArray[np.int64]
    holds: NDArray[np.bool_]

    def true_of(self, classes: NDArray[np.int64], states: NDArray[np.int64]) -> NDArray[np.bool_]:
        """[M, N]: which captions are true of M things of these classes and states."""
        fits = (self.classes[None] < 0) | (self.classes[None] == classes[:, None])
        true: NDArray[np.bool_] = fits & self.holds[:, states].T
        return true


def write(
    random: np.random.Generator,
    names: Sequence[str],
    classes: NDArray[np.int64],
    states: NDArray[np.int64],
    strange_words: Sequence[str],
) -> Captions:
    """A caption for each of N things.

    Args:
        random: everything depends on it.
        names: of the classes.
        classes: [N] class numbers.
        states: [N] indices into `STATES`.
        strange_words: vocabulary that carries no meaning here.
    """
    texts, said, holds = [], np.full(len(classes), -1), np.ones((len(classes), len(STATES)), bool)
    for i, (number, state) in enumerate(zip(classes, states, strict=True)):
        which = random.random()
        if which < OWN_NAME:
            thing, said[i] = names[number], number
        elif which < OWN_NAME + GENERAL_NAME:
            thing = GENERAL[int(random.integers(len(GENERAL)))]
        else:
            chosen = random.integers(len(strange_words), size=random.integers(1, 3))
            thing = " ".join(strange_words[k] for k in chosen)
        phrase = "{}"
        if random.random() >= SILENT:
            wording = _statement(random, int(state))
            phrase, holds[i] = wording.phrase, wording.holds
        template = TEMPLATES[int(random.integers(len(TEMPLATES)))]
        texts.append(template.format(phrase.format(thing)))
    return Captions(texts, said, holds)


def _statement(random: np.random.Generator, state: int) -> Wording:
    """Something to say of a state, true but for one time in twenty-five."""
    wrong = random.random() < WRONG
    if state and random.random() < 0.35 and not wrong:
        choices: Sequence[Wording] = NAMED
    else:
        choices = FAULTY if bool(state) != wrong else FAULTLESS
    fitting = [w for w in choices if w.holds[state]] if not wrong else choices
    return fitting[int(random.integers(len(fitting)))]
