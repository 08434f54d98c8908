"""What can be asked of FAPrompt: the paper's setting, its ablations, what the released code does.

The paper's tables 2, 3 and 10 switch off CAP, DAP and their losses; its appendix takes another
prototype of the abnormal prompts (FAPrompt_0.1, FAPrompt_0.2). The released code differs from the
text in a dozen places: `official`; `fixed` corrects its choice of patches.

Axes: B images, L patch tokens, D embedding, K abnormal prompts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ..bench.errors import UsageError
from ..bench.method import AuxiliarySplit, Options

NORMAL_ENDING = "object."
DAMAGED_ENDING = "damaged object."  # the released code has the word, the paper has not
ANOMALYCLIP_TOKENS = 12  # of each prompt where CAP is off (tables 3 and 10)

Selection = Literal["top", "first"]
Prototype = Literal["mean", "best", "weighted"]
Reduction = Literal["sum", "mean"]


@dataclass(frozen=True)
class FaPromptOptions(Options):
    """What can be asked of FAPrompt; the defaults are the paper's.

    Attributes:
        cap: abnormal prompts continue the normal prompt's tokens; without, AnomalyCLIP's pair of
            prompts takes their place (K = 1, 12 tokens each, "damaged").
        dap: each image refines the abnormal prompts; without, there is no second pass.
        n_prompts: K.
        n_selected: patches that inform the prior; the paper's M.
        n_normal, n_abnormal: learned tokens E of the normal prompt, and E' that each abnormal
            prompt has of its own.
        deep_length, deep_depth, half_deep_tokens: as in AnomalyCLIP.
        damaged: "damaged" stands before "object." in abnormal prompts.
        selection: the patches most abnormal by the first pass, or the image's first ones, which is
            what the released code does.
        prototype: of the abnormal prompts: their mean; the best match of each patch or image
            (FAPrompt_0.1, at inference only); or a mean weighted by a network (FAPrompt_0.2).
        max_weights: of the first and the second pass in the mean of their map maxima.
        temperature: of the softmax over the two states.
        local_weight, refined_local_weight: of the pixel-level losses of first and second pass.
        entropy_weight: of the image-level cross-entropy.
        focal_weight: of the image-level focal loss on the anomaly score.
        focal_as_logits: the score is used as a logit, as released.
        overlap_weight: of the orthogonality loss, a sum over unordered pairs of abnormal prompts;
            the paper's sum over ordered pairs is twice that.
        prior_weight: of the size of the image's vector, for normal images.
        prior_reduction: that size is the sum of squares over the vector's entries, or their mean.
        split: of the auxiliary dataset; the paper (appendix A.1) trains on the train and the test
            split, the released code on the test split alone.
        epochs, batch_size, lr: of training.
    """

    cap: bool = True
    dap: bool = True
    n_prompts: int = 10
    n_selected: int = 10
    n_normal: int = 5
    n_abnormal: int = 2
    deep_length: int = 4
    deep_depth: int = 9
    half_deep_tokens: bool = False
    damaged: bool = False
    selection: Selection = "top"
    prototype: Prototype = "mean"
    max_weights: tuple[float, float] = (1.0, 1.0)
    temperature: float = 0.07
    local_weight: float = 1.0
    refined_local_weight: float = 1.0
    entropy_weight: float = 0.0
    focal_weight: float = 1.0
    focal_as_logits: bool = False
    overlap_weight: float = 2.0
    prior_weight: float = 1.0
    prior_reduction: Reduction = "sum"
    split: AuxiliarySplit = "all"
    epochs: int = 7
    batch_size: int = 8
    lr: float = 1e-3

    @property
    def count(self) -> int:
        """K, which is 1 without CAP."""
        return self.n_prompts if self.cap else 1

    @property
    def own_tokens(self) -> tuple[int, int]:
        """Learned tokens that the normal prompt, and each abnormal prompt, has of its own."""
        if self.cap:
            return self.n_normal, self.n_abnormal
        return ANOMALYCLIP_TOKENS, ANOMALYCLIP_TOKENS

    @property
    def fixed(self) -> tuple[tuple[str, int, str], tuple[str, int, str]]:
        """Kind, learned tokens and ending of the normal prompt and of the abnormal prompts."""
        normal, abnormal = self.own_tokens
        ending = DAMAGED_ENDING if self.damaged or not self.cap else NORMAL_ENDING
        return ("pos", normal, NORMAL_ENDING), ("neg", abnormal + self.cap * normal, ending)

    def check(self) -> None:
        """Refuse numbers that no model can be made with.

        Raises:
            UsageError: a count is not positive, or the weights of the maxima have no sum.
        """
        for name in ("n_prompts", "n_selected", "n_normal", "n_abnormal"):
            if getattr(self, name) < 1:
                raise UsageError(f"option {name} of FAPrompt must be at least 1")
        if len(self.max_weights) != 2 or sum(self.max_weights) <= 0:
            raise UsageError("option max_weights of FAPrompt takes two weights with a positive sum")


PAPER = FaPromptOptions()
OFFICIAL = FaPromptOptions(
    half_deep_tokens=True,
    damaged=True,
    selection="first",
    max_weights=(2.0, 1.0),
    refined_local_weight=0.5,
    entropy_weight=1.0,
    focal_as_logits=True,
    overlap_weight=0.1,
    prior_reduction="mean",
    split="test",
)
VARIANTS: Mapping[str, FaPromptOptions] = {
    "paper": PAPER,
    "official": OFFICIAL,
    "fixed": replace(OFFICIAL, selection="top"),
    "best_prompt": replace(PAPER, prototype="best"),
    "weighted_prompts": replace(PAPER, prototype="weighted"),
    "cap": replace(PAPER, dap=False),
    "cap_no_overlap": replace(PAPER, dap=False, overlap_weight=0.0),
    "cap_single": replace(PAPER, dap=False, n_prompts=1),
    "cap_single_dap": replace(PAPER, n_prompts=1),
    "dap": replace(PAPER, cap=False),
    "dap_no_prior": replace(PAPER, cap=False, prior_weight=0.0),
}


def best_probabilities(visual: Tensor, text: Tensor, temperature: float) -> Tensor:
    """Softmax over the normal prompt and the best of the abnormal ones (FAPrompt_0.1).

    Args:
        visual: [B, D] or [B, L, D]; normalised here.
        text: [1 + K, D] or [B, 1 + K, D], the normal prompt first; normalised here.
        temperature: the similarity is divided by it.

    Returns:
        [B, 2] or [B, L, 2].
    """
    prompts = F.normalize(text, dim=-1)
    patches = F.normalize(visual if visual.dim() == 3 else visual[:, None], dim=-1)
    similarity = patches @ prompts.transpose(-1, -2) / temperature
    best = similarity[..., 1:].amax(dim=-1)
    probabilities = torch.stack([similarity[..., 0], best], dim=-1).softmax(dim=-1)
    return probabilities if visual.dim() == 3 else probabilities[:, 0]
