"""Weights that anybody can make again: each tensor is drawn from a generator seeded by its name.

The released implementations were run with such weights, so their recorded answers can be compared
without shipping any weights. A tensor of CLIP is rounded to half precision, because several
released loaders pass checkpoints through it.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

KEPT = re.compile(r"(^|\.)(attn_mask|text_embeddings|(token_prefix|token_suffix|tokenized_)\w*)$")
CLIP = re.compile(
    r"(visual|transformer|token_embedding|ln_final)\.|(positional_embedding|text_projection|logit_scale)$"
)
# Standard deviation of a tensor by its name; the first pattern found counts. "fan" stands for
# 1 / sqrt(fan in), "rows" for 1 / sqrt(rows).
SCALES: tuple[tuple[str, float, str], ...] = (
    (r"bias$", 0.02, ""),
    (r"^token_embedding\.weight$|(^|\.)(class|positional)_embedding$", 0.5, ""),
    (r"^(visual\.proj|text_projection)$", 1.0, "rows"),
    (r"^ctx(_pos|_neg)?$|^compound_prompts_text\.", 0.5, ""),
    (r"meta_net\.linear1\.weight$", 8.0, "fan"),
    (r"meta_net\.linear2\.weight$", 2.0, "fan"),
    (r"", 1.0, "fan"),
)


def draw(name: str, shape: tuple[int, ...]) -> Tensor:
    """The float32 tensor of this name and shape."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    noise = np.random.Generator(np.random.PCG64(seed)).standard_normal(shape)
    value = np.asarray(_shaped(name, shape, noise))
    if CLIP.match(name):
        value = value.astype(np.float16)
    return torch.from_numpy(value.astype(np.float32))


def _shaped(name: str, shape: tuple[int, ...], noise: np.ndarray) -> np.ndarray:
    if name == "logit_scale":
        return np.full(shape, math.log(100))
    if re.search(r"(^|\.)ln_\w+\.weight$", name):
        return 1 + 0.1 * noise
    factor, by = next((f, by) for pattern, f, by in SCALES if re.search(pattern, name))
    if by:
        inputs = shape[0] if by == "rows" else math.prod(shape[1:])
        return noise * factor / math.sqrt(inputs)
    return factor * noise


@torch.no_grad()
def fill(target: nn.Module | Mapping[str, Tensor]) -> None:
    """Give every floating tensor of a state its value; embedded words and masks stay."""
    state = target.state_dict() if isinstance(target, nn.Module) else target
    for name, tensor in state.items():
        if tensor.is_floating_point() and not KEPT.search(name):
            tensor.copy_(draw(name, tuple(tensor.shape)))


def digest(module: nn.Module) -> str:
    """Sha256 over names and float32 bytes, sorted by name."""
    result = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        if tensor.is_floating_point() and not KEPT.search(name):
            result.update(name.encode())
            result.update(tensor.detach().cpu().float().contiguous().numpy().data)
    return result.hexdigest()
