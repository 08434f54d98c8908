"""Bayes-PFL's released image score: two parts, each stretched to the range over a category.

Which pixels count depends on the target's class, and the range on all its test images, so the score
is transductive. Axes: B images of a batch, N of the category, M map side.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ._largest_pixels import largest_mean

FEW_TOP_PIXELS = 20 / 518**2
# Target classes of which the released code takes fewer pixels, or leaves the map out.
FEW_PIXELS = frozenset(
    {"capsules", "macaroni1", "macaroni2", "pipe_fryum", "screw", "cashew", "chewinggum"}
)
NO_PIXELS = frozenset({"brain_ct", "head_ct", "brain", "head"})
RANGE_SMOOTH = 1e-8


def category_parts(class_names: Sequence[str], image: Tensor, maps: Tensor) -> Tensor:
    """The parts [B, 2]: image-level probability, and mean of the map's largest pixels.

    Args:
        class_names: B words.
        image: [B] probabilities; they stand for the map too where it is left out.
        maps: [B, M, M], not smoothed.
    """
    names = [name.lower().replace(" ", "_") for name in class_names]
    few = torch.tensor([name in FEW_PIXELS for name in names], device=maps.device)
    none = torch.tensor([name in NO_PIXELS for name in names], device=maps.device)
    many = largest_mean(maps)
    largest = torch.where(few, largest_mean(maps, FEW_TOP_PIXELS), many)
    return torch.stack([image, torch.where(none, image, largest)], dim=1)


def category_scores(parts: Tensor) -> Tensor:
    """[N] mean of both parts [N, 2], each stretched to 0..1 over the category."""
    least, most = parts.amin(dim=0), parts.amax(dim=0)
    return ((parts - least) / (most - least + RANGE_SMOOTH)).mean(dim=1)
