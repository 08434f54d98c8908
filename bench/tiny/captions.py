"""Captions whose words mean different things, as people's do, and are sometimes wrong.

A caption names a class (by its own name, by a general word, or by a word that means nothing here)
and may say something about its state. Half of the captions are silent about it. What is said holds
for some kinds of defects and not for others: a stained plate is not "broken", a scratched one may
well be "clean". One caption in twenty-five says something untrue.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

TABLE = tomllib.loads(Path(__file__).with_name("captions.toml").read_text(encoding="utf-8"))
KINDS = tuple(TABLE["named"])
STATES = ("normal", *KINDS)  # what an image can be; the columns of `Wording.holds`
TEMPLATES, GENERAL = tuple(TABLE["templates"]), tuple(TABLE["general"])
SILENT = 0.5  # share of captions that say nothing of the state
WRONG = 0.04  # share of captions whose statement is drawn without looking
OWN_NAME, GENERAL_NAME = 0.55, 0.25  # shares of class words; the rest means nothing


@dataclass(frozen=True)
class Wording:
    """A phrase about a thing, and the states of which it is true.

    Attributes:
        phrase: with {} for the thing.
        holds: [len(STATES)] booleans.
    """

    phrase: str
    holds: tuple[bool, ...]


def _wordings(
    part: str, groups: Mapping[str, Sequence[str]], negated: bool = False
) -> tuple[Wording, ...]:
    """The phrases of a part of the table; negated, they are true of all but a group's states."""
    return tuple(
        Wording(phrase, tuple((state in groups[group]) != negated for state in STATES))
        for group, phrases in TABLE[part].items()
        for phrase in phrases
    )


GROUPS = {"flaw": KINDS, **TABLE["groups"]}
FAULTLESS = _wordings("faultless", GROUPS, negated=True)
FAULTY = _wordings("faulty", GROUPS)
NAMED = _wordings("named", {kind: (kind,) for kind in KINDS})
WORDINGS = FAULTLESS + FAULTY + NAMED


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
    """Something to say of a state, true except one time in twenty-five."""
    wrong = random.random() < WRONG
    if state and random.random() < 0.35 and not wrong:
        choices: Sequence[Wording] = NAMED
    else:
        choices = FAULTY if bool(state) != wrong else FAULTLESS
    fitting = [w for w in choices if w.holds[state]] if not wrong else choices
    return fitting[int(random.integers(len(fitting)))]
