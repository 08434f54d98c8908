"""The templates and state words of the released codes.

A template has one place, `{}`, for a state; a state has one for the class name.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..bench.prompts import encode_states, fill

__all__ = ["encode_states"]  # methods that `zsad new` wrote import it from here

# CLIP as AnomalyCLIP's appendix runs it.
CLIP_TEMPLATES = ("a photo of {}.",)
CLIP_NORMAL = ("a normal {}",)
CLIP_ABNORMAL = ("an anomalous {}",)

# CLIP-AC: the words are not confirmed by any paper.
CLIP_AC_NORMAL = ("normal {}",)
CLIP_AC_ABNORMAL = ("anomalous {}",)

# WinCLIP, appendix; the released codes agree.
WINCLIP_NORMAL = (
    "{}",
    "flawless {}",
    "perfect {}",
    "unblemished {}",
    "{} without flaw",
    "{} without defect",
    "{} without damage",
)
WINCLIP_ABNORMAL = ("damaged {}", "{} with flaw", "{} with defect", "{} with damage")

# APRIL-GAN's released code; its normal states are WinCLIP's.
APRIL_NORMAL = WINCLIP_NORMAL
APRIL_ABNORMAL = (
    "damaged {}",
    "broken {}",
    "{} with flaw",
    "{} with defect",
    "{} with damage",
)

# AnoVL's released code.
ANOVL_NORMAL = ("normal {}", *WINCLIP_NORMAL[1:])
ANOVL_ABNORMAL = (
    "damaged {}",
    "abnormal {}",
    "imperfect {}",
    "blemished {}",
    "{} with flaw",
    "{} with defect",
    "{} with damage",
)
ANOVL_OBJECT_NOUNS = ("an industrial photo", "an industrial image", "a manufacturing image")
ANOVL_TEXTURE_NOUNS = ("an industrial photo", "a textural photo", "a surface picture")
ANOVL_TEXTURES = frozenset({"carpet", "leather", "grid", "tile", "wood"})
ANOVL_RENAMED = {"macaroni1": "macaroni", "macaroni2": "macaroni"}

# The OpenAI notebook "Prompt Engineering for ImageNet", in its order.
IMAGENET_80 = (
    "a bad photo of a {}.",
    "a photo of many {}.",
    "a sculpture of a {}.",
    "a photo of the hard to see {}.",
    "a low resolution photo of the {}.",
    "a rendering of a {}.",
    "graffiti of a {}.",
    "a bad photo of the {}.",
    "a cropped photo of the {}.",
    "a tattoo of a {}.",
    "the embroidered {}.",
    "a photo of a hard to see {}.",
    "a bright photo of a {}.",
    "a photo of a clean {}.",
    "a photo of a dirty {}.",
    "a dark photo of the {}.",
    "a drawing of a {}.",
    "a photo of my {}.",
    "the plastic {}.",
    "a photo of the cool {}.",
    "a close-up photo of a {}.",
    "a black and white photo of the {}.",
    "a painting of the {}.",
    "a painting of a {}.",
    "a pixelated photo of the {}.",
    "a sculpture of the {}.",
    "a bright photo of the {}.",
    "a cropped photo of a {}.",
    "a plastic {}.",
    "a photo of the dirty {}.",
    "a jpeg corrupted photo of a {}.",
    "a blurry photo of the {}.",
    "a photo of the {}.",
    "a good photo of the {}.",
    "a rendering of the {}.",
    "a {} in a video game.",
    "a photo of one {}.",
    "a doodle of a {}.",
    "a close-up photo of the {}.",
    "a photo of a {}.",
    "the origami {}.",
    "the {} in a video game.",
    "a sketch of a {}.",
    "a doodle of the {}.",
    "a origami {}.",
    "a low resolution photo of a {}.",
    "the toy {}.",
    "a rendition of the {}.",
    "a photo of the clean {}.",
    "a photo of a large {}.",
    "a rendition of a {}.",
    "a photo of a nice {}.",
    "a photo of a weird {}.",
    "a blurry photo of a {}.",
    "a cartoon {}.",
    "art of a {}.",
    "a sketch of the {}.",
    "a embroidered {}.",
    "a pixelated photo of a {}.",
    "itap of the {}.",
    "a jpeg corrupted photo of the {}.",
    "a good photo of a {}.",
    "a plushie {}.",
    "a photo of the nice {}.",
    "a photo of the small {}.",
    "a photo of the weird {}.",
    "the cartoon {}.",
    "art of the {}.",
    "a drawing of the {}.",
    "a photo of the large {}.",
    "a black and white photo of a {}.",
    "the plushie {}.",
    "a dark photo of a {}.",
    "itap of a {}.",
    "graffiti of the {}.",
    "a toy {}.",
    "itap of my {}.",
    "a photo of a cool {}.",
    "a photo of a small {}.",
    "a tattoo of the {}.",
)

# CoOp's subset for "prompt ensembling".
COOP_7 = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)

# WinCLIP, appendix; mala-lab/WinCLIP.
WINCLIP_22 = (
    "a cropped photo of the {}.",
    "a cropped photo of a {}.",
    "a close-up photo of a {}.",
    "a close-up photo of the {}.",
    "a bright photo of a {}.",
    "a bright photo of the {}.",
    "a dark photo of the {}.",
    "a dark photo of a {}.",
    "a jpeg corrupted photo of a {}.",
    "a jpeg corrupted photo of the {}.",
    "a blurry photo of the {}.",
    "a blurry photo of a {}.",
    "a photo of a {}.",
    "a photo of the {}.",
    "a photo of a small {}.",
    "a photo of the small {}.",
    "a photo of a large {}.",
    "a photo of the large {}.",
    "a photo of the {} for visual inspection.",
    "a photo of a {} for visual inspection.",
    "a photo of the {} for anomaly detection.",
    "a photo of a {} for anomaly detection.",
)

# APRIL-GAN's released code.
APRIL_35 = (
    "a bad photo of a {}.",
    "a low resolution photo of the {}.",
    "a bad photo of the {}.",
    "a cropped photo of the {}.",
    "a bright photo of a {}.",
    "a dark photo of the {}.",
    "a photo of my {}.",
    "a photo of the cool {}.",
    "a close-up photo of a {}.",
    "a black and white photo of the {}.",
    "a bright photo of the {}.",
    "a cropped photo of a {}.",
    "a jpeg corrupted photo of a {}.",
    "a blurry photo of the {}.",
    "a photo of the {}.",
    "a good photo of the {}.",
    "a photo of one {}.",
    "a close-up photo of the {}.",
    "a photo of a {}.",
    "a low resolution photo of a {}.",
    "a photo of a large {}.",
    "a blurry photo of a {}.",
    "a jpeg corrupted photo of the {}.",
    "a good photo of a {}.",
    "a photo of the small {}.",
    "a photo of the large {}.",
    "a black and white photo of a {}.",
    "a dark photo of a {}.",
    "a photo of a cool {}.",
    "a photo of a small {}.",
    "there is a {} in the scene.",
    "there is the {} in the scene.",
    "this is a {} in the scene.",
    "this is the {} in the scene.",
    "this is one {} in the scene.",
)

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
