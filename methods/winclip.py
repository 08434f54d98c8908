"""WinCLIP, zero-shot: every window of the image is sent through CLIP as an image of its own.

Jeong et al., "WinCLIP: Zero-/Few-Shot Anomaly Classification and Segmentation", CVPR 2023. No code
was released; "official" follows zqhang/Accurate-WinCLIP-pytorch, whose author made the comparison
tables, "paper" differs from it in the 22nd template.

Differences from the released code: docs/fidelity.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ..bench.anomaly_maps import state_probabilities, upsample_smoothed
from ..bench.backbone import Backbone, BackboneSpec, TokenSpec
from ..bench.errors import UsageError
from ..bench.method import Method, Options, Prediction, Query
from ..bench.prompts import PromptEnsemble
from ._prompts import WINCLIP_21, WINCLIP_22, WINCLIP_ABNORMAL, WINCLIP_NORMAL

WINDOW_SIDES = (2, 3)  # patches; 32 and 48 px of 240
PATCH_EMBEDDINGS = TokenSpec(0)
TEMPLATES = {"22": WINCLIP_22, "21": WINCLIP_21}


@dataclass(frozen=True)
class WinClipOptions(Options):
    """Options of WinCLIP.

    Attributes:
        templates: the paper's 22 or the released 21.
        temperature: divides the cosine similarity.
        normalise_each: normalise text features before they are averaged (mala-lab's code does).
    """

    templates: Literal["22", "21"] = "21"
    temperature: float = 0.07
    normalise_each: bool = False


class WinClip(Method):
    """Windows of two sizes and the whole image, joined by harmonic means."""

    title = "WinCLIP"
    backbone_spec = BackboneSpec("ViT-B-16-plus-240", "laion400m_e31", 240, pos_embed="bicubic")
    variants: ClassVar[Mapping[str, Options]] = {
        "official": WinClipOptions(),
        "paper": WinClipOptions(templates="22"),
    }
    options: WinClipOptions

    def __init__(self, backbone: Backbone, options: Options | None = None) -> None:
        super().__init__(backbone, options)
        self.text = PromptEnsemble(
            self.backbone,
            TEMPLATES[self.options.templates],
            WINCLIP_NORMAL,
            WINCLIP_ABNORMAL,
            self.options.normalise_each,
        )

    @property
    def prompts(self) -> list[str]:
        """Those of the ensemble."""
        return self.text.prompts()

    @property
    def token_specs(self) -> frozenset[TokenSpec]:
        """The patch embeddings, from which windows are cut."""
        return frozenset({PATCH_EMBEDDINGS})

    def predict(self, query: Query) -> Prediction:
        """The class token's score, and the harmonic mean of all windows over a patch."""
        scores, patches = self.guided_by_language(query, self.windows(query))
        grid, size, sigma = query.features.grid, self.map_size, self.smoothing_sigma
        return Prediction(scores, upsample_smoothed(patches.float(), grid, size, sigma))

    def windows(self, query: Query) -> list[Tensor]:
        """The windows of each size, sent through the tower: [B, windows, D]."""
        embeddings, grid = query.features.tokens[PATCH_EMBEDDINGS], query.features.grid[0]
        indices = [window_index(grid, side).to(embeddings.device) for side in WINDOW_SIDES]
        return self.backbone.encode_windows(embeddings, indices)

    def guided_by_language(self, query: Query, windows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Image scores [B] and patch scores [B, L] float64 from the prompts of both states."""
        text = self.text(query.class_names)  # [B, 2, D]
        temperature, grid = self.options.temperature, query.features.grid[0]
        scores = state_probabilities(query.features.class_token, text, temperature)[:, 1]
        scales = [
            per_patch(state_probabilities(embedded, text, temperature)[..., 1], grid, side)
            for side, embedded in zip(WINDOW_SIDES, windows, strict=True)
        ]
        whole = scores.double()[:, None].expand_as(scales[0])
        return scores, harmonic_mean(torch.stack([*scales, whole]))


def per_patch(values: Tensor, grid: int, side: int) -> Tensor:
    """Per patch the harmonic mean [B, L] float64 over windows [B, windows] that cover it."""
    windows = window_index(grid, side).to(values.device)  # [windows, side * side]
    return spread_harmonically(values.double(), windows, grid * grid)


@lru_cache(maxsize=16)
def window_index(grid: int, side: int) -> Tensor:
    """Patch indices [windows, side * side] of all windows, row by row, at a stride of one patch.

    Raises:
        UsageError: the image has fewer patches along a side than a window.
    """
    if grid < side:
        raise UsageError(
            f"WinCLIP's windows are {side} x {side} patches but the image has {grid} x {grid}: "
            "choose a larger image_size"
        )
    patches = torch.arange(grid * grid).reshape(1, 1, grid, grid).float()
    return F.unfold(patches, side)[0].T.long()


def spread_harmonically(values: Tensor, windows: Tensor, patches: int) -> Tensor:
    """Per patch the harmonic mean [B, L] of the values [B, windows] of windows that cover it."""
    cover = torch.zeros(len(windows), patches, dtype=values.dtype, device=values.device)
    cover.scatter_(1, windows, 1.0)
    return cover.sum(dim=0) / ((1 / values) @ cover)


def harmonic_mean(values: Tensor) -> Tensor:
    """Harmonic mean over the first axis; NaN and infinity become 0, as in the released code."""
    mean = len(values) / (1 / values).sum(dim=0)
    return torch.nan_to_num(mean, nan=0.0, posinf=0.0, neginf=0.0)
