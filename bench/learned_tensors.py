"""Learned tensors by name: from a state dict, ours or a released one, into a method."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .errors import WeightsError
from .names import display_name

if TYPE_CHECKING:
    from .method import TrainableMethod


def own_names(method: TrainableMethod, state: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of a state dict under the names that they have in a method.

    Beside the parts of a released checkpoint, tensors at its top level count, too.

    Raises:
        WeightsError: what the released code keeps its tensors under is not a state dict.
    """
    parts = {key: prefix for key, prefix in method.official_parts.items() if key in state}
    if not parts and method.official_key and method.official_key in state:
        parts = {method.official_key: ""}
    if not parts:
        return _renamed(method, state.items())
    found = _renamed(
        method, ((n, value) for n, value in state.items() if isinstance(value, Tensor))
    )
    for key, prefix in parts.items():
        inner = state[key]
        if not isinstance(inner, Mapping):
            raise WeightsError(f"'{key}' of the checkpoint is not a state dict")
        found |= _renamed(method, ((f"{prefix}{name}", value) for name, value in inner.items()))
    return found


def _renamed(method: TrainableMethod, entries: Iterable[tuple[Any, Any]]) -> dict[str, Any]:
    """The entries without `official_prefix`, and by their aliases."""
    found: dict[str, Any] = {}
    for raw, value in entries:
        name = str(raw).removeprefix(method.official_prefix)
        alias = next((a for a in method.official_aliases if name.startswith(a)), None)
        if alias is not None:
            name = method.official_aliases[alias] + name.removeprefix(alias)
        found[name] = value
    return found


def refuse_misfit(method: TrainableMethod, state: Mapping[str, Any]) -> None:
    """Refuse a state dict that lacks a learned tensor, or holds one of another shape or name.

    Rows of the auxiliary memory may be more or fewer than the method has.

    Raises:
        WeightsError: names the tensor.
    """
    for name in method.learned_state():
        if not isinstance(state.get(name), Tensor):
            raise WeightsError(f"the checkpoint of '{method.name}' lacks the tensor '{name}'")
    own = tensors_of(method)
    for name, tensor in own.items():
        if name not in state:
            continue
        found, expected = tuple(getattr(state[name], "shape", ())), tuple(tensor.shape)
        rows = 1 if found and name.startswith(method.remembered) else 0
        if len(found) != len(expected) or found[rows:] != expected[rows:]:
            raise WeightsError(
                f"tensor '{name}' of '{method.name}' is {found} in the checkpoint but {expected} "
                "for this backbone and these options"
            )
    foreign = [n for n in state if n not in own and not n.startswith(method.ignored_official)]
    if foreign:
        raise WeightsError(
            f"the checkpoint of '{display_name(method.name)}' has unknown tensors: "
            f"{', '.join(foreign[:5])}"
        )


def tensors_of(method: nn.Module) -> dict[str, Tensor]:
    """All parameters and buffers by name."""
    return {**dict(method.named_parameters()), **dict(method.named_buffers())}


def take(method: TrainableMethod, state: Mapping[str, Any]) -> None:
    """Copy the entries of a state dict that fits into a method's tensors."""
    make_room(method, state)
    with torch.no_grad():
        for name, tensor in tensors_of(method).items():
            if name in state:
                tensor.copy_(state[name])


def make_room(method: TrainableMethod, state: Mapping[str, Any]) -> None:
    """Give the buffers of the auxiliary memory as many rows as a state dict has."""
    for name, buffer in list(method.named_buffers()):
        rows = state.get(name)
        if name.startswith(method.remembered) and isinstance(rows, Tensor):
            path, _, leaf = name.rpartition(".")
            setattr(method.get_submodule(path), leaf, buffer.new_empty(rows.shape))
