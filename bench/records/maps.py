"""The raw anomaly maps of a run, kept so that metrics can be computed again without a model.

maps/<cell>/<category>.npz    `maps` float32 [N, M, M] and `masks` bool [N, M, M]
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import reading
from ..files import whole_file
from .cell import Cell
from .record import RecordError
from .run_folder import maps_path


def write_maps(
    run: Path, cell: Cell, category: str, maps: NDArray[np.float32], masks: NDArray[np.bool_]
) -> Path:
    """Keep the maps and masks [N, M, M] of a cell's category."""
    path = maps_path(run, cell, category)
    with whole_file(path) as file:
        np.savez_compressed(file, maps=maps, masks=masks)
    return path


def read_maps(path: Path) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The maps and masks that `write_maps` wrote; nothing is unpickled.

    Raises:
        RecordError: the file is broken or holds something else.
    """
    with (
        reading(path, "file of maps and masks", RecordError, ": run the cell again"),
        np.load(path, allow_pickle=False) as stored,
    ):
        maps, masks = stored["maps"], stored["masks"]
    if masks.shape != maps.shape or maps.ndim != 3 or masks.dtype != bool:
        raise RecordError(f"{path}: maps {maps.shape} and masks {masks.shape} do not fit")
    return maps, masks
