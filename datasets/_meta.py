"""The released codes' meta.json, read as one more layout of every dataset.

AnomalyCLIP, FAPrompt, AdaCLIP, April-GAN and Bayes-PFL share the format: a "train" and a "test"
object, each mapping a class to rows of img_path, mask_path, cls_name, specie_name and anomaly,
paths being relative to the dataset's folder. `zsad.bench.data.meta_json` writes it.
"""

from __future__ import annotations

import json
import re
import stat
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from ..bench.dataset import Split
from ..bench.errors import DataError, reading
from ._laid_out import LaidOutDataset
from ._listing import Layout, Listing

FILE_NAME = "meta.json"


class MetaJson(Layout):
    """Rows of a meta.json in the dataset's folder. No row may lead out of that folder."""

    key = "meta"

    def match(self, folder: Path, dataset: type[LaidOutDataset]) -> int:
        """See `Layout.match`: a meta.json may be of any dataset."""
        return int((folder / FILE_NAME).is_file())

    def index(self, folder: Path, dataset: LaidOutDataset) -> Listing:
        """See `Layout.index`."""
        path = folder / FILE_NAME
        found = Listing()
        real = folder.resolve()
        for split, category, row in _rows(path, dataset):
            if not dataset.may_choose(category):
                found.unchosen.add(category)
                continue
            label, drawn = int(row["anomaly"]), row.get("mask_path") or ""
            wants_mask = label == 1 and dataset.has_masks
            image = _file(row["img_path"], folder, real)
            mask = _file(drawn, folder, real) if wants_mask and drawn else None
            if image is None or (wants_mask and drawn and mask is None):
                name = row["img_path"] if image is None else drawn
                found.gaps.append(f"{path} lists '{name}', which does not exist")
            elif wants_mask and mask is None:
                found.tell_no_mask(image)
            else:
                kind = str(row.get("specie_name") or "anomaly") if label else None
                found.samples.append(
                    dataset.sample(
                        image, label, category, anomaly_type=kind, split=split, masks=[mask]
                    )
                )
        return found


def names_masks(folder: Path) -> bool:
    """Whether a folder's meta.json names any mask; no meta.json names none."""
    try:
        text = (folder / FILE_NAME).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False
    return re.search(r'"mask_path"\s*:\s*"[^"]', text) is not None


def _file(text: str, folder: Path, real: Path) -> Path | None:
    """The file below a folder that a path of its meta.json names, None if it does not exist.

    Args:
        text: the path.
        folder: the dataset's.
        real: the same, resolved.

    Raises:
        DataError: the path is absolute, leads out of the folder or is a loop of links.
    """
    told = f"{folder / FILE_NAME} lists '{text}', which"
    relative = _relative(PurePosixPath(text.replace("\\", "/")), folder, real)
    path = None if relative is None else folder / relative
    try:
        if path is None or not path.resolve().is_relative_to(real):
            raise DataError(
                f"{told} leads out of {folder}: paths in it are relative to that folder, or "
                "absolute and contain its name, and stay inside"
            )
        return path if stat.S_ISREG(path.stat().st_mode) else None
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a zero byte
        return None
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop, in Python 3.11 and 3.12
        raise DataError(f"{told} is a loop of links: {error}") from error


def _relative(path: PurePosixPath, folder: Path, real: Path) -> PurePosixPath | None:
    """A path below the folder, None if it lies elsewhere.

    Several of AnomalyCLIP's scripts write absolute paths of the machine that they ran on: what
    follows the name of the dataset's folder counts.
    """
    if path.is_absolute():
        names = {folder.name.lower(), real.name.lower()}
        at = [n for n, part in enumerate(path.parts[:-1]) if part.lower() in names]
        below = [path.parts[n + 1 :] for n in reversed(at)]
        here = [parts for parts in below if (folder / PurePosixPath(*parts)).exists()]
        if not below:
            return None
        path = PurePosixPath(*(here or below)[0])
    leaves = ".." in path.parts or not path.parts or ":" in path.parts[0]
    return None if leaves else path


def _rows(path: Path, dataset: LaidOutDataset) -> Sequence[tuple[Split, str, Mapping[str, Any]]]:
    """Split, category and row of every image; the keys are compared in lower case."""
    with reading(path, "JSON file", DataError):
        content = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_without_twins)
    if not isinstance(content, dict):
        raise DataError(f"{path} is not a meta.json: it holds no object of splits")
    rows: list[tuple[Split, str, Mapping[str, Any]]] = []
    taken: dict[str, str] = {}
    for key, classes in content.items():
        split = key.lower()
        if split not in ("train", "test") or not isinstance(classes, dict):
            raise DataError(f"{path} has the split '{key}': it may have train and test, of classes")
        _refuse_twin(taken, split, key, path, "split")
        named: dict[str, str] = {}
        for name, entries in classes.items():
            category = dataset.category_named(name)
            _refuse_twin(named, (category or name).lower(), name, path, "category")
            if category is None and len(dataset.categories) == 1:
                category = dataset.only_category()
            if category is None:
                raise DataError(
                    f"{path} has the class '{name}', which {dataset.title} does not have"
                )
            if not isinstance(entries, list):
                raise DataError(f"{path}: class '{name}' is not a list of rows")
            rows += [(split, category, _checked(row, path)) for row in entries]
    return rows


def _refuse_twin(taken: dict[str, str], meaning: str, name: str, path: Path, what: str) -> None:
    """Raise `DataError` for a second name of the same split or category."""
    if (earlier := taken.setdefault(meaning, name)) != name:
        raise DataError(
            f"{path} has '{earlier}' and '{name}', which are the same {what}: keep one name"
        )


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, of which plain parsing would keep the last of several equal keys."""
    content = dict(pairs)
    if len(content) < len(pairs):
        twin = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key '{twin}' is there twice")
    return content


def _checked(row: Any, path: Path) -> Mapping[str, Any]:
    good = (
        isinstance(row, dict)
        and isinstance(row.get("img_path"), str)
        and row["img_path"].strip() != ""
        and isinstance(row.get("mask_path") or "", str)
        and row.get("anomaly") in (0, 1)
    )
    if not good:
        raise DataError(
            f"{path} has the row {json.dumps(row)[:200]}: it needs img_path, mask_path ('' for "
            "none) and anomaly (0 or 1)"
        )
    return dict(row)
