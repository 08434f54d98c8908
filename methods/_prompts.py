"""Prompt ensembles: the templates and state words of the released codes, and how they are averaged.

A template has one place, `{}`, for a state; a state has one for the class name. Axes: B images,
N prompts, D joint embedding; the two states are ordered (normal, abnormal).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from ..bench.backbone import Backbone

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
    """A template that speaks of "a photo", speaking of `noun` (with its article) instead."""
    plain = template.removesuffix(".")
    if plain.startswith("a photo "):
        return plain.replace("a photo", noun, 1)
    return plain.replace("photo", noun.partition(" ")[2], 1)


def fill(templates: Sequence[str], states: Sequence[str], class_name: str) -> list[str]:
    """Every state in every template, states outermost: N = states x templates prompts.

    >>> fill(["a photo of {}."], ["a flawless {}"], "metal nut")
    ['a photo of a flawless metal nut.']
    """
    phrases = [state.replace("{}", class_name) for state in states]
    return [template.replace("{}", phrase) for phrase in phrases for template in templates]


def encode_states(
    backbone: Backbone,
    normal_prompts: Sequence[str],
    abnormal_prompts: Sequence[str],
    normalise_each: bool,
) -> Tensor:
    """One text feature per state, the mean over its prompts.

    Args:
        backbone: whose text tower encodes.
        normal_prompts: prompts of the normal state.
        abnormal_prompts: prompts of the abnormal state.
        normalise_each: the mean is taken of L2-normalised features (CLIP's ImageNet ensemble,
            APRIL-GAN) instead of raw ones (WinCLIP as zqhang released it, AnoVL).

    Returns:
        [2, D] L2-normalised, (normal, abnormal).
    """
    features = backbone.encode_text([*normal_prompts, *abnormal_prompts])  # [N, D]
    if normalise_each:
        features = F.normalize(features, dim=-1)
    states = torch.split(features, [len(normal_prompts), len(abnormal_prompts)])
    return F.normalize(torch.stack([state.mean(dim=0) for state in states]), dim=-1)


@dataclass(frozen=True)
class PromptEnsemble:
    """Text features of class names, each computed once and kept.

    Attributes:
        backbone: whose text tower encodes.
        templates: with one place for a state.
        normal: states with one place for the class name.
        abnormal: likewise.
        normalise_each: see `encode_states`.
    """

    backbone: Backbone
    templates: Sequence[str]
    normal: Sequence[str]
    abnormal: Sequence[str]
    normalise_each: bool
    _kept: dict[str, Tensor] = field(default_factory=dict, repr=False)

    def __call__(self, class_names: Sequence[str]) -> Tensor:
        """B class names -> [B, 2, D] L2-normalised text features, (normal, abnormal)."""
        return torch.stack([self.of(name) for name in class_names])

    def prompts(self, class_name: str = "{}") -> list[str]:
        """All prompts of a class name, those of the normal state first."""
        return [
            *fill(self.templates, self.normal, class_name),
            *fill(self.templates, self.abnormal, class_name),
        ]

    def of(self, class_name: str) -> Tensor:
        """[2, D] L2-normalised text features of one class name."""
        if class_name not in self._kept:
            self._kept[class_name] = encode_states(
                self.backbone,
                fill(self.templates, self.normal, class_name),
                fill(self.templates, self.abnormal, class_name),
                self.normalise_each,
            )
        return self._kept[class_name]
