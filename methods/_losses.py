"""Losses of the trained methods; all work on probabilities, never on logits.

They are those of the released AnomalyCLIP code (from APRIL-GAN), the binary focal loss of the
released FAPrompt code and, at the end, those of the released Bayes-PFL code. Axes: B images, L
patch tokens, D embedding, K prompts, M map side, [H, W] a map.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from ..bench.anomaly_maps import enlarging_matrix

FOCAL_GAMMA = 2.0
FOCAL_SMOOTH = 1e-5
DICE_SMOOTH = 1.0
BALANCED_SMOOTH = 1e-8
BATCH_SMOOTH = 1e-5
PROBABILITY_MARGIN = 1e-6  # keeps the logarithm of a probability finite


@dataclass(frozen=True)
class LocalLoss:
    """The pixel-level terms of one anomaly map, each a scalar.

    Attributes:
        focal: over both channels.
        dice_abnormal: of the abnormal channel with the mask.
        dice_normal: of the normal channel with the mask's complement.
    """

    focal: Tensor
    dice_abnormal: Tensor
    dice_normal: Tensor

    def __add__(self, other: LocalLoss) -> LocalLoss:
        return LocalLoss(
            self.focal + other.focal,
            self.dice_abnormal + other.dice_abnormal,
            self.dice_normal + other.dice_normal,
        )

    @property
    def total(self) -> Tensor:
        """The unweighted sum."""
        return self.focal + self.dice_abnormal + self.dice_normal

    def terms(self, suffix: str = "") -> dict[str, Tensor]:
        """The terms by name, for a history."""
        return {
            f"focal{suffix}": self.focal,
            f"dice_abnormal{suffix}": self.dice_abnormal,
            f"dice_normal{suffix}": self.dice_normal,
        }


def local_loss(abnormal: Tensor, masks: Tensor) -> LocalLoss:
    """Focal and both dice terms of a map.

    Args:
        abnormal: [B, H, W] probabilities; those of the normal state are 1 minus them.
        masks: [B, H, W], 0 or 1.
    """
    return LocalLoss(
        focal_loss(abnormal, masks),
        dice_loss(abnormal, masks),
        dice_loss(1 - abnormal, 1 - masks),
    )


def map_loss(abnormal: Tensor, grid: tuple[int, int], size: int, masks: Tensor) -> LocalLoss:
    """`local_loss` of a layer's `enlarged` probabilities, without the maps.

    Enlarging is linear, so that an image's sums over pixels, of which the dice terms are made, are
    sums over its patches, with what the mask's pixels weigh in each.

    Args:
        abnormal: [B, L] probabilities of the patches.
        grid: rows and columns of the patches.
        size: M, side of the maps in pixels.
        masks: [B, M, M], 0 or 1.

    Raises:
        ValueError: the masks do not fit.
    """
    rows, columns = (enlarging_matrix(side, size).to(abnormal) for side in grid)
    if masks.shape != (len(abnormal), size, size):
        raise ValueError(f"masks {tuple(masks.shape)} must be {(len(abnormal), size, size)}")
    focal: Tensor = _EnlargedFocal.apply(abnormal.reshape(-1, *grid), masks, rows, columns)
    pixels = size * size
    marked, truth = (rows.T @ masks @ columns).flatten(1), masks.sum(dim=(1, 2))
    weight = torch.outer(rows.sum(dim=0), columns.sum(dim=0)).flatten()
    shared, predicted = (abnormal * marked).sum(dim=1), abnormal @ weight
    return LocalLoss(
        focal,
        _dice(shared, predicted + truth),
        _dice(pixels - predicted - truth + shared, 2 * pixels - predicted - truth),
    )


class _EnlargedFocal(torch.autograd.Function):
    """`focal_loss` of `enlarged` probabilities, which finds their gradient on its way.

    So no map is kept, and on a CPU an image's stay in the cache.
    """

    @staticmethod
    def forward(ctx: Any, abnormal: Tensor, masks: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """The scalar; `rows` [M, ..] and `columns` [M, ..] enlarge `abnormal` [B, .., ..]."""
        at_once = 1 if abnormal.device.type == "cpu" else len(abnormal)
        sums, gradients = [], []
        for part, mask in zip(*(torch.split(x, at_once) for x in (abnormal, masks)), strict=True):
            total, slopes = _negated_focal(rows @ part @ columns.T, mask)
            sums.append(total)
            gradients.append(rows.T @ slopes @ columns)
        ctx.save_for_backward(torch.cat(gradients) / masks.numel())
        return -torch.stack(sums).sum() / masks.numel()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        """That of the patches' probabilities."""
        (own,) = ctx.saved_tensors
        return gradient * own, None, None, None


def _negated_focal(abnormal: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Minus the `focal_loss` of all pixels together, and its slope in each one's probability."""
    least, slope = _true_state(masks, abnormal.dtype)
    true = least.addcmul_(slope, abnormal)
    wrong, term = 1 - true, true.log()
    term.mul_(wrong)
    total = wrong.flatten() @ term.flatten()
    return total, term.mul_(2).addcdiv_(wrong.square_(), true, value=-1).mul_(slope)


def enlarged(
    patches: Tensor, grid: tuple[int, int], size: int, align_corners: bool = False
) -> Tensor:
    """Patch values [B, L] -> bilinear maps [B, M, M], M being `size`; as `upsample` gives them.

    A product with a matrix per axis: with its gradient five times as fast on a CPU, and the same
    from run to run on a GPU.
    """
    rows, columns = (enlarging_matrix(side, size, align_corners).to(patches) for side in grid)
    return rows @ patches.reshape(-1, *grid) @ columns.T


def focal_loss(abnormal: Tensor, masks: Tensor) -> Tensor:
    """-(1 - p)^2 log p of the true state's probability p, mean over all pixels of the batch.

    As released: the one-hot target is clamped to [1e-5, 1 - 1e-5], and 1e-5 is added to p. With a
    target of n and a for the two states, p is n (1 - q) + a q for an abnormal probability of q.

    Args:
        abnormal: [B, H, W] probabilities; those of the normal state are 1 minus them.
        masks: [B, H, W], 0 or 1.

    Raises:
        ValueError: the shapes do not fit.
    """
    _refuse_misfit(abnormal, masks)
    true = torch.addcmul(*_true_state(masks, abnormal.dtype), abnormal)
    return -((1 - true).square() * true.log()).mean()


def _true_state(masks: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The true state's probability is the first plus the second times the abnormal one."""
    # Released bounds are those of single precision, even in double precision.
    low, high = torch.tensor((0.0, 1.0)).clamp_(FOCAL_SMOOTH, 1 - FOCAL_SMOOTH).tolist()
    masks = masks.to(dtype)
    least = (1 - masks).mul_(high + FOCAL_SMOOTH).add_(masks, alpha=low + FOCAL_SMOOTH)
    return least, (masks * (2 * (high - low))).sub_(high - low)


def dice_loss(probabilities: Tensor, masks: Tensor) -> Tensor:
    """1 - mean over images of (2 sum(p g) + 1) / (sum p + sum g + 1), sums over an image's pixels.

    Args:
        probabilities: [B, H, W] of the state that the mask marks.
        masks: [B, H, W], 0 or 1.

    Raises:
        ValueError: the shapes differ or lack the batch axis, without which rows of pixels would
            silently count as images.
    """
    _refuse_misfit(probabilities, masks)
    predicted, truth = probabilities.flatten(1), masks.flatten(1)
    return _dice((predicted * truth).sum(dim=1), predicted.sum(dim=1) + truth.sum(dim=1))


def _dice(shared: Tensor, size: Tensor) -> Tensor:
    """`dice_loss` of the sums [B] of p g, and of p and g together."""
    return 1 - ((2 * shared + DICE_SMOOTH) / (size + DICE_SMOOTH)).mean()


def _refuse_misfit(probabilities: Tensor, masks: Tensor) -> None:
    if probabilities.shape != masks.shape or masks.dim() != 3:
        raise ValueError(
            f"probabilities {tuple(probabilities.shape)} and masks {tuple(masks.shape)} must both "
            "be [B, H, W]"
        )


def image_entropy(visual: Tensor, text: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of cos / temperature over the two states, mean over the batch.

    Args:
        visual: [B, D] class tokens.
        text: [2, D] or [B, 2, D], L2-normalised, (normal, abnormal).
        labels: [B] int64, 0 normal, 1 anomalous.
        temperature: the similarity is divided by it.
    """
    text = text.expand(len(visual), -1, -1)
    similarity = torch.einsum("bd,bsd->bs", F.normalize(visual, dim=-1), text)
    return F.cross_entropy(similarity / temperature, labels)


def binary_focal_loss(scores: Tensor, labels: Tensor, *, as_logits: bool = False) -> Tensor:
    """(1 - exp(-ce))^2 ce with the binary cross-entropy ce, mean over the batch.

    Args:
        scores: [B] anomaly scores in 0..1.
        labels: [B], 0 normal, 1 anomalous.
        as_logits: use the scores as logits, as the released FAPrompt code does. Its sigmoid is
            then at least 0.5, and a perfect normal image still costs 0.173.
    """
    target = labels.to(scores.dtype)
    if as_logits:
        entropy = F.binary_cross_entropy_with_logits(scores, target, reduction="none")
    else:
        safe = scores.clamp(PROBABILITY_MARGIN, 1 - PROBABILITY_MARGIN)
        entropy = F.binary_cross_entropy(safe, target, reduction="none")
    return ((1 - torch.exp(-entropy)) ** FOCAL_GAMMA * entropy).mean()


def orthogonality_loss(features: Tensor) -> Tensor:
    """Sum over unordered pairs i < j of |cos(f_i, f_j)|; FAPrompt's L_oc.

    Args:
        features: [K, D] text features of the K abnormal prompts.
    """
    normalised = F.normalize(features, dim=-1)
    cosines = (normalised @ normalised.T).abs()
    return cosines.triu(diagonal=1).sum()


def balanced_focal_loss(abnormal: Tensor, masks: Tensor) -> Tensor:
    """-(1 - p)^2 log p of the true state: mean over anomalous plus mean over normal pixels.

    Args:
        abnormal: [B, M, M] probabilities.
        masks: [B, M, M], 0 or 1.
    """
    terms = []
    for probability, marked in ((abnormal, masks), (1 - abnormal, 1 - masks)):
        each = -((1 - probability) ** 2) * (probability + BALANCED_SMOOTH).log() * marked
        terms.append(each.sum() / (marked.sum() + BALANCED_SMOOTH))
    return terms[0] + terms[1]


def batch_dice_loss(abnormal: Tensor, masks: Tensor) -> Tensor:
    """1 - (2 sum(p g) + s) / (sum p + sum g + s), sums over all pixels of the batch."""
    shared = 2 * (abnormal * masks).sum() + BATCH_SMOOTH
    return 1 - shared / (abnormal.sum() + masks.sum() + BATCH_SMOOTH)


def squared_cosines(text: Tensor) -> Tensor:
    """Mean over images of the mean squared cosine of a state's prompts, summed over the states.

    Args:
        text: [B, 2, N, D] normalised. A prompt's cosine with itself counts as 0 in the mean.
    """
    cosines = text @ text.transpose(-1, -2)  # [B, 2, N, N]
    itself = torch.eye(cosines.shape[-1], dtype=torch.bool, device=text.device)
    return cosines.masked_fill(itself, 0).square().mean(dim=(0, 2, 3)).sum()
