"""One answer of one method, held to the contract before it is measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor

from ..anomaly_maps import upsample
from ..category import refuse_parts
from ..data.loading import Batch
from ..errors import ContractError
from ..method import Method, Prediction, Query
from ..names import display_name
from .batch_check import examine
from .measuring import Measurement
from .prepared_method import PreparedMethod


def answer(
    member: Measurement, query: Query, batch: Batch, keeps_prompts: bool
) -> Callable[[], None]:
    """Let one method answer a batch and keep its scores; what is left to do measures the maps.

    Args:
        member: of a method without an error.
        query: what the method sees, in tensors of its own.
        batch: that the query was made of.
        keeps_prompts: keep the maps of each single prompt.

    Raises:
        ContractError: the answer breaks the contract; names the method.
    """
    prepared = member.prepared
    method = prepared.ready
    versions = _versions(query)
    with torch.no_grad(), member.own.running():
        given = method.predict(query)
    prediction, check = given.copied(len(query), method.name)
    prompts = _prompt_maps(method, query) if keeps_prompts else []
    _refuse_changes(method, versions, _versions(query))
    _refuse_gaps(prepared, prediction)
    if not prepared.examined:
        check()
        examine(prepared, query, prediction)
    refuse_parts(method, prediction)
    member.prompts += prompts  # all that is kept is kept at last: memory may run out before
    if prediction.parts is not None:
        member.parts.append(prediction.parts)
    if prediction.scores is not None:
        member.scores.append(prediction.scores)
    maps = None if prediction.maps is None else resized(prediction.maps, prepared.map_size)
    return partial(member.add, batch, Prediction(prediction.scores, maps), check)


def own_copy(tensor: Tensor, device: torch.device) -> Tensor:
    """A copy with the same strides: another layout in memory may be rounded otherwise."""
    copy = torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device=device)
    return copy.copy_(tensor)


def resized(maps: Tensor, size: int) -> Tensor:
    """Maps [B, H, W] at the evaluated size, bilinear; unchanged where they have it."""
    height, width = maps.shape[1:]
    same = (height, width) == (size, size)
    return maps if same else upsample(maps.flatten(1), (height, width), size)


def _versions(query: Query) -> dict[str, int]:
    """How often each tensor of a query was written into, by the tensor's name."""
    return {name: tensor._version for name, tensor in query.tensors().items()}


def _refuse_changes(method: Method, before: Mapping[str, int], after: Mapping[str, int]) -> None:
    """Raise `ContractError` if a tensor of the query was written into, or replaced."""
    changed = [name for name in before.keys() | after.keys() if before.get(name) != after.get(name)]
    if changed:
        raise ContractError(
            f"method '{display_name(method.name)}' changed {', '.join(sorted(changed))} of its "
            "query in place: work on a copy (tensor.clone())"
        )


def _refuse_gaps(prepared: PreparedMethod, prediction: Prediction) -> None:
    """Raise `ContractError` if scores or maps come for some batches only."""
    scored = prediction.scores is not None or prediction.parts is not None
    answers = (scored, prediction.maps is not None)
    prepared.answers = prepared.answers or answers
    for part, now, earlier in zip(("scores", "maps"), answers, prepared.answers, strict=True):
        if now != earlier:
            raise ContractError(
                f"method '{display_name(prepared.ready.name)}' returned {part} for some batches "
                "and none for others: return them always or never"
            )


def _prompt_maps(method: Method, query: Query) -> list[Tensor]:
    """[B, K, L] of each single prompt; empty where the method has none."""
    with torch.no_grad():
        maps = method.prompt_maps(query)
    if maps is None:
        return []
    if maps.dim() != 3 or len(maps) != len(query) or not bool(torch.isfinite(maps).all()):
        raise ContractError(
            f"method '{display_name(method.name)}' returned prompt maps of shape "
            f"{tuple(maps.shape)} for a batch of {len(query)}: expected finite values [B, K, L]"
        )
    return [maps.detach().float().cpu()]
