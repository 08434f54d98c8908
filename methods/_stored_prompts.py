"""Whether a released checkpoint was learned with other prompts than a method has.

Released codes store, beside the learned tokens, frozen tensors of the fixed words. Axes: T prompt
positions, n learned tokens, W text width.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..bench.backbone import Backbone
from ..bench.prompt_learner import placeholder_ids

# AnomalyCLIP's library stores layers that it never calls, and frozen words.
DEAD_TENSORS = ("compound_prompt_projections", "token_prefix", "token_suffix", "tokenized_prompts")
RTOL, ATOL = 1e-2, 1e-4  # of stored embeddings, which may be in half precision


def other_stored_prompts(
    backbone: Backbone, state: Mapping[str, Any], fixed: Iterable[tuple[str, int, str]]
) -> str:
    """Which frozen tensor of a released state dict belongs to other prompts, as a clause, or "".

    AnomalyCLIP's library stores, beside the learned tokens, "tokenized_prompts_<kind>" [..., 77],
    "token_prefix_<kind>" [..., 1, W] and "token_suffix_<kind>" [..., 76 - n, W]. What it has in
    place of learned tokens ("X", "N", "A") is left out of account.

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
    return bool(torch.isclose(theirs, mine, rtol=RTOL, atol=ATOL).all())


def other_class_prompts(backbone: Backbone, suffix: Any, endings: Sequence[str]) -> str:
    """How stored prompts with a class name differ from these endings, as a clause, or "".

    The class names are those that were learned from, so only the words around them count.

    Args:
        backbone: its token embeddings are compared.
        suffix: CoOp's "token_suffix" [..., T, W] of a state dict; anything else says nothing.
        endings: the fixed words of both states, {} for the class name.
    """
    if not isinstance(suffix, Tensor):
        return ""
    ids = [read_tokens(backbone, row) for row in suffix.reshape(-1, *suffix.shape[-2:])]
    if not all(ids):
        return "its 'token_suffix' are not token embeddings of this backbone"
    fits = [[_frames(backbone, ending, row) for row in ids] for ending in endings]
    if all(map(any, fits)) and all(map(any, zip(*fits, strict=True))):
        return ""
    words = " and ".join(f"'{ending}'" for ending in endings)
    return f"its 'token_suffix' are not prompts that end in {words}"


def read_tokens(backbone: Backbone, embeddings: Tensor) -> list[int]:
    """The tokens of embeddings [T, W], end-of-text included; empty where one is none of them."""
    table = backbone.text.token_embedding.weight.detach().float()
    end = int(backbone.tokenize([""]).max())
    tokens: list[int] = []
    for embedding in embeddings.to(table):
        distance = (table - embedding).square().sum(dim=-1)
        nearest = int(distance.argmin())
        if float(distance[nearest]) > RTOL * float(table[nearest].square().sum()):
            return []
        tokens.append(nearest)
        if nearest == end:
            return tokens
    return []


def _frames(backbone: Backbone, ending: str, tokens: list[int]) -> bool:
    """Whether tokens read as an ending, with some class name instead of {}."""
    before, after = (_words(backbone, part) for part in ending.split("{}"))
    words = tokens[:-1]
    inner = words[len(before) : len(words) - len(after)]
    return words == [*before, *inner, *after] and bool(inner)


def _words(backbone: Backbone, text: str) -> list[int]:
    """The tokens of a text without start and end."""
    ids = backbone.tokenize([text])[0].tolist()
    end = max(ids)
    return ids[1 : ids.index(end)]
