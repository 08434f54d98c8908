"""The simulated device refuses what CUDA refuses, and computes what the CPU computes."""

from __future__ import annotations

import pytest
import torch
from zsad.bench import registry
from zsad.bench.backbone import TokenSpec
from zsad.bench.conformance import answers_in_shape, check_method, keeps_its_state
from zsad.bench.errors import ContractError
from zsad.bench.method import Method, Prediction
from zsad.bench.simulated_device import on_device, simulated_device
from zsad.bench.weights import load_backbone


@pytest.fixture(scope="module")
def backbone():
    return load_backbone("tiny", pretrained="random")


@pytest.mark.parametrize(
    "mixed",
    [
        lambda here, host: here + host,
        lambda here, host: host + here,
        lambda here, host: torch.cat([here, host]),
        lambda here, host: host[here.long()],
        lambda here, host: here.numpy(),
        lambda here, host: torch.randn(3, device=here.device, generator=torch.Generator()),
    ],
)
def test_what_cuda_refuses_is_refused(mixed):
    with simulated_device() as device, pytest.raises((RuntimeError, TypeError)):
        mixed(torch.zeros(3, device=device), torch.ones(3))


def test_what_cuda_takes_is_taken():
    with simulated_device() as device:
        here, host = torch.arange(3.0, device=device), torch.ones(3)
        assert (here + host.to(device)).cpu().tolist() == [1, 2, 3]
        assert (here + torch.tensor(2.0)).tolist() == [2, 3, 4]
        assert here[[0, 2]].tolist() == here[torch.tensor([0, 2])].tolist() == [0, 2]
        here[0] = torch.tensor(5.0)
        here.copy_(host)
        assert here.device == device
        assert here.cpu().device.type == "cpu"


def test_a_layer_learns_there_as_on_the_cpu():
    def step(layer, device):
        optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
        layer(torch.ones(1, 3, device=device)).sum().backward()
        optimizer.step()
        return layer.weight.detach().cpu()

    torch.manual_seed(1)
    layer = torch.nn.Linear(3, 2)
    with simulated_device() as device:
        moved = torch.nn.Linear(3, 2)
        moved.load_state_dict(layer.state_dict())
        there = step(moved.to(device), device)
        assert moved.weight.grad.device == device
    assert torch.equal(there, step(layer, "cpu"))


def test_afterwards_the_device_is_gone():
    with simulated_device() as device:
        pass
    with pytest.raises((RuntimeError, NotImplementedError, AssertionError)):
        torch.zeros(3, device=device)


OWN = [name for name in registry.names("method") if registry.method_class(name).package is None]
"""Methods whose code is ours: other libraries mix indices of the host with tensors of a device."""


@pytest.mark.parametrize("check", [answers_in_shape, keeps_its_state])
@pytest.mark.parametrize("name", OWN)
def test_built_in_methods_keep_to_their_device(name, check, backbone):
    with simulated_device() as device:
        check(registry.method_class(name), on_device(backbone, device))


class LeavesAConstantBehind(Method):
    title = "Leaves a constant behind"

    def __init__(self, backbone, options=None):
        super().__init__(backbone, options)
        self.direction = torch.ones(backbone.embed_dim)

    @property
    def token_specs(self):
        return frozenset({TokenSpec(self.backbone.depth)})

    def predict(self, query):
        return Prediction(query.features.class_token @ self.direction, None)


def test_a_method_that_leaves_a_tensor_on_the_host_is_caught(backbone):
    check_method(LeavesAConstantBehind, backbone)
    with pytest.raises(ContractError, match="move it to the backbone's device"):
        check_method(LeavesAConstantBehind, backbone, device="simulated")
