"""Sample sheets: some images of a dataset with the outlines of their masks."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from .. import registry
from ..analysis.matrix import TargetDataset
from ..analysis.notices import BUILT_IN_DOMAINS
from ..data.contact_sheet import choose, contact_sheet
from ..errors import ZsadError, shortened
from ..files import file_name, output_file

LOG = logging.getLogger(__name__)
SAMPLES, COLUMNS, QUALITY = 12, 6, 85
LONGEST = 200  # characters of a message
DRAWN = ("synthetic", *BUILT_IN_DOMAINS)  # domains of the sets that zsad draws itself


def draw_sheets(
    datasets: Iterable[tuple[TargetDataset, str]], data_root: Path | None, out: Path
) -> dict[TargetDataset, str]:
    """Draw a sheet of each dataset that is found; other datasets have none.

    Built-in datasets are drawn always; of others images are shown only where a data root is given,
    since their terms may forbid it.

    Args:
        datasets: each with its registry name.
        data_root: a folder that holds datasets, or None.
        out: the site's folder.

    Returns:
        The sheets' places below `out`.

    Raises:
        FileError: a sheet cannot be written.
    """
    found = {}
    for dataset, name in datasets:
        try:
            if data_root is None and registry.dataset_class(name).domain not in DRAWN:
                continue
            opened = registry.load_dataset(name, data_root)
            sheet = contact_sheet(opened, choose(opened.samples(), SAMPLES), COLUMNS)
        except ZsadError as error:
            LOG.warning("no samples of %s: %s", name, shortened(str(error), LONGEST))
            continue
        place = f"datasets/{file_name(dataset.name)}.jpg"
        with output_file(out / place) as file:
            sheet.save(file, format="JPEG", quality=QUALITY)
        found[dataset] = place
    return found
