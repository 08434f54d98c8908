"""What a method is asked and what it answers: a batch without its truth, and scores and maps."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .backbone import VisualFeatures
from .dataset import Domain
from .errors import ContractError
from .names import display_name
from .randomness import image_keys

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
        domains: B domains of the datasets that the images are from; "custom" where nobody says.
        descriptions: B descriptions of what the class looks like, or None where there is none.
        keys: B integers that tell the images apart by their pixels, to draw from (`randomness`) or
            to order them by; where the method declares `needs_keys`.
        places: the images' places in the observed category; None where it was not observed.
        batch_size: images of the batch that these are part of, itself unless told, for losses that
            are sums over it: a training batch that memory does not hold comes in parts.
    """

    features: VisualFeatures
    class_names: Sequence[str]
    images: Tensor | None = None
    domains: Sequence[Domain] = ()
    descriptions: Sequence[str | None] = ()
    keys: Sequence[int] | None = None
    places: Sequence[int] | None = None
    batch_size: int = 0

    def __post_init__(self) -> None:
        """Fill in what is not known of the images; words are in tuples, which are not changed."""
        count = len(self.class_names)
        object.__setattr__(self, "class_names", tuple(self.class_names))
        object.__setattr__(self, "domains", tuple(self.domains) or ("custom",) * count)
        object.__setattr__(self, "descriptions", tuple(self.descriptions) or (None,) * count)
        object.__setattr__(self, "batch_size", self.batch_size or count)

    @classmethod
    def of(
        cls,
        method: Method,
        features: VisualFeatures,
        class_names: Sequence[str],
        images: Tensor | None = None,
        domains: Sequence[Domain] = (),
        descriptions: Sequence[str | None] = (),
    ) -> Query:
        """A batch as a method sees it: the tokens that it declares, and images if it needs them.

        Args:
            method: by whose declarations it is.
            features: of the batch, with at least those tokens.
            class_names: see `Query`; the others likewise.
            images: see `Query`; keys are made of them if the method needs keys.
            domains: B of them, or none.
            descriptions: B of them, or none.
        """
        keys = image_keys(images) if method.needs_keys and images is not None else None
        whole = cls(features, tuple(class_names), images, domains, descriptions, keys)
        return whole.seen_by(method)

    @classmethod
    def encoded(
        cls,
        method: Method,
        images: Tensor,
        class_names: Sequence[str],
        domains: Sequence[Domain] = (),
        descriptions: Sequence[str | None] = (),
    ) -> Query:
        """A batch that no other method shares: it is encoded for this one, on its device."""
        images = images.to(method.backbone.device, non_blocking=True)
        features = method.preprocess.encode(method.backbone, images, method.token_specs)
        return cls.of(method, features, class_names, images, domains, descriptions)

    def seen_by(self, method: Method) -> Query:
        """The batch as a method sees it, with nothing that it does not declare."""
        return replace(
            self,
            features=self.features.select(method.token_specs),
            images=self.images if method.needs_images else None,
            keys=self.keys if method.needs_keys else None,
        )

    def map(self, change: Callable[[Tensor], Tensor]) -> Query:
        """The same batch with `change` applied to every tensor."""
        images = None if self.images is None else change(self.images)
        return replace(self, features=self.features.map(change), images=images)

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
        return replace(
            kept,
            class_names=self.class_names[images],
            domains=self.domains[images],
            descriptions=self.descriptions[images],
            keys=None if self.keys is None else self.keys[images],
            places=None if self.places is None else self.places[images],
        )

    @classmethod
    def joined(cls, parts: Sequence[Query]) -> Query:
        """The images of several queries of one method as one batch."""
        images = [part.images for part in parts if part.images is not None]
        features = VisualFeatures.joined([part.features for part in parts])
        return cls(features, (), torch.cat(images) if images else None).labelled(parts)

    def labelled(self, batches: Sequence[Query]) -> Query:
        """The same tensors with all else that is known of the images of some batches."""
        return replace(
            self,
            class_names=tuple(name for batch in batches for name in batch.class_names),
            domains=tuple(domain for batch in batches for domain in batch.domains),
            descriptions=tuple(text for batch in batches for text in batch.descriptions),
            keys=_chained([batch.keys for batch in batches]),
            batch_size=0,
            places=_chained([batch.places for batch in batches]),
        )

    def __len__(self) -> int:
        return len(self.class_names)


@dataclass(frozen=True)
class Prediction:
    """What a method answers; greater is more anomalous.

    Attributes:
        scores: [B] float32 anomaly scores, or None for a pixel-level method.
        maps: [B, H, W] float32 anomaly maps at the method's map size, or None.
        parts: [B, P] float32 numbers from which `Method.conclude` makes the scores once all images
            of the category have theirs, or None; instead of scores.
    """

    scores: Tensor | None
    maps: Tensor | None
    parts: Tensor | None = None

    def __repr__(self) -> str:
        """Shapes and ranges instead of all numbers."""
        named = {"scores": self.scores, "maps": self.maps, "parts": self.parts}
        there = [_in_short(name, part) for name, part in named.items() if part is not None]
        return f"<prediction: {', '.join(there) or 'nothing'}>"

    def __len__(self) -> int:
        """The number of images that it is about; 0 if it says nothing."""
        there = [part for part in (self.scores, self.maps, self.parts) if part is not None]
        return len(there[0]) if there else 0

    def map(self, change: Callable[[Tensor], Tensor]) -> Prediction:
        """The same answer with `change` applied to every tensor."""
        answers = (self.scores, self.maps, self.parts)
        return Prediction(*(None if answer is None else change(answer) for answer in answers))

    @classmethod
    def joined(cls, parts: Sequence[Prediction]) -> Prediction:
        """The answers to several batches as one; scores or maps that one of them lacks are None."""

        def join(tensors: Sequence[Tensor | None]) -> Tensor | None:
            there = [tensor for tensor in tensors if tensor is not None]
            return torch.cat(there) if len(there) == len(tensors) else None

        answers = ((part.scores, part.maps, part.parts) for part in parts)
        return cls(*map(join, zip(*answers, strict=True)))

    def checked(self, batch: int, method: str) -> Prediction:
        """A copy of the prediction as float32, after checking shapes and finiteness.

        Raises:
            ContractError: no answer, a wrong kind or shape, a NaN, a value that is infinite in
                float32, or scores beside the parts that scores are to be made of; names the method.
        """
        copy, check = self.copied(batch, method)
        check()
        return copy

    def copied(self, batch: int, method: str) -> tuple[Prediction, Callable[[], None]]:
        """What `checked` gives, and its check for finite values, to be called when one can wait.

        On a GPU that check waits until the answer is there.

        Raises:
            ContractError: as `checked`; for NaN and infinite values the returned check raises it.
        """
        if self.scores is None and self.maps is None and self.parts is None:
            raise ContractError(f"method '{display_name(method)}' returned neither scores nor maps")
        if self.scores is not None and self.parts is not None:
            raise ContractError(
                f"method '{display_name(method)}' returned scores and parts: give scores, or the "
                "parts of which conclude makes them"
            )
        copies: dict[str, Tensor] = {}
        checks: list[Callable[[], None]] = []
        for part in _AXES:
            tensor = getattr(self, part)
            if tensor is not None:
                copies[part], check = _copied(tensor, part, batch, method)
                checks.append(check)

        def check_all() -> None:
            for check in checks:
                check()

        answers = (copies.get("scores"), copies.get("maps"), copies.get("parts"))
        return Prediction(*answers), check_all


def _in_short(name: str, tensor: Tensor) -> str:
    shape = ", ".join(map(str, tensor.shape))
    if not tensor.numel():
        return f"{name} [{shape}]"
    return f"{name} [{shape}] from {float(tensor.min()):.4g} to {float(tensor.max()):.4g}"


_AXES = {"scores": "[B]", "maps": "[B, H, W]", "parts": "[B, P]"}


def _chained(parts: Sequence[Sequence[int] | None]) -> tuple[int, ...] | None:
    """The numbers of all images, or None where those of some are missing."""
    there = [part for part in parts if part is not None]
    return tuple(itertools.chain(*there)) if len(there) == len(parts) else None


def _copied(
    tensor: Tensor, part: str, batch: int, method: str
) -> tuple[Tensor, Callable[[], None]]:
    """A float32 copy of an answer's part, and its check; see `Prediction.copied`."""
    if not isinstance(tensor, Tensor) or tensor.is_complex():
        kind = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
        raise ContractError(
            f"method '{display_name(method)}' returned {part} as {kind}: expected a tensor of "
            "floats"
        )
    if tensor.dim() != _AXES[part].count(",") + 1 or len(tensor) != batch:
        raise ContractError(
            f"method '{display_name(method)}' returned {part} of shape {tuple(tensor.shape)} for "
            f"a batch of {batch}: expected {_AXES[part]}"
        )
    single = tensor.detach().to(torch.float32, copy=True)
    fits = torch.isfinite(single).all()
    finite = fits if tensor.dtype == torch.float32 else torch.isfinite(tensor).all()

    def check() -> None:
        if not bool(fits):
            large = f"{part} too large for float32"
            what = large if bool(finite) else f"NaN or infinite {part}"
            raise ContractError(f"method '{display_name(method)}' returned {what}")

    return single, check
