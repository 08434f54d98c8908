"""The plan of a run again at several sizes of the input images."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..names import known_name
from ..records.run_folder import plan_path
from .plan import Plan, make_plan, read_plan_settings

IMAGE_SIZE = "image_size"


def plan_of_sizes(run: Path, sizes: Sequence[int], datasets: Sequence[str] = ()) -> Plan:
    """A run's plan with the option `image_size` of every method at each of some sizes.

    The new run lies in the folder `image_size` of the old one and keeps neither maps nor pictures.

    Args:
        run: a run directory.
        sizes: in pixels.
        datasets: only these of the plan, by name; all if empty.

    Raises:
        UsageError: the run's plan is missing or broken, or a size or a dataset is refused.
    """
    settings = read_plan_settings(plan_path(run))
    entries: list[dict[str, object]] = []
    for method in settings.pop("methods"):
        table: dict[str, Any] = {"name": method} if isinstance(method, str) else {**method}
        options = {k: v for k, v in table.get("options", {}).items() if k != IMAGE_SIZE}
        entry = {**table, "options": options, "sweep": {IMAGE_SIZE: [*sizes]}}
        if entry not in entries:  # that differed in their sizes alone
            entries.append(entry)
    own = {"out": str(run / IMAGE_SIZE), "save_maps": False, "gallery": 0}
    plan = make_plan(methods=entries, **{**settings, **own})
    if not datasets:
        return plan
    known = {entry.target: entry for entry in plan.datasets}
    wanted = {known_name("dataset of this run", name, known) for name in datasets}
    kept = tuple(entry for name, entry in known.items() if name in wanted)
    return dataclasses.replace(plan, datasets=kept)
