"""What a method is asked and what it answers: a batch without its truth, and scores and maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .backbone import VisualFeatures
from .errors import ContractError
from .names import display_name

if TYPE_CHECKING:
    from .method import Method


@dataclass(frozen=True)
class Query:
    """What `predict` sees of a batch: never a label, never a mask.

    Attributes:
        features: of the batch's B images, with the tokens that the method declared.
        class_names: B words for the prompts.
        images: [B, 3, S, S] normalised, as the method's `preprocess` made them; where the method
            declares `needs_images`.
    """

    features: VisualFeatures
    class_names: Sequence[str]
    images: Tensor | None = None

    @classmethod
    def of(
        cls,
        method: Method,
        features: VisualFeatures,
        class_names: Sequence[str],
        images: Tensor | None = None,
    ) -> Query:
        """A batch as a method sees it: the tokens that it declares, and images if it needs them.

        Args:
            method: by whose declarations it is.
            features: of the batch, with at least those tokens.
            class_names: see `Query`.
            images: see `Query`.
        """
        seen = images if method.needs_images else None
        return cls(features.select(method.token_specs), tuple(class_names), seen)

    @classmethod
    def encoded(cls, method: Method, images: Tensor, class_names: Sequence[str]) -> Query:
        """A batch that no other method shares: it is encoded for this one, on its device."""
        images = images.to(method.backbone.device, non_blocking=True)
        features = method.preprocess.encode(method.backbone, images, method.token_specs)
        return cls.of(method, features, class_names, images)

    def map(self, change: Callable[[Tensor], Tensor]) -> Query:
        """The same batch with `change` applied to every tensor."""
        images = None if self.images is None else change(self.images)
        return Query(self.features.map(change), self.class_names, images)

    def tensors(self) -> dict[str, Tensor]:
        """All tensors, by the names that they have in a query."""
        features = self.features
        named = {
            "features.class_token": features.class_token,
            "features.class_token_no_ln": features.class_token_no_ln,
            **{f"features.tokens[{spec}]": tokens for spec, tokens in features.tokens.items()},
        }
        return named if self.images is None else {**named, "images": self.images}

    def __getitem__(self, images: slice) -> Query:
        """Some images of the batch."""
        kept = self.map(lambda tensor: tensor[images])
        return replace(kept, class_names=self.class_names[images])

    @classmethod
    def joined(cls, parts: Sequence[Query]) -> Query:
        """The images of several queries of one method as one batch."""
        images = [part.images for part in parts if part.images is not None]
        return cls(
            VisualFeatures.joined([part.features for part in parts]),
            tuple(name for part in parts for name in part.class_names),
            torch.cat(images) if images else None,
        )

    def __len__(self) -> int:
        return len(self.class_names)


@dataclass(frozen=True)
class Prediction:
    """What a method answers; greater is more anomalous.

    Attributes:
        scores: [B] float32 anomaly scores, or None for a pixel-level method.
        maps: [B, H, W] float32 anomaly maps at the method's map size, or None.
    """

    scores: Tensor | None
    maps: Tensor | None

    def map(self, change: Callable[[Tensor], Tensor]) -> Prediction:
        """The same answer with `change` applied to every tensor."""
        parts = (self.scores, self.maps)
        return Prediction(*(None if part is None else change(part) for part in parts))

    @classmethod
    def joined(cls, parts: Sequence[Prediction]) -> Prediction:
        """The answers to several batches as one; scores or maps that one of them lacks are None."""

        def join(tensors: Sequence[Tensor | None]) -> Tensor | None:
            there = [tensor for tensor in tensors if tensor is not None]
            return torch.cat(there) if len(there) == len(tensors) else None

        return cls(join([part.scores for part in parts]), join([part.maps for part in parts]))

    def checked(self, batch: int, method: str) -> Prediction:
        """A copy of the prediction as float32, after checking shapes and finiteness.

        Raises:
            ContractError: no answer, a wrong kind or shape, a NaN, or a value that is infinite in
                float32; names the method.
        """
        if self.scores is None and self.maps is None:
            raise ContractError(f"method '{display_name(method)}' returned neither scores nor maps")
        return Prediction(
            _checked(self.scores, "scores", 1, batch, method),
            _checked(self.maps, "maps", 3, batch, method),
        )


def _checked(tensor: Tensor | None, part: str, dims: int, batch: int, method: str) -> Tensor | None:
    """A float32 copy of an answer's part; see `Prediction.checked`."""
    if tensor is None:
        return None
    if not isinstance(tensor, Tensor) or tensor.is_complex():
        kind = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
        raise ContractError(
            f"method '{display_name(method)}' returned {part} as {kind}: expected a tensor of "
            "floats"
        )
    if tensor.dim() != dims or len(tensor) != batch:
        raise ContractError(
            f"method '{display_name(method)}' returned {part} of shape {tuple(tensor.shape)} for "
            f"a batch of {batch}: expected {'[B]' if dims == 1 else '[B, H, W]'}"
        )
    single = tensor.detach().to(torch.float32, copy=True)
    if not bool(torch.isfinite(single).all()):
        finite = bool(torch.isfinite(tensor).all())
        what = f"{part} too large for float32" if finite else f"NaN or infinite {part}"
        raise ContractError(f"method '{display_name(method)}' returned {what}")
    return single
