"""Reading and writing tensors without ever unpickling objects."""

from __future__ import annotations

import hashlib
import json
import logging
import pickle
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from .errors import WeightsError
from .files import whole_file

LOG = logging.getLogger(__name__)

MAX_EXPANSION = 4  # times a file's size; torch stores tensors as they are, uncompressed
SAFE_GLOBALS: Mapping[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch", "Size"): torch.Size,
    ("torch.storage", "UntypedStorage"): torch.UntypedStorage,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
}


@lru_cache(maxsize=1)
def archive_hashes() -> frozenset[str]:
    """sha256 of OpenAI's own archives, as open_clip's table has them in their addresses."""
    import open_clip

    pairs = [pair for pair in open_clip.list_pretrained() if pair[1] == "openai"]
    urls = [str(open_clip.get_pretrained_cfg(*pair).get("url", "")) for pair in pairs]
    return frozenset(map(sha256_in_url, urls)) - {""}


def sha256_in_url(url: str) -> str:
    """The sha256 (or its beginning) that OpenAI's and open_clip's URLs carry, or ""."""
    found = re.search(r"[-/]([0-9a-f]{64}|[0-9a-f]{8})(/[^/]*|\.\w+)$", url)
    return found[1] if found else ""


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

    OpenAI's own archives are TorchScript; those are read only when their sha256 is known. Objects
    among the tensors (Dassl saves its scheduler) are left out and never loaded.

    Raises:
        WeightsError: missing, broken, holding no tensors that can be read without running code, or
            packed so that it would unpack to more than `MAX_EXPANSION` times its size.
    """
    if _is_safetensors(path):
        return dict(_read_safetensors(path)[0])
    _refuse_bomb(path)
    payload: Any
    try:
        with warnings.catch_warnings():  # that a TorchScript archive is one, before it is refused
            warnings.filterwarnings("ignore", message=".*TorchScript archive")
            payload = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:
        if file_sha256(path) in archive_hashes():
            return dict(torch.jit.load(path, map_location="cpu").state_dict())  # type: ignore[no-untyped-call]
        payload = _read_without_objects(path)
    if not isinstance(payload, dict):
        kind = "an object" if isinstance(payload, _Inert) else f"a {type(payload).__name__}"
        raise WeightsError(f"checkpoint {path} holds no state dict but {kind}")
    return payload


def _refuse_bomb(path: Path) -> None:
    """Refuse an archive that would unpack to far more than it takes on disk.

    Raises:
        WeightsError: it would.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return  # not an archive: read, or refused, as what it is
    size = path.stat().st_size
    if unpacked > MAX_EXPANSION * size:
        raise WeightsError(
            f"checkpoint {path} of {size} bytes would unpack to {unpacked}, more than "
            f"{MAX_EXPANSION} times as much, which torch.save never writes: get the file again"
        )


class _Inert:
    """Replaces an object whose class is not loaded: accepts every call and does nothing."""

    def __new__(cls, *_args: Any, **_named: Any) -> _Inert:
        return super().__new__(cls)

    def __init__(self, *_args: Any, **_named: Any) -> None: ...

    def __call__(self, *_args: Any, **_named: Any) -> _Inert:
        return self

    def __setstate__(self, *_values: Any) -> None: ...

    # what fills subclasses of dict, list and set
    __setitem__ = append = extend = add = __setstate__


class _TensorUnpickler(pickle.Unpickler):
    """Calls nothing but what rebuilds tensors; every other name of a pickle becomes `_Inert`."""

    def find_class(self, module: str, name: str) -> Any:
        """See `SAFE_GLOBALS`."""
        return SAFE_GLOBALS.get((module, name), _Inert)


def _read_without_objects(path: Path) -> Any:
    """The tensors and plain values of a file of torch.save; objects in it are left out.

    Raises:
        WeightsError: it is broken, or not a file of torch.save since version 1.6.
    """
    try:
        records = torch._C.PyTorchFileReader(str(path)).get_all_records()
        if "constants.pkl" in records:  # torch.load would hand TorchScript on to torch.jit.load
            raise ValueError("TorchScript")
        reader = SimpleNamespace(__name__="tensors", Unpickler=_TensorUnpickler)
        payload = torch.load(path, map_location="cpu", pickle_module=reader, weights_only=False)
    except Exception as error:
        command = (
            "python -c \"import torch; torch.save(torch.load('"
            f"{path}', weights_only=False)['state_dict'], 'plain.pth')\""
        )
        raise WeightsError(
            f"checkpoint {path} cannot be read as plain tensors ({type(error).__name__}): it is "
            "broken, or holds pickled objects, which are never loaded; if you trust who made it, "
            f"{command} writes its tensors to plain.pth"
        ) from error
    LOG.info("%s: objects among the tensors were left out", path)
    return _without_objects(payload)


def _without_objects(value: Any) -> Any:
    """A value without the `_Inert` entries of its dictionaries, at any depth."""
    if not isinstance(value, dict):
        return value
    return {k: _without_objects(v) for k, v in value.items() if not isinstance(v, _Inert)}


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
    """Add a file's entries: state dicts of one name are joined, other values kept as first read."""
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
    """The provenance that `write_tensors` put into a checkpoint; empty for any other file.

    Raises:
        WeightsError: the file is missing, or broken safetensors.
    """
    return _read_safetensors(path)[1] if _is_safetensors(path) else {}


def write_tensors(path: Path, tensors: Mapping[str, Tensor], provenance: Mapping[str, Any]) -> None:
    """Write safetensors with provenance in the header; the file appears whole or not at all."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    header = {"zsad": json.dumps(provenance, sort_keys=True)}
    with whole_file(path) as file:
        file.write(save(contiguous, metadata=header))


def _is_safetensors(path: Path) -> bool:
    """By its name or its content (a length, then a JSON object): users name files as they like.

    Raises:
        WeightsError: the file is missing.
    """
    if not path.is_file():
        raise WeightsError(f"checkpoint {path} does not exist")
    if path.suffix == ".safetensors":
        return True
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
            f"checkpoint {path} is not a readable safetensors file ({error})"
        ) from error
