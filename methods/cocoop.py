"""CoCoOp: CoOp's learned tokens, shifted for each image by a small network on its class token.

Zhou et al., "Conditional Prompt Learning for Vision-Language Models", CVPR 2022, and its released
code (KaiyangZhou/CoOp), with two states instead of classes. FAPrompt's CoCoOp rows have pixel
results that CLIP's own patches and image labels cannot give, so the variant `paper` learns as
AnomalyCLIP does, on the V-V path; `official` has CoCoOp's optimiser, rate, epochs, batch size and
loss, but CoOp's twelve tokens of this comparison, no augmentation and 518 pixels.

Differences from the released code: docs/fidelity.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from ..bench.backbone import Backbone
from ..bench.method import Options, Query
from ..bench.prompt_learner import MetaNet, encode_prompts
from ._class_prompts import ON_VALUE_PATH, ClassPromptLearner, ClassPromptOptions, unit_states

ENDINGS = ("normal {}.", "anomalous {}.")


class CoCoOp(ClassPromptLearner):
    """A learned context that depends on the image."""

    title = "CoCoOp"
    sigma = 4.0
    variants: ClassVar[Mapping[str, Options]] = {
        "paper": ON_VALUE_PATH,
        "official": ClassPromptOptions(epochs=10, batch_size=1),
    }
    default_variant = "paper"
    published_parameters = 83_760
    endings = ENDINGS

    def __init__(self, backbone: Backbone, options: ClassPromptOptions | None = None) -> None:
        super().__init__(backbone, options)
        self.meta_net = MetaNet(self.backbone.embed_dim, self.backbone.text_width)

    def text_features(self, query: Query) -> Tensor:
        """See `ClassPromptLearner`; both prompts of all images in one forward."""
        shift = self.meta_net(F.normalize(self.class_token(query), dim=-1))  # [B, W]
        context = self.ctx + shift[:, None]  # [B, n, W]
        prompts = self.frame(query.class_names).fill(context.repeat_interleave(2, dim=0))
        return unit_states(
            encode_prompts(self.backbone, [prompts], shared=self.alike, groups=len(query))
        )
