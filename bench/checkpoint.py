"""Reading and writing tensors without ever unpickling objects."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from .errors import WeightsError

JIT_SHA256 = frozenset({"3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02"})


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes; remembered per path, size and time of change."""
    stat = path.stat()
    return _sha256(path.resolve(), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=64)
def _sha256(path: Path, _size: int, _changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_payload(path: Path) -> dict[str, Any]:
    """A checkpoint as a dictionary: safetensors, or torch with `weights_only`.

    OpenAI's own archives are TorchScript; those are read only when their sha256 is known.

    Raises:
        WeightsError: missing, broken, or holding anything but tensors and plain values.
    """
    if not path.is_file():
        raise WeightsError(f"checkpoint {path} does not exist")
    if path.suffix == ".safetensors" or _looks_like_safetensors(path):
        return dict(_read_safetensors(path)[0])
    try:
        payload = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        if file_sha256(path) in JIT_SHA256:
            return dict(torch.jit.load(path, map_location="cpu").state_dict())  # type: ignore[no-untyped-call]
        raise WeightsError(
            f"checkpoint {path} cannot be read as plain tensors ({type(error).__name__}): it is "
            "broken, or holds pickled objects, which are never loaded; convert it to safetensors"
        ) from error
    if not isinstance(payload, dict):
        raise WeightsError(f"checkpoint {path} holds no state dict but a {type(payload).__name__}")
    return payload


def read_together(paths: Sequence[Path]) -> dict[str, Any]:
    """The payload of a checkpoint of several files: their tensors side by side.

    Raises:
        WeightsError: as `read_payload`, or two files hold a tensor of one name.
    """
    payload: dict[str, Any] = {}
    for path in paths:
        _add(payload, read_payload(path), path)
    return payload


def _add(payload: dict[str, Any], more: Mapping[str, Any], path: Path) -> None:
    """Add a file's entries; state dicts of one name are joined, other values stay the first's."""
    for name, value in more.items():
        if isinstance(value, Mapping):
            inner = payload.setdefault(name, {})
            if isinstance(inner, dict):
                _add(inner, value, path)
        elif isinstance(value, Tensor) and name in payload:
            raise WeightsError(
                f"checkpoint {path} holds the tensor '{name}', which another file of the same "
                "checkpoint holds too: give one of them, or each as METHOD.AUXILIARY=FILE"
            )
        else:
            payload.setdefault(name, value)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """A checkpoint's flat state dict, unwrapped from `state_dict` and `module.`.

    Raises:
        WeightsError: as `read_payload`.
    """
    payload = read_payload(path)
    inner = payload.get("state_dict", payload)
    if not isinstance(inner, dict):
        raise WeightsError(f"checkpoint {path} holds no state dict")
    tensors = {
        str(name).removeprefix("module."): value
        for name, value in inner.items()
        if isinstance(value, Tensor)
    }
    if not tensors:
        raise WeightsError(f"checkpoint {path} holds no tensors")
    return tensors


def read_header(path: Path) -> dict[str, Any]:
    """The provenance that `write_tensors` put into a safetensors file; empty if there is none."""
    return _read_safetensors(path)[1]


def read_provenance(path: Path) -> dict[str, Any]:
    """The header of a checkpoint of ours; empty for any other file.

    Raises:
        WeightsError: the file is missing, or broken safetensors.
    """
    if not path.is_file():
        raise WeightsError(f"checkpoint {path} does not exist")
    is_ours = path.suffix == ".safetensors" or _looks_like_safetensors(path)
    return read_header(path) if is_ours else {}


def write_tensors(path: Path, tensors: Mapping[str, Tensor], provenance: Mapping[str, Any]) -> None:
    """Write safetensors with provenance in the header; the file appears whole or not at all."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    header = {"zsad": json.dumps(provenance, sort_keys=True)}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(save(contiguous, metadata=header))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _looks_like_safetensors(path: Path) -> bool:
    """By content, since a user may name the file as he likes: a length, then a JSON object."""
    with path.open("rb") as file:
        start = file.read(9)
    length = int.from_bytes(start[:8], "little")
    return start[8:] == b"{" and length + 8 <= path.stat().st_size


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("zsad", "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, header  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(
            f"checkpoint {path} is no readable safetensors file ({error})"
        ) from error
