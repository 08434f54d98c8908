"""TCP: class-aware prompts, whose deep tokens a small network makes from CLIP's own text features.

Yao et al., "TCP: Textual-based Class-aware Prompt Tuning for Visual-Language Model", CVPR 2024, and
its released code (htyao89/Textual-based_Class-aware_prompt_tuning), with the two states of an
object instead of classes, as the FAPrompt paper (appendix C.2) compares it. `v1` takes the
network's input from one sentence a state, `v2` from WinCLIP's ensemble. The visual path is not
stated; the printed pixel-level numbers point to the V-V path, with AnomalyCLIP's pixel-level losses
beside TCP's own. `literal` learns from TCP's losses alone.

Differences from the released code: docs/fidelity.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..bench.backbone import Backbone
from ..bench.errors import UsageError
from ..bench.method import Options, Query, Schedule
from ..bench.prompt_learner import linear
from ..bench.prompts import PromptEnsemble
from ._class_prompts import ClassPromptLearner, ClassPromptOptions, unit_states
from ._prompts import WINCLIP_22, WINCLIP_ABNORMAL, WINCLIP_NORMAL

ENDINGS = ("{}.", "damaged {}.")
DEEP_BLOCK = 8  # of 12, counted from 0: its input is overwritten
DEEP_LENGTH = 4
HIDDEN_REDUCTION = 4  # of the network's hidden layer
Teacher = Literal["sentence", "ensemble"]
# Templates, normal states, abnormal states.
TEACHERS: Mapping[str, tuple[Sequence[str], Sequence[str], Sequence[str]]] = {
    "sentence": (("This is a photo of {}.",), ("{}",), ("damaged {}",)),
    "ensemble": (WINCLIP_22, WINCLIP_NORMAL, WINCLIP_ABNORMAL),
}


@dataclass(frozen=True)
class TcpOptions(ClassPromptOptions):
    """What can be asked of TCP; the defaults are its first version's.

    Attributes:
        teacher: where the frozen text features come from that the network reads and the prompts
            are kept close to: one sentence a state, or WinCLIP's ensemble.
        teacher_weight: of 1 - cos(learned feature, frozen feature).
    """

    n_context: int = 4
    value_path: bool = True
    local_weight: float = 4.0
    recipe: Literal["sgd", "adam"] = "adam"
    teacher: Teacher = "sentence"
    teacher_weight: float = 8.0


class TextMetaNet(nn.Module):
    """Linear, QuickGELU, Linear: a text feature to the tokens of one deep set."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        hidden = max(1, inputs // HIDDEN_REDUCTION)
        self.linear1 = linear(inputs, hidden)
        self.linear2 = linear(hidden, DEEP_LENGTH * width)

    def forward(self, text: Tensor) -> Tensor:
        """[K, D] -> [K, 4, W]."""
        hidden = self.linear1(text)
        tokens: Tensor = self.linear2(hidden * torch.sigmoid(1.702 * hidden))
        return tokens.reshape(len(text), DEEP_LENGTH, -1)


class Tcp(ClassPromptLearner):
    """Learned tokens, and deep tokens of the class, kept close to CLIP's own text features."""

    title = "TCP"
    in_benchmark = False
    sigma = 4.0
    variants: ClassVar[Mapping[str, Options]] = {
        "v1": TcpOptions(),
        "v2": TcpOptions(teacher="ensemble"),
        "literal": TcpOptions(local_weight=0.0),
    }
    default_variant = "v1"
    published_parameters = 743_616  # of its networks on ViT-L/14; no paper prints a count
    endings = ENDINGS
    options: TcpOptions

    def __init__(self, backbone: Backbone, options: TcpOptions | None = None) -> None:
        super().__init__(backbone, options)
        chosen = self.options
        self._block = min(self.backbone.text_layer(DEEP_BLOCK), self.backbone.text_depth - 1)
        if self._block < 1:
            raise UsageError(f"TCP needs two text blocks; '{self.backbone.name}' has one")
        self.meta_net = TextMetaNet(self.backbone.embed_dim, self.backbone.text_width)
        self._teacher = PromptEnsemble(self.backbone, *TEACHERS[chosen.teacher], False)

    @property
    def schedule(self) -> Schedule:
        """TCP's Adam: a cosine after a warm-up epoch, with weight decay."""
        chosen = self.options
        return Schedule(
            chosen.epochs,
            chosen.batch_size,
            chosen.lr,
            betas=(0.9, 0.999),
            weight_decay=5e-4,
            cosine=True,
            warmup_epochs=1,
        )

    @property
    def prompts(self) -> list[str]:
        """The learned ones, and those of the frozen text features."""
        return [*super().prompts, *self._teacher.prompts()]

    def prompt_facts(self) -> list[str]:
        """With the text block that the deep tokens enter."""
        return [*super().prompt_facts(), f"deep tokens enter block {self._block}"]

    def frozen_features(self, class_names: Sequence[str]) -> Tensor:
        """[names, 2, D] CLIP's own normalised text features of both states."""
        return self._teacher([name.replace("_", " ") for name in class_names])

    def text_features(self, query: Query) -> Tensor:
        """See `ClassPromptLearner`; of the class alone."""
        return self.frozen.each(query.class_names, self._encode)

    def _encode(self, class_names: Sequence[str]) -> Tensor:
        deep = self.meta_net(self.frozen_features(class_names).flatten(0, 1))  # [2 * names, 4, W]
        nothing = deep[:, :0]  # earlier blocks see what the ones before them made
        prompts = self.frame(class_names).fill(self.ctx)
        sets = [nothing] * (self._block - 1) + [deep]
        features = self.backbone.encode_embeddings(prompts.embeddings, prompts.ends, sets)
        return unit_states(features)

    def loss(self, query: Query, labels: Tensor, masks: Tensor) -> dict[str, Tensor]:
        """CoOp's and AnomalyCLIP's terms, and how far the text has moved from CLIP's own."""
        text, frozen = self.text_features(query), self.frozen_features(query.class_names)
        terms = self.terms(query, text, labels, masks)
        distance = 1 - F.cosine_similarity(text, frozen, dim=-1).mean()
        total = terms.pop("total") + self.options.teacher_weight * distance
        return {**terms, "teacher": distance, "total": total}
