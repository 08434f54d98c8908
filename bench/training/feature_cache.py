"""Frozen features on disk, keyed by everything they depend on.

    <root>/<key>/class_token/00000.npy       rows 0..31 of one array, whole or absent
    <root>/<key>/tokens-24-from-6/00000.npy  [32, L, W]
    <root>/<key>/key.json                    what the key stands for; written when last used
    <root>/masks-<key>/bits/00000.npy        masks, eight pixels a byte, with a key.json too

A writer that is killed loses the shard it was at and nothing else, and two writers of one shard
write the same.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from ..backbone import Backbone, TokenSpec, VisualFeatures
from ..code_hash import READING, bench_code
from ..content import content_hashes
from ..dataset import Dataset, Sample
from ..errors import unknown_name
from ..files import remove_abandoned, write_json
from ..images import MaskRule
from .sharded_array import ShardedArray, too_large

LOG = logging.getLogger(__name__)

DEFAULT_BUDGET = 64 * 2**30
"""Bytes; the four layers of APRIL-GAN for MVTec AD's test split are 39 GB in fp32."""

LABEL_ONLY_OPTIONS = frozenset({"class_names", "class_name", "mask_threshold", "mask_resize"})

KEY = "key.json"

CachePrecision = Literal["full", "fp16"]
CPU = torch.device("cpu")


def features_folder() -> Path:
    """Where features are kept if nothing else is said: $ZSAD_FEATURES or ~/.cache/zsad/features."""
    return Path(os.environ.get("ZSAD_FEATURES", Path.home() / ".cache" / "zsad" / "features"))


def digest(value: Any) -> str:
    """sha256 of a value's JSON text; equal values have equal digests in every process."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class CachedFeatures:
    """The frozen features of a list of samples, for one way of running the backbone."""

    class_token: ShardedArray
    class_token_no_ln: ShardedArray
    tokens: Mapping[TokenSpec, ShardedArray]
    grid: tuple[int, int]
    dtype: np.dtype[Any]

    def arrays(self) -> list[ShardedArray]:
        """All arrays, in a fixed order."""
        return [self.class_token, self.class_token_no_ln, *self.tokens.values()]

    def missing(self) -> list[int]:
        """Shards of which at least one array is absent."""
        arrays = self.arrays()
        return [s for s in range(arrays[0].shards) if not all(a.has(s) for a in arrays)]

    def specs_missing(self, shard: int) -> frozenset[TokenSpec]:
        """The patch tokens that a shard lacks."""
        return frozenset(spec for spec, array in self.tokens.items() if not array.has(shard))

    def write(self, shard: int, features: VisualFeatures) -> None:
        """Write a shard's features: of those arrays that lack it and that `features` has."""
        tokens = [features.tokens.get(spec) for spec in self.tokens]
        parts = [features.class_token, features.class_token_no_ln, *tokens]
        for array, part in zip(self.arrays(), parts, strict=True):
            if part is not None and not array.has(shard):
                array.write(shard, part.detach().cpu().numpy())

    def nbytes(self, specs: Iterable[TokenSpec]) -> int:
        """Bytes of all samples' features with these patch tokens only."""
        tokens = (self.tokens[spec] for spec in specs)
        return sum(array.nbytes for array in (self.class_token, self.class_token_no_ln, *tokens))

    def batch(
        self, indices: Sequence[int], specs: Iterable[TokenSpec], device: torch.device = CPU
    ) -> VisualFeatures:
        """Features of some samples on a device, with these patch tokens only."""
        pinned, own = device.type == "cuda", torch.from_numpy(np.empty(0, self.dtype)).dtype

        def read(array: ShardedArray) -> Tensor:
            return array.rows(indices, pinned).to(device, non_blocking=True).to(own)

        tokens = {spec: read(self.tokens[spec]) for spec in specs}
        return VisualFeatures(
            read(self.class_token), read(self.class_token_no_ln), tokens, self.grid
        )


@dataclass(frozen=True)
class CachedMasks:
    """Masks at one size, a bit a pixel."""

    bits: ShardedArray
    size: int

    def missing(self) -> list[int]:
        """Shards that are absent."""
        return [shard for shard in range(self.bits.shards) if not self.bits.has(shard)]

    def write(self, shard: int, masks: Tensor) -> None:
        """Write a shard's masks [rows, M, M] bool."""
        flat = masks.cpu().numpy().reshape(len(masks), -1)
        self.bits.write(shard, np.packbits(flat, axis=1))

    def batch(self, indices: Sequence[int]) -> Tensor:
        """Masks [B, M, M] bool of some samples."""
        packed = self.bits.rows(indices).numpy()
        flat = np.unpackbits(packed, axis=1, count=self.size * self.size)
        return torch.from_numpy(flat.view(bool)).reshape(-1, self.size, self.size)


@dataclass(frozen=True)
class FeatureCache:
    """A folder of frozen features with a byte budget.

    Attributes:
        root: the folder; it may be deleted at any time, and is shared by all runs.
        precision: "full" is the backbone's own, fp32 or fp64; "fp16" takes half or a quarter of
            the bytes for slightly other numbers.
        budget: bytes that the folder may grow to; features that do not fit are computed each time.
    """

    root: Path = field(default_factory=features_folder)
    precision: CachePrecision = "full"
    budget: int = DEFAULT_BUDGET

    def __post_init__(self) -> None:
        """Refuse an unknown precision; raises `UsageError`."""
        if self.precision not in get_args(CachePrecision):
            raise unknown_name("feature precision", self.precision, get_args(CachePrecision))

    def rounded(self, features: VisualFeatures) -> VisualFeatures:
        """What features would be if they were kept here, for those that are computed each time.

        Raises:
            ZsadError: a value is too large for half precision.
        """
        return features if self.precision == "full" else features.map(_to_half_and_back)

    def features(
        self,
        backbone: Backbone,
        forward_key: tuple[Any, ...],
        image_size: int,
        specs: Iterable[TokenSpec],
        dataset: Dataset,
        samples: Sequence[Sample],
    ) -> CachedFeatures:
        """The (perhaps still empty) arrays of these samples under this forward."""
        described = self._described(forward_key, dataset, samples)
        folder = self.root / digest(described)[:32]
        _take_down(folder, {**described, "images": len(samples)})
        return self.arrays(folder, backbone, image_size, specs, len(samples))

    def folder(
        self, forward_key: tuple[Any, ...], dataset: Dataset, samples: Sequence[Sample]
    ) -> Path:
        """Where `features` looks for them; it need not exist."""
        return self.root / digest(self._described(forward_key, dataset, samples))[:32]

    def _described(
        self, forward_key: tuple[Any, ...], dataset: Dataset, samples: Sequence[Sample]
    ) -> dict[str, Any]:
        """What the key of features stands for."""
        return {
            "forward": [str(part) for part in forward_key],
            "stored": self.precision,
            "dataset": dataset.name,
            "reading": _reading_options(dataset),
            "files": digest(_image_identities(dataset, samples)),
            "code": bench_code(READING),
        }

    def arrays(
        self,
        folder: Path,
        backbone: Backbone,
        image_size: int,
        specs: Iterable[TokenSpec],
        count: int,
    ) -> CachedFeatures:
        """The arrays of so many samples in a folder, which tell their shapes and bytes."""
        side = image_size // backbone.patch_size
        own = np.dtype(np.float64 if backbone.precision == "fp64" else np.float32)
        dtype = own if self.precision == "full" else np.dtype(np.float16)

        def array(name: str, *row: int) -> ShardedArray:
            return ShardedArray(folder / name, count, row, dtype)

        return CachedFeatures(
            array("class_token", backbone.embed_dim),
            array("class_token_no_ln", backbone.embed_dim),
            {
                spec: array(_spec_name(spec), side * side, backbone.width)
                for spec in sorted(specs, key=_spec_name)
            },
            (side, side),
            own,
        )

    def masks(self, dataset: Dataset, samples: Sequence[Sample], map_size: int) -> CachedMasks:
        """The (perhaps still empty) masks of these samples at a size."""
        rule: MaskRule = dataset.mask_rule
        described = {
            "dataset": dataset.name,
            "reading": _reading_options(dataset),
            "rule": [rule.threshold, rule.resize],
            "size": map_size,
            "files": digest(_mask_identities(dataset, samples)),
            "code": bench_code(READING),
        }
        folder = self.root / f"masks-{digest(described)[:32]}"
        _take_down(folder, {**described, "images": len(samples)})
        row = (-(-map_size * map_size // 8),)
        bits = ShardedArray(folder / "bits", len(samples), row, np.dtype(np.uint8))
        return CachedMasks(bits, map_size)

    def has_room_for(self, cached: CachedFeatures) -> bool:
        """Whether what is missing fits the budget and the disk; logs where it does not."""
        needed = sum(
            array.nbytes * sum(not array.has(s) for s in range(array.shards)) // array.shards
            for array in cached.arrays()
        )
        if not needed:
            return True
        self.root.mkdir(parents=True, exist_ok=True)
        remove_abandoned(self.root)
        used, free = self.used(), self.free()
        if self.fits(needed, used, free):
            return True
        LOG.warning(
            "features of %.1f GB do not fit the cache %s (%.1f of %.1f GB used, %.1f GB free on "
            "disk): they are computed again each epoch; make room with zsad cache clear",
            *(needed / 1e9, self.root, used / 1e9, self.budget / 1e9, free / 1e9),
        )
        return False

    def fits(self, needed: int, used: int, free: int) -> bool:
        """Whether bytes fit the budget beside those used, and leave some of the disk free."""
        return used + needed <= self.budget and needed < free * 0.9

    def used(self) -> int:
        """Bytes that the folder holds."""
        return sum(size_of(path) for path in self.root.rglob("*.npy"))

    def free(self) -> int:
        """Bytes that the disk has left where the folder is, or will be."""
        there = next(path for path in (self.root, *self.root.absolute().parents) if path.exists())
        return shutil.disk_usage(there).free


def _take_down(folder: Path, described: Mapping[str, Any]) -> None:
    """Write what a folder's key stands for, or that it is used again now."""
    path = folder / KEY
    if path.exists():
        with suppress(OSError):  # another user's folder
            path.touch()
    else:
        write_json(path, dict(described))


def _to_half_and_back(tensor: Tensor) -> Tensor:
    half = tensor.half()
    if bool(half.isinf().any()):
        raise too_large("of a training batch", float(tensor.abs().max()))
    return half.to(tensor.dtype)


def size_of(path: Path) -> int:
    """Bytes of a file; 0 where there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:  # another process has just removed it
        return 0


def _spec_name(spec: TokenSpec) -> str:
    branch = "" if spec.value_from is None else f"-from-{spec.value_from}"
    kind = "class-token" if spec.class_token else "tokens"
    return f"{kind}-{spec.layer:02d}{branch}"


def _reading_options(dataset: Dataset) -> dict[str, str]:
    """The options of a dataset that can change the pixels it reads."""
    options = dataset.options.items()
    return {name: str(value) for name, value in options if name not in LABEL_ONLY_OPTIONS}


def _image_identities(dataset: Dataset, samples: Sequence[Sample]) -> list[list[Any]]:
    """What tells each image from any other: name, piece and content."""
    content = _contents([sample.image_path for sample in samples])
    return [[sample.name(dataset.root), content[sample.image_path]] for sample in samples]


def _mask_identities(dataset: Dataset, samples: Sequence[Sample]) -> list[list[Any]]:
    content = _contents([path for sample in samples for path in sample.mask_paths])
    return [
        [*image, sample.label, [content[path] for path in sample.mask_paths]]
        for image, sample in zip(_image_identities(dataset, samples), samples, strict=True)
    ]


def _contents(paths: Sequence[Path]) -> dict[Path, str]:
    """The content of files; "" for one that is missing, which reading will report."""
    there = content_hashes([path for path in paths if path.is_file()])
    return {path: there.get(path, "") for path in paths}
