"""Prompt ensembles: templates, state words and class names become one text feature per state.

A template has one place, `{}`, for a state; a state has one for the class name. Axes: B images,
P prompts of an ensemble, D embedding; the two states are ordered (normal, abnormal).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from .backbone import Backbone


def fill(templates: Sequence[str], states: Sequence[str], class_name: str) -> list[str]:
    """Every state in every template, states outermost: P = states x templates prompts.

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
    features = backbone.encode_text([*normal_prompts, *abnormal_prompts])  # [P, D]
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
