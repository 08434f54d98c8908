"""CLIP-AC: CLIP with an ensemble of ImageNet prompt templates for either state.

The FAPrompt paper (section 2.2) says "text prompts designed for the ImageNet dataset as in Radford
et al."; the words for the two states are not printed. Features are normalised, averaged over the
templates, and normalised again, as in CLIP's own notebook.

Differences from the released code: docs/fidelity.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from ..bench.method import Options
from ..bench.prompts import PromptEnsemble
from ._prompts import (
    APRIL_35,
    APRIL_ABNORMAL,
    APRIL_NORMAL,
    CLIP_AC_ABNORMAL,
    CLIP_AC_NORMAL,
    COOP_7,
    IMAGENET_80,
)
from .clip import Clip, ClipOptions

PROMPTS = {
    "imagenet80": (IMAGENET_80, CLIP_AC_NORMAL, CLIP_AC_ABNORMAL),
    "coop7": (COOP_7, CLIP_AC_NORMAL, CLIP_AC_ABNORMAL),
    "april": (APRIL_35, APRIL_NORMAL, APRIL_ABNORMAL),
}


@dataclass(frozen=True)
class ClipAcOptions(ClipOptions):
    """Options of CLIP-AC.

    Attributes:
        prompts: all 80 templates, CoOp's choice of 7, or the ensemble of APRIL-GAN, which lies
            unused in AnomalyCLIP's released code.
    """

    prompts: Literal["imagenet80", "coop7", "april"] = "imagenet80"


class ClipAc(Clip):
    """CLIP with a prompt ensemble."""

    title = "CLIP-AC"
    variants: ClassVar[Mapping[str, Options]] = {
        "official": ClipAcOptions(),
        "paper": ClipAcOptions(),
    }
    options: ClipAcOptions

    def ensemble(self) -> PromptEnsemble:
        """Every template with either state, normalised before they are averaged."""
        return PromptEnsemble(self.backbone, *PROMPTS[self.options.prompts], normalise_each=True)
