"""A device that exists on every machine: tensors that compute on the CPU and deny lying there.

CUDA refuses operations that mix its tensors with those of the host, and a method that forgot to
move one fails only where there is a GPU. Here it fails anywhere:

    with simulated_device() as device:
        backbone = on_device(load_backbone("tiny"), device)
        create("clip", backbone).predict(query)

As on CUDA, the host's tensors of one value and indices may take part, copies cross over, and
`numpy` needs `cpu` first. What a function of torch written in Python does inside is not seen.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

from .backbone import Backbone

DEVICE = torch.device("xpu", 0)  # torch knows the name without having the device
HOST = torch.device("cpu")
CROSSING = {"copy_", "__setitem__", "__getitem__", "to", "set_", "__set__"}
"""Operations that may take tensors of both; the last one sets a property such as `data`."""
STEPS_OF_MODULE_TO = {"_parse_to", "_has_compatible_shallow_copy_type"}
"""They compute nothing, and see the device's name and parameters of both."""


class SimulatedTensor(Tensor):
    """A tensor of the simulated device."""

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """The simulated one."""
        return DEVICE

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        """A leaf of the same kind: a parameter stays one."""
        if id(self) not in memo:
            copied = self.detach().clone()
            kind = nn.Parameter if isinstance(self, nn.Parameter) else Tensor.requires_grad_
            memo[id(self)] = kind(copied, self.requires_grad)
        kept: Tensor = memo[id(self)]
        return kept


class _SimulatedDevice(TorchFunctionMode):
    """Sends what is asked of the simulated device to the CPU, and refuses to mix both."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if name in STEPS_OF_MODULE_TO:
            return func(*args, **kwargs)
        tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, Tensor)]
        here = any(isinstance(tensor, SimulatedTensor) for tensor in tensors)
        if here:
            _refuse_mixing(name, args, tensors)
        stays = _stays(name, args, kwargs, here)
        if stays and kwargs.get("generator") is not None:
            raise RuntimeError(f"{name} draws on the simulated device by a generator of the host")
        args, kwargs = tree_map(_on_the_host, (args, kwargs))
        return tree_map(_placed if stays else _hosted, func(*args, **kwargs))


def _refuse_mixing(name: str, args: Sequence[Any], tensors: Sequence[Tensor]) -> None:
    """Refuse what CUDA refuses of a call with at least one tensor of the device."""
    if name == "numpy":
        raise TypeError("a tensor of the simulated device has no array: take cpu() first")
    if name == "__getitem__" and not isinstance(args[0], SimulatedTensor):
        raise RuntimeError("indices of the simulated device cannot index the host's tensor")
    host = [t for t in tensors if not isinstance(t, SimulatedTensor) and t.dim() > 0]
    if host and name not in CROSSING:
        raise RuntimeError(
            f"{name} got tensors of two devices, among them one of the host of shape "
            f"{tuple(host[0].shape)}: move it to the backbone's device"
        )


def _stays(name: str, args: Sequence[Any], kwargs: Mapping[str, Any], here: bool) -> bool:
    """Whether what a call gives lies on the device: where it names none, its arguments decide."""
    if name == "cpu":
        return False
    asked = _asked_device((*args[1:], *kwargs.values()))
    return here if asked is None else asked == DEVICE


def _asked_device(values: Sequence[Any]) -> torch.device | None:
    """The first device that a call names."""
    for value in values:
        if _names_a_device(value):
            return HOST if torch.device(value).type == "cpu" else DEVICE
    return None


def _names_a_device(value: Any) -> bool:
    named = isinstance(value, str) and value in ("cpu", DEVICE.type, str(DEVICE))
    return named or isinstance(value, torch.device)


def _on_the_host(value: Any) -> Any:
    return HOST if _names_a_device(value) else value


def _placed(value: Any) -> Any:
    if not isinstance(value, Tensor) or isinstance(value, SimulatedTensor):
        return value
    return value.as_subclass(SimulatedTensor)


def _hosted(value: Any) -> Any:
    return value.as_subclass(Tensor) if isinstance(value, SimulatedTensor) else value


@contextmanager
def simulated_device() -> Iterator[torch.device]:
    """While it lasts, the device that it gives can be named wherever torch takes one."""
    overwrites = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with _SimulatedDevice():
            yield DEVICE
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(overwrites)


def on_device(backbone: Backbone, device: torch.device) -> Backbone:
    """A copy of a backbone whose weights lie on a device."""
    moved = copy.copy(backbone)
    moved.model = copy.deepcopy(backbone.model).to(device)
    moved.device = device
    moved.__post_init__()
    return moved
