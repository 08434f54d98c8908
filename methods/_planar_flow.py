"""Distributions over prompt offsets: a Gaussian that an encoder gives, pushed through planar flows.

Rezende and Mohamed, "Variational Inference with Normalizing Flows", as Bayes-PFL's released code
(xiaozhen228/Bayes-PFL) uses them. Nothing keeps the flows invertible there, nor here.

Axes: B images, R samples, K flows, V width of what is distributed, h hidden units.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn

LEAST_JACOBIAN = 1e-5  # added to |det|, whose logarithm is taken
INIT_STD = 0.02


@dataclass(frozen=True)
class FlowSample:
    """What was drawn, and what the evidence lower bound needs of it.

    Attributes:
        mean, variance: [B, 1, V] of the base distribution.
        base: [B, R, V] samples of it.
        value: [B, R, V] the samples after all flows.
        log_det: [B, R, K] logarithm of each flow's volume change.
    """

    mean: Tensor
    variance: Tensor
    base: Tensor
    value: Tensor
    log_det: Tensor

    def divergence(self, flows_divided_by: int = 1) -> Tensor:
        """Mean over images and samples of ln q(z_0) - ln p(z_K) - sum ln |det|, no constants.

        Args:
            flows_divided_by: the released code divides the flows' part by the batch size where one
                distribution serves all images of a batch.
        """
        density = self.variance.log() + (self.base - self.mean) ** 2 / self.variance
        prior = 0.5 * self.value.square().sum(dim=-1)
        flows = self.log_det.sum(dim=-1) / flows_divided_by
        return (prior - 0.5 * density.sum(dim=-1) - flows).mean()


def planar_flows(
    gaussian: tuple[Tensor, Tensor], noise: Tensor, u: Tensor, w: Tensor, b: Tensor
) -> FlowSample:
    """Noise scaled to a Gaussian, then z <- z + u_k tanh(w_k z + b_k) for each flow k.

    Args:
        gaussian: mean and variance, both [B, V].
        noise: [B, R, V] standard normal.
        u: [B, K, V].
        w: [B, K, V].
        b: [B, K].
    """
    mean, variance = (part[:, None] for part in gaussian)
    base = value = mean + variance.sqrt() * noise
    log_dets = []
    for k in range(u.shape[1]):
        u_k, w_k = u[:, k, None], w[:, k, None]  # [B, 1, V]
        bent = torch.tanh((value * w_k).sum(dim=-1) + b[:, k, None])  # [B, R]
        slope = (1 - bent**2) * (w_k * u_k).sum(dim=-1)
        log_dets.append(((1 + slope).abs() + LEAST_JACOBIAN).log())
        value = value + u_k * bent[..., None]
    return FlowSample(mean, variance, base, value, torch.stack(log_dets, dim=-1))


class GaussianEncoder(nn.Module):
    """Mean and variance of a Gaussian, by two networks of three layers each.

    The tensors' names are the released checkpoint's. Its "log variance" g makes the variance
    exp(g / 2), whose root is taken again for the deviation.
    """

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.weight_mean = _mlp(inputs, hidden, outputs)
        self.weight_log_variance = _mlp(inputs, hidden, outputs)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[B, inputs] -> mean and variance, both [B, V]."""
        return self.weight_mean(x), torch.exp(self.weight_log_variance(x) / 2)


def _mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    sizes = [(inputs, hidden), (hidden, hidden), (hidden, outputs)]
    first, second, third = (normal_linear(*size) for size in sizes)
    layers = nn.Sequential(first, nn.Softplus(), second, nn.Softplus(), third)
    return nn.Sequential(OrderedDict(module=layers))


class ImageFlow(nn.Module):
    """Flows whose parameters depend on an image ("amortised")."""

    def __init__(self, inputs: int, flows: int, width: int) -> None:
        super().__init__()
        self.flows = flows
        self.amor_u = normal_linear(inputs, flows * width)
        self.amor_w = normal_linear(inputs, flows * width)
        self.amor_b = normal_linear(inputs, flows)

    def forward(self, encoder: GaussianEncoder, x: Tensor, noise: Tensor) -> FlowSample:
        """A distribution for each of the images' features x [B, inputs], and noise [B, R, V]."""
        u, w = (layer(x).reshape(len(x), self.flows, -1) for layer in (self.amor_u, self.amor_w))
        return planar_flows(encoder(x), noise, u, w, self.amor_b(x))


class StateFlow(nn.Module):
    """Flows with parameters of their own around a learned state, the same for all images."""

    def __init__(self, flows: int, width: int) -> None:
        super().__init__()
        self.amor_u = _drawn(1, flows, width, 1)
        self.amor_w = _drawn(1, flows, 1, width)
        self.amor_b = _drawn(1, flows, 1, 1)
        self.state = _drawn(1, width)

    def forward(self, encoder: GaussianEncoder, noise: Tensor) -> FlowSample:
        """One distribution, for noise [R, V]; its samples have B = 1."""
        u, w = self.amor_u.flatten(2), self.amor_w.flatten(2)  # [1, K, V]
        return planar_flows(encoder(self.state), noise[None], u, w, self.amor_b.flatten(1))


def _drawn(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(*shape, dtype=torch.float64).normal_())


def normal_linear(inputs: int, outputs: int, bias: bool = True) -> nn.Linear:
    """A linear layer with weights from N(0, 0.02^2) and biases of zero, as released."""
    layer = nn.Linear(inputs, outputs, bias, dtype=torch.float64)
    nn.init.normal_(layer.weight, std=INIT_STD)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer
