"""CoOp: a dozen learned tokens, then "normal bottle." or "anomalous bottle.".

Zhou et al., "Learning to Prompt for Vision-Language Models", IJCV 2022, and its released code
(KaiyangZhou/CoOp), with two states instead of classes, as in AnomalyCLIP's comparison. Twelve
tokens and not CoOp's own sixteen: FAPrompt's parameter count says so. CLIP's own patch tokens give
a pixel-level AUROC below 0.5; FAPrompt's rows for SDD and AITEX are far above, which points to the
V-V path and pixel-level losses, the variant `vv`.

Differences from the released code: docs/fidelity.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor

from ..bench.method import Options, Query
from ..bench.prompt_learner import encode_prompts
from ._class_prompts import ON_VALUE_PATH, ClassPromptLearner, ClassPromptOptions, unit_states

ENDINGS = ("normal {}.", "anomalous {}.")


class CoOp(ClassPromptLearner):
    """One learned context for both states of all classes."""

    title = "CoOp"
    sigma = 4.0
    variants: ClassVar[Mapping[str, Options]] = {
        "official": ClassPromptOptions(),
        "vv": ON_VALUE_PATH,
    }
    default_variant = "official"
    published_parameters = 9_216
    endings = ENDINGS

    def text_features(self, query: Query) -> Tensor:
        """See `ClassPromptLearner`; of the class alone."""
        return self.frozen.each(query.class_names, self._encode)

    def _encode(self, class_names: Sequence[str]) -> Tensor:
        prompts = self.frame(class_names).fill(self.ctx)
        return unit_states(encode_prompts(self.backbone, [prompts], shared=self.alike))
