"""The templates and state words of the released codes; `_prompts.toml` has them and the sources.

A template has one place, `{}`, for a state; a state has one for the class name.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path

from ..bench.prompts import encode_states, fill

__all__ = ["encode_states"]  # methods that `zsad new` wrote import it from here

_FILE = Path(__file__).with_suffix(".toml")
_TEXTS = {name: tuple(t) for name, t in tomllib.loads(_FILE.read_text(encoding="utf-8")).items()}

CLIP_TEMPLATES = _TEXTS["CLIP_TEMPLATES"]
CLIP_NORMAL = _TEXTS["CLIP_NORMAL"]
CLIP_ABNORMAL = _TEXTS["CLIP_ABNORMAL"]

CLIP_AC_NORMAL = _TEXTS["CLIP_AC_NORMAL"]
CLIP_AC_ABNORMAL = _TEXTS["CLIP_AC_ABNORMAL"]
IMAGENET_80 = _TEXTS["IMAGENET_80"]
COOP_7 = _TEXTS["COOP_7"]

WINCLIP_22 = _TEXTS["WINCLIP_22"]
WINCLIP_NORMAL = _TEXTS["WINCLIP_NORMAL"]
WINCLIP_ABNORMAL = _TEXTS["WINCLIP_ABNORMAL"]

APRIL_35 = _TEXTS["APRIL_35"]
APRIL_NORMAL = WINCLIP_NORMAL
APRIL_ABNORMAL = _TEXTS["APRIL_ABNORMAL"]

ANOVL_NORMAL = ("normal {}", *WINCLIP_NORMAL[1:])
ANOVL_ABNORMAL = _TEXTS["ANOVL_ABNORMAL"]
ANOVL_OBJECT_NOUNS = _TEXTS["ANOVL_OBJECT_NOUNS"]
ANOVL_TEXTURE_NOUNS = _TEXTS["ANOVL_TEXTURE_NOUNS"]
ANOVL_TEXTURES = frozenset({"carpet", "leather", "grid", "tile", "wood"})
ANOVL_RENAMED = {"macaroni1": "macaroni", "macaroni2": "macaroni"}

# zqhang/Accurate-WinCLIP-pytorch (and anomalib after it): one template is missing and one "a" of a
# pair became "the", so that 20 of 21 are distinct and one counts twice.
_MISSING = "a cropped photo of a {}."
_DOUBLED = {"a jpeg corrupted photo of a {}.": "a jpeg corrupted photo of the {}."}
WINCLIP_21 = tuple(_DOUBLED.get(t, t) for t in WINCLIP_22 if t != _MISSING)


def anovl_templates(class_name: str) -> tuple[str, ...]:
    """The 66 templates of AnoVL for a class: WinCLIP's 22 with three nouns, without full stops.

    Source: hq-deng/AnoVL; textures (of MVTec AD) have nouns of their own.
    """
    nouns = ANOVL_TEXTURE_NOUNS if class_name in ANOVL_TEXTURES else ANOVL_OBJECT_NOUNS
    return tuple(_with_noun(template, noun) for noun in nouns for template in WINCLIP_22)


def _with_noun(template: str, noun: str) -> str:
    """A template for "a photo" with `noun`, which has its article, instead."""
    plain = template.removesuffix(".")
    if plain.startswith("a photo "):
        return plain.replace("a photo", noun, 1)
    return plain.replace("photo", noun.partition(" ")[2], 1)


def anovl_prompts(word: str, states: Sequence[str]) -> list[str]:
    """The 462 prompts of a class for seven states of one kind, in the released order."""
    return [
        prompt for template in anovl_templates(word) for prompt in fill([template], states, word)
    ]
