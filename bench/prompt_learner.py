"""Learned tokens: in prompts among frozen words, in deeper text blocks, and in the visual tower.

Axes: B images, K prompts, T prompt positions, n learned tokens, W a tower's width, D embedding.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, Self, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .backbone import Backbone
from .errors import UsageError

INIT_STD = 0.02  # of learned tokens, in all released prompt learners
META_REDUCTION = 16  # of the hidden layer of a meta-net (CoCoOp, FAPrompt)
LEAST_HIDDEN = 8
Kept = TypeVar("Kept")
PLACEHOLDER = "X"  # one token; its embedding is replaced, it only fixes where the prompt ends


class Prompts(NamedTuple):
    """Prompts for the text tower.

    Attributes:
        embeddings: [K, T, W] without positions.
        ends: [K] position of the end-of-text token.
    """

    embeddings: Tensor
    ends: Tensor


@dataclass(frozen=True)
class Frame:
    """Prompts whose positions 1..n wait for learned tokens.

    Attributes:
        prefix: [K, 1, W] embedding of the start-of-text token.
        suffix: [K, T - 1 - n, W] embeddings of the fixed words, end-of-text and padding.
        ends: [K] position of the end-of-text token.
    """

    prefix: Tensor
    suffix: Tensor
    ends: Tensor

    def fill(self, context: Tensor) -> Prompts:
        """Learned tokens in their places.

        Args:
            context: [n, W] or [..., K, n, W]; leading axes broadcast against the frame's K, so that
                one frame serves many prompts and one context many frames.

        Returns:
            The prompts in the order of the leading axes.
        """
        lead = torch.broadcast_shapes(context.shape[:-2], self.ends.shape)  # type: ignore[no-untyped-call]
        parts = (self.prefix, context, self.suffix)
        spread = [part.expand(*lead, *part.shape[-2:]) for part in parts]
        embeddings = torch.cat(spread, dim=-2).flatten(0, -3)
        return Prompts(embeddings, self.ends.expand(lead).flatten())


def make_frame(backbone: Backbone, n_context: int, endings: Sequence[str]) -> Frame:
    """The frame of one prompt an ending: `n_context` learned tokens, then the ending's words.

    Raises:
        UsageError: a prompt does not fit the context length of the text tower.
    """
    return frame_of(backbone, n_context, placeholder_ids(backbone, n_context, endings))


def frame_of(backbone: Backbone, n_context: int, ids: Tensor) -> Frame:
    """The frame of tokenised prompts [K, 77] from `placeholder_ids`."""
    ends = ids.argmax(dim=-1)
    embeddings = backbone.embed_tokens(ids[:, : int(ends.max()) + 1]).detach()
    return Frame(embeddings[:, :1], embeddings[:, 1 + n_context :], ends)


def learned_prompt(n_context: int, ending: str) -> str:
    """A prompt's text with placeholders where learned tokens will stand.

    >>> learned_prompt(2, "damaged object.")
    'X X damaged object.'
    """
    return " ".join([*[PLACEHOLDER] * n_context, ending])


def placeholder_ids(backbone: Backbone, n_context: int, endings: Sequence[str]) -> Tensor:
    """Token ids [K, 77] of prompts with placeholders where learned tokens will stand.

    Raises:
        UsageError: as `make_frame`.
    """
    ids = backbone.tokenize([learned_prompt(n_context, ending) for ending in endings])
    full = ids[:, -1] != 0  # the tokeniser cuts what is too long, and ends at the last position
    if bool(full.any()):
        raise UsageError(
            f"a prompt of {n_context} learned tokens and '{endings[int(full.int().argmax())]}' "
            f"exceeds the text tower's {ids.shape[1]} positions: use fewer learned tokens"
        )
    return ids


def encode_prompts(
    backbone: Backbone,
    sets: Sequence[Prompts],
    deep: DeepTokens | None = None,
    shared: int = 0,
    groups: int = 1,
    begun: list[Tensor] | None = None,
) -> Tensor:
    """Encode sets of prompts in one forward of the text tower.

    Args:
        backbone: its text tower is used.
        sets: of K_1, K_2, ... prompts.
        deep: overwrites tokens in deeper blocks.
        shared: positions that all prompts of a group have in common, computed once where `deep`
            lets them.
        groups: how many groups of equal size the prompts come in.
        begun: see `Backbone.encode_embeddings`.

    Returns:
        [K_1 + K_2 + ..., D] text features, not normalised.
    """
    length = max(prompts.embeddings.shape[1] for prompts in sets)
    padded = [F.pad(p.embeddings, (0, 0, 0, length - p.embeddings.shape[1])) for p in sets]
    embeddings, ends = torch.cat(padded), torch.cat([p.ends for p in sets])
    tokens: Sequence[Tensor] = ()
    if deep is not None:
        shared = 0 if deep.prompts_apart else shared
        tokens = deep.for_prompts(groups if shared else len(embeddings))
    return backbone.encode_embeddings(
        embeddings, ends, tokens, shared=shared, groups=groups, begun=begun
    )


def learned_tokens(*shape: int) -> nn.Parameter:
    """Tokens drawn from N(0, 0.02^2), as `linear` draws."""
    return nn.Parameter(torch.empty(*shape, dtype=torch.float64).normal_(std=INIT_STD))


def log_temperature(temperature: float = 0.07) -> nn.Parameter:
    """A temperature to be learned, as CLIP's is: the logarithm of its inverse."""
    return nn.Parameter(torch.tensor(math.log(1 / temperature), dtype=torch.float64))


def linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer with torch's initial values, drawn in double precision.

    In single precision torch draws a last bit that depends on the processor. The method is brought
    to its backbone's precision when it is built.
    """
    return nn.Linear(inputs, outputs, dtype=torch.float64)


class DeepTokens(nn.ParameterList):
    """Learned sets of tokens that overwrite positions 1..n before the deeper text blocks.

    AnomalyCLIP's "compound prompts". Its depth 9 of 12 blocks gives 8 sets: the first block sees
    the prompt itself.
    """

    @classmethod
    def make(cls, backbone: Backbone, length: int, depth: int) -> Self:
        """Newly drawn tokens.

        Args:
            backbone: a shallower text tower gets fewer sets, in proportion.
            length: n; 0 means no sets.
            depth: counted in a tower of 12 blocks; 1 means no sets.
        """
        count = deep_sets(backbone, depth) if length else 0
        return cls([learned_tokens(length, backbone.text_width) for _ in range(count)])

    @property
    def prompts_apart(self) -> bool:
        """Whether what prompts have in common has to be computed for each of them."""
        return False

    def for_prompts(self, count: int) -> list[Tensor]:
        """The sets [count, n, W], one copy a prompt."""
        return [tokens.expand(count, -1, -1) for tokens in self]


def deep_sets(backbone: Backbone, depth: int) -> int:
    """Sets of deep tokens for a depth that is meant for 12 text blocks."""
    if depth <= 1 or backbone.text_depth < 2:
        return 0
    return min(max(1, backbone.text_layer(depth) - 1), backbone.text_depth - 1)


@dataclass(frozen=True)
class InsertedTokens:
    """Tokens after the patches in the first visual blocks: a `before` of `forward_image`.

    Attributes:
        sets: one a block, each [n, W] or for every image its own [B, n, W]. The first is put after
            the patches before block 1, set i replaces them before block i + 1 (counted from 0). The
            last one stays to the end of the tower.
    """

    sets: Sequence[Tensor]

    def __call__(self, number: int, x: Tensor) -> Tensor:
        """What block `number` sees of tokens [B, T, W]."""
        if number > len(self.sets):
            return x
        inserted = self.sets[number - 1].to(x.dtype).expand(len(x), -1, -1)
        kept = x.shape[1] if number == 1 else x.shape[1] - self.sets[number - 2].shape[-2]
        return torch.cat([x[:, :kept], inserted], dim=1)


class MetaNet(nn.Sequential):
    """Linear, ReLU, Linear with a hidden layer of 1/16 of the input (CoCoOp, FAPrompt).

    From [..., inputs] to [..., outputs]. Never fewer than `LEAST_HIDDEN` units: the four that a
    small backbone would get can all be dead for all its images, and nothing would be learned.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        hidden = max(LEAST_HIDDEN, inputs // META_REDUCTION)
        first, second = linear(inputs, hidden), linear(hidden, outputs)
        super().__init__(OrderedDict(linear1=first, relu=nn.ReLU(), linear2=second))


@dataclass
class FrozenText:
    """Text features of learned prompts, kept as long as the parameters do not change.

    Nothing is kept while gradients are recorded.
    """

    module: nn.Module
    _stamp: Hashable = None
    _kept: dict[Hashable, Any] = field(default_factory=dict)

    def get(self, key: Hashable, compute: Callable[[], Kept]) -> Kept:
        """What was computed for `key`, computed again if the parameters have changed since."""
        if torch.is_grad_enabled():
            return compute()
        # A parameter's version counts its changes in place: optimiser steps and loading.
        stamp = tuple((p.data_ptr(), p._version) for p in self.module.parameters())
        if stamp != self._stamp:
            self._kept, self._stamp = {}, stamp
        if key not in self._kept:
            self._kept[key] = compute()
        kept: Kept = self._kept[key]
        return kept

    def each(self, words: Sequence[str], compute: Callable[[Sequence[str]], Tensor]) -> Tensor:
        """The features [B, ...] of B words, of which those that are equal are computed once.

        While frozen each is computed by itself; while learning all of them in one forward.

        Args:
            words: B of them.
            compute: different words -> [words, ...].
        """
        own = list(dict.fromkeys(words))
        if torch.is_grad_enabled():
            found = compute(own)
        else:
            found = torch.cat([self.get(word, partial(compute, [word])) for word in own])
        return found[torch.tensor([own.index(word) for word in words], device=found.device)]
