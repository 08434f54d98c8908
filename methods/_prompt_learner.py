"""Learned prompts: frozen word embeddings with places for learned tokens, and deep text tokens.

Shared by CoOp, CoCoOp, AnomalyCLIP, FAPrompt and TCP. Axes: N prompts, T positions, n learned
tokens, W width of the text tower, D joint embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..bench.backbone import Backbone
from ..bench.errors import UsageError

INIT_STD = 0.02  # of learned tokens, in all released prompt learners
META_REDUCTION = 16  # of the hidden layer of a meta-net (CoCoOp, FAPrompt)
LEAST_HIDDEN = 8
STORED_RTOL, STORED_ATOL = 1e-2, 1e-4  # of stored embeddings, which may be in half precision
PLACEHOLDER = "X"  # one token; its embedding is replaced, it only fixes where the prompt ends


class Prompts(NamedTuple):
    """Prompts for the text tower.

    Attributes:
        embeddings: [N, T, W] without positions.
        ends: [N] position of the end-of-text token.
    """

    embeddings: Tensor
    ends: Tensor


@dataclass(frozen=True)
class Frame:
    """Prompts whose positions 1..n wait for learned tokens.

    Attributes:
        prefix: [N, 1, W] embedding of the start-of-text token.
        suffix: [N, T - 1 - n, W] embeddings of the fixed words, end-of-text and padding.
        ends: [N] position of the end-of-text token.
    """

    prefix: Tensor
    suffix: Tensor
    ends: Tensor

    def fill(self, context: Tensor) -> Prompts:
        """Learned tokens in their places.

        Args:
            context: [n, W] or [..., N, n, W]; leading axes broadcast against the frame's N, so that
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
    """The frame of tokenised prompts [N, 77] from `placeholder_ids`."""
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
    """Token ids [N, 77] of prompts with placeholders where learned tokens will stand.

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


def other_stored_prompts(
    backbone: Backbone, state: Mapping[str, Any], fixed: Iterable[tuple[str, int, str]]
) -> str:
    """Which frozen tensor of a released state dict belongs to other prompts, as a clause, or "".

    AnomalyCLIP's library stores, beside the learned tokens, "tokenized_prompts_<kind>" [..., 77],
    "token_prefix_<kind>" [..., 1, W] and "token_suffix_<kind>" [..., 76 - n, W]. What it has in the
    places of learned tokens ("X", "N", "A") is left out of account.

    Args:
        backbone: its token embeddings are compared.
        state: what was released; what it does not hold is not compared.
        fixed: kind ("pos", "neg"), learned tokens n and ending of the prompts here.
    """
    for kind, count, ending in fixed:
        (ids,) = placeholder_ids(backbone, count, [ending])
        embedded = backbone.embed_tokens(ids[None])[0].detach()
        own = {
            f"tokenized_prompts_{kind}": torch.cat([ids[:1], ids[1 + count :]]),
            f"token_prefix_{kind}": embedded[:1],
            f"token_suffix_{kind}": embedded[1 + count :],
        }
        for name, mine in own.items():
            theirs = state.get(name)
            if not isinstance(theirs, Tensor):
                continue
            if not mine.is_floating_point():
                theirs = torch.cat([theirs[..., :1], theirs[..., 1 + count :]], dim=-1)
            if not _same_prompts(theirs, mine):
                return f"its '{name}' is not of prompts that end in '{ending}'"
    return ""


def _same_prompts(theirs: Tensor, mine: Tensor) -> bool:
    """Whether [..., *shape of mine] holds `mine` alone; embeddings up to half precision."""
    if theirs.shape[-mine.dim() :] != mine.shape:
        return False
    theirs = theirs.to(mine.device, mine.dtype)
    if not mine.is_floating_point():
        return bool((theirs == mine).all())
    return bool(torch.isclose(theirs, mine, rtol=STORED_RTOL, atol=STORED_ATOL).all())


def encode_prompts(
    backbone: Backbone,
    sets: Sequence[Prompts],
    deep: DeepTokens | None = None,
    shared: int = 0,
) -> Tensor:
    """Encode sets of prompts in one forward of the text tower.

    Args:
        backbone: its text tower is used.
        sets: of N_1, N_2, ... prompts.
        deep: overwrites tokens in deeper blocks.
        shared: positions that all prompts begin with alike, computed once.

    Returns:
        [N_1 + N_2 + ..., D] text features, not normalised.
    """
    length = max(prompts.embeddings.shape[1] for prompts in sets)
    padded = [F.pad(p.embeddings, (0, 0, 0, length - p.embeddings.shape[1])) for p in sets]
    embeddings, ends = torch.cat(padded), torch.cat([p.ends for p in sets])
    tokens = [] if deep is None else deep.for_prompts(1 if shared else len(embeddings))
    if not shared:
        return backbone.encode_embeddings(embeddings, ends, tokens)
    return backbone.encode_embeddings(embeddings, ends, tokens, shared=shared)


def learned_tokens(*shape: int) -> nn.Parameter:
    """Tokens drawn from N(0, 0.02^2), as `linear` draws."""
    return nn.Parameter(torch.empty(*shape, dtype=torch.float64).normal_(std=INIT_STD))


def linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer with torch's initial values, drawn in double precision.

    In single precision torch draws a last bit that depends on the processor. The method is brought
    to its backbone's precision when it is built.
    """
    return nn.Linear(inputs, outputs, dtype=torch.float64)


class DeepTokens(nn.ParameterList):
    """Learned sets of tokens that overwrite positions 1..K before the deeper text blocks.

    AnomalyCLIP's "compound prompts". Its depth 9 of 12 blocks gives 8 sets: the first block sees
    the prompt itself.

    Args of `make`:
        backbone: a shallower text tower gets fewer sets, in proportion.
        length: K.
        depth: counted in a tower of 12 blocks; 1 means no sets.
        half: round the tokens to half precision on their way in, and their gradient on its way
            back, as the released codes do. A gradient below 6e-8 is then lost.
    """

    half_precision: bool = False

    @classmethod
    def make(cls, backbone: Backbone, length: int, depth: int, half: bool) -> DeepTokens:
        """Newly drawn tokens; see the class."""
        count = deep_sets(backbone, depth) if length else 0
        tokens = cls([learned_tokens(length, backbone.text_width) for _ in range(count)])
        tokens.half_precision = half
        return tokens

    def for_prompts(self, count: int) -> list[Tensor]:
        """The sets [count, K, W], one copy a prompt.

        Copied before they are rounded, so that the gradient of each prompt passes half precision
        alone and the sum over prompts is made in single precision, as released.
        """
        copies = [tokens.expand(count, -1, -1) for tokens in self]
        return [c.half() for c in copies] if self.half_precision else copies


def deep_sets(backbone: Backbone, depth: int) -> int:
    """Sets of deep tokens for a depth that is meant for 12 text blocks."""
    if depth <= 1 or backbone.text_depth < 2:
        return 0
    return min(max(1, backbone.text_layer(depth) - 1), backbone.text_depth - 1)


class MetaNet(nn.Module):
    """Linear, ReLU, Linear with a hidden layer of 1/16 of the input (CoCoOp, FAPrompt).

    Never fewer than `LEAST_HIDDEN` units: the four that a narrow backbone would get can all be
    dead for all its images, and nothing would be learned.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        hidden = max(LEAST_HIDDEN, inputs // META_REDUCTION)
        self.linear1 = linear(inputs, hidden)
        self.linear2 = linear(hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[..., inputs] -> [..., outputs]."""
        result: Tensor = self.linear2(F.relu(self.linear1(x)))
        return result


@dataclass
class FrozenText:
    """Text features of learned prompts, kept for as long as the parameters stand still.

    Nothing is kept while gradients are recorded.
    """

    module: nn.Module
    _stamp: Hashable = None
    _kept: dict[Hashable, Tensor] = field(default_factory=dict)

    def get(self, key: Hashable, compute: Callable[[], Tensor]) -> Tensor:
        """The features of `key`, computed if the parameters have changed since."""
        if torch.is_grad_enabled():
            return compute()
        # A parameter's version counts its changes in place: optimiser steps and loading.
        stamp = tuple((p.data_ptr(), p._version) for p in self.module.parameters())
        if stamp != self._stamp:
            self._kept, self._stamp = {}, stamp
        if key not in self._kept:
            self._kept[key] = compute()
        return self._kept[key]
