"""Frozen features on disk, keyed by everything they depend on.

    <root>/<key>/class_token/00000.npy       rows 0..31 of one array, whole or absent
    <root>/<key>/tokens-24-from-6/00000.npy  [32, L, W]
    <root>/<key>/key.json                    what the key stands for, to be read by people
    <root>/masks-<key>/bits/00000.npy        masks, eight pixels a byte

An array is cut into shards, and a shard is written to a temporary name and renamed. A writer that
is killed loses the shard it was at and nothing else, and two writers of one shard write the same.
A shard ends with a checksum, which is compared when the shard is opened.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..backbone import Backbone, TokenSpec, VisualFeatures
from ..code_hash import READING, bench_code
from ..content import content_hashes
from ..dataset import Dataset, Sample
from ..files import remove_abandoned, whole_file, write_json
from ..images import MaskRule

LOG = logging.getLogger(__name__)

SHARD = 32
"""Rows of a shard, a multiple of every batch size that fills it."""

DEFAULT_BUDGET = 64 * 2**30
"""Bytes; the four layers of APRIL-GAN for MVTec AD's test split are 39 GB in fp32."""

CHECKSUM_BYTES = 4  # behind the array, where np.load does not look
LABEL_ONLY_OPTIONS = frozenset({"class_names", "class_name", "mask_threshold", "mask_resize"})

CachePrecision = Literal["full", "fp16"]


def features_folder() -> Path:
    """Where features are kept if nothing else is said: $ZSAD_FEATURES or ~/.cache/zsad/features."""
    return Path(os.environ.get("ZSAD_FEATURES", Path.home() / ".cache" / "zsad" / "features"))


def digest(value: Any) -> str:
    """sha256 of a value's JSON text; equal values have equal digests in every process."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _checksum(array: NDArray[Any]) -> bytes:
    """CRC-32 of an array's values: it notices damage, as a flipped bit, and no intent."""
    return zlib.crc32(np.ascontiguousarray(array).data).to_bytes(CHECKSUM_BYTES, "little")


def _last_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(-CHECKSUM_BYTES, os.SEEK_END)
        return file.read()


@dataclass
class ShardedArray:
    """An array [count, *row] on disk, in shards that are mapped into memory when read."""

    folder: Path
    count: int
    row: tuple[int, ...]
    dtype: np.dtype[Any]
    _open: dict[int, NDArray[Any]] = field(default_factory=dict, repr=False)

    @property
    def shards(self) -> int:
        """Number of shards that the whole array has."""
        return -(-self.count // SHARD)

    @property
    def nbytes(self) -> int:
        """Bytes of the whole array."""
        return self.count * int(np.prod(self.row, dtype=np.int64)) * self.dtype.itemsize

    def has(self, shard: int) -> bool:
        """Whether a shard is there, and whole; a broken one is removed."""
        if shard in self._open:
            return True
        path = self._path(shard)
        if not path.exists():
            return False
        rows = min(SHARD, self.count - shard * SHARD)
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
            if _last_bytes(path) != _checksum(array):
                array = np.empty(0)
        except (OSError, ValueError, EOFError):
            array = np.empty(0)
        if array.shape != (rows, *self.row) or array.dtype != self.dtype:
            LOG.warning("%s is broken and will be computed again", path)
            path.unlink(missing_ok=True)
            return False
        self._open[shard] = array
        return True

    def write(self, shard: int, rows: NDArray[Any]) -> None:
        """Write a shard; it appears whole or not at all."""
        array = np.ascontiguousarray(rows, dtype=self.dtype)
        with whole_file(self._path(shard)) as file:
            np.save(file, array, allow_pickle=False)
            file.write(_checksum(array))

    def rows(self, indices: Sequence[int]) -> NDArray[Any]:
        """Rows in the order of `indices`, [len(indices), *row], as a copy in memory.

        Raises:
            KeyError: a row's shard is not there.
        """
        out = np.empty((len(indices), *self.row), dtype=self.dtype)
        for place, index in enumerate(indices):
            shard, within = divmod(int(index), SHARD)
            if not self.has(shard):
                raise KeyError(f"row {index} of {self.folder}")
            out[place] = self._open[shard][within]
        return out

    def _path(self, shard: int) -> Path:
        return self.folder / f"{shard:05d}.npy"


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

    def batch(self, indices: Sequence[int], specs: Iterable[TokenSpec]) -> VisualFeatures:
        """Features of some samples on the CPU, with these patch tokens only."""

        def read(array: ShardedArray) -> Tensor:
            return torch.from_numpy(array.rows(indices).astype(self.dtype, copy=False))

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
        flat = np.unpackbits(self.bits.rows(indices), axis=1, count=self.size * self.size)
        return torch.from_numpy(flat.astype(bool)).reshape(-1, self.size, self.size)


@dataclass(frozen=True)
class FeatureCache:
    """A folder of frozen features with a byte budget.

    Attributes:
        root: the folder; it may be deleted at any time, and is shared by all runs.
        precision: "full" is the backbone's own; "fp16" takes half the bytes for slightly other
            numbers.
        budget: bytes that the folder may grow to; features that do not fit are computed each time.
    """

    root: Path = field(default_factory=features_folder)
    precision: CachePrecision = "full"
    budget: int = DEFAULT_BUDGET

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
        described = {
            "forward": [str(part) for part in forward_key],
            "stored": self.precision,
            "dataset": dataset.name,
            "reading": _reading_options(dataset),
            "files": digest(_image_identities(dataset, samples)),
            "code": bench_code(READING),
        }
        folder = self.root / digest(described)[:32]
        side = image_size // backbone.patch_size
        own = np.dtype(np.float64 if backbone.precision == "fp64" else np.float32)
        dtype = own if self.precision == "full" else np.dtype(np.float16)

        def array(name: str, *row: int) -> ShardedArray:
            return ShardedArray(folder / name, len(samples), row, dtype)

        cached = CachedFeatures(
            array("class_token", backbone.embed_dim),
            array("class_token_no_ln", backbone.embed_dim),
            {
                spec: array(_spec_name(spec), side * side, backbone.width)
                for spec in sorted(specs, key=_spec_name)
            },
            (side, side),
            own,
        )
        if not (folder / "key.json").exists():
            write_json(folder / "key.json", {**described, "images": len(samples)})
        return cached

    def masks(self, dataset: Dataset, samples: Sequence[Sample], map_size: int) -> CachedMasks:
        """The (perhaps still empty) masks of these samples at a size."""
        rule: MaskRule = dataset.mask_rule
        key = digest(
            {
                "dataset": dataset.name,
                "reading": _reading_options(dataset),
                "rule": [rule.threshold, rule.resize],
                "size": map_size,
                "files": _mask_identities(dataset, samples),
                "code": bench_code(READING),
            }
        )
        folder = self.root / f"masks-{key[:32]}"
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
        used, free = self.used(), shutil.disk_usage(self.root).free
        if used + needed <= self.budget and needed < free * 0.9:
            return True
        LOG.warning(
            "features of %.1f GB do not fit the cache %s (%.1f of %.1f GB used, %.1f GB free on "
            "disk): they are computed again each epoch; clear the folder or raise the budget",
            *(needed / 1e9, self.root, used / 1e9, self.budget / 1e9, free / 1e9),
        )
        return False

    def used(self) -> int:
        """Bytes that the folder holds."""
        return sum(_size(path) for path in self.root.rglob("*.npy"))


def _size(path: Path) -> int:
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
