"""PRO of the same maps as different codes compute it: the table of docs/metrics.md.

zsad run --methods clip,winclip --save-maps --out RUN
python docs/pro_definitions.py RUN          # prints the table
python docs/pro_definitions.py RUN --write  # puts it into docs/metrics.md
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
from zsad.bench import metrics
from zsad.bench.analysis.changed_maps import (
    RULES,
    Maps,
    Masks,
    resized_maps,
    resized_masks,
    smoothed,
)
from zsad.bench.records.maps import read_maps
from zsad.bench.records.record import Record, read_records
from zsad.bench.records.run_folder import maps_path

PAGE = Path(__file__).with_name("metrics.md")
BEGIN, END = "<!-- docs/pro_definitions.py -->\n", "<!-- end -->\n"
Pair = tuple[Maps, Masks]


def levels(maps: Maps, count: int) -> Maps:
    """Maps in so many equal bins between the extremes of their category."""
    low, high = maps.min(), maps.max()
    scaled = (maps - low) / (high - low) * count
    return np.minimum(np.floor(scaled), count - 1).astype(np.float32)


def sharper(maps: Maps, factor: float) -> Maps:
    """Probabilities after a softmax of so much less temperature, in float32 like the maps."""
    wide = np.clip(maps, 1e-7, 1 - 1e-7).astype(np.float64)
    odds = np.log(wide) - np.log1p(-wide)
    return (1 / (1 + np.exp(-factor * odds))).astype(np.float32)


def exact(maps: Maps, masks: Masks, limit: float = 0.3) -> float:
    """Every distinct value is a threshold."""
    return metrics.pro(masks, maps, fpr_limit=limit)


def steps(maps: Maps, masks: Masks) -> float:
    """200 equal steps, as the released codes."""
    with metrics.PixelAccumulator() as pixels:
        pixels.update(masks, maps)
        found = pixels.result(["pixel_pro_official200"]).pixel_pro_official200
    return float("nan") if found is None else found


def at_side(maps: Maps, masks: Masks, side: int, rule: str = "official") -> float:
    """Exact, of maps and masks at another size."""
    drawn, _ = resized_masks(masks, side, RULES[rule])
    return exact(resized_maps(maps, side, "bilinear"), drawn)


Definition = Callable[[Maps, Masks], float]
DEFINITIONS: dict[str, Definition] = {
    "every distinct value a threshold, up to 0.3: `pixel-pro`": exact,
    "200 equal steps, rates stretched to [0, 1]: `pixel-pro-official200`": steps,
    "maps in 256 equal bins (pictures of 8 bits)": lambda a, m: exact(levels(a, 256), m),
    "maps in 200 equal bins": lambda a, m: exact(levels(a, 200), m),
    "maps in 20 equal bins": lambda a, m: exact(levels(a, 20), m),
    "a tenth of the temperature, every distinct value": lambda a, m: exact(sharper(a, 10), m),
    "a tenth of the temperature, 200 equal steps": lambda a, m: steps(sharper(a, 10), m),
    "a fiftieth of the temperature, every distinct value": lambda a, m: exact(sharper(a, 50), m),
    "a fiftieth of the temperature, 200 equal steps": lambda a, m: steps(sharper(a, 50), m),
    "up to 0.05: `pixel-pro-05`": lambda a, m: exact(a, m, 0.05),
    "up to 1": lambda a, m: exact(a, m, 1.0),
    "maps and masks brought to 48 px": lambda a, m: at_side(a, m, 48),
    "maps and masks brought to 48 px, masks by nearest pixels": lambda a, m: at_side(
        a, m, 48, "nearest"
    ),
    "maps and masks brought to 32 px": lambda a, m: at_side(a, m, 32),
    "a further Gaussian of 4 px": lambda a, m: exact(smoothed(a, 4), m),
    "a further Gaussian of 8 px": lambda a, m: exact(smoothed(a, 8), m),
}
POOLED = "the images of all categories as one category"


def rows(records: Sequence[Record], run: Path) -> Iterable[tuple[str, list[str]]]:
    """Each definition with the mean over categories of every record, in percent."""
    pairs: list[list[Pair]] = [
        [read_maps(maps_path(run, record.cell, r.category)) for r in record.categories]
        for record in records
    ]
    for words, definition in DEFINITIONS.items():
        yield words, [text(definition(*pair) for pair in own) for own in pairs]
    pooled = [tuple(map(np.concatenate, zip(*own, strict=True))) for own in pairs]
    yield POOLED, [text([exact(*pair)]) for pair in pooled]


def text(values: Iterable[float]) -> str:
    """The mean as it is printed."""
    return f"{100 * fmean(values):.1f}"


def table(run: Path) -> str:
    """The table in Markdown."""
    records = [record for record in read_records(run) if record.error is None]
    head = ["PRO of the same maps", *(record.title for record in records)]
    lines = [head, ["---", *["---:"] * len(records)]]
    lines += [[words, *values] for words, values in rows(records, run)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main() -> None:
    """Print the table, or write it into the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    made = table(given.run)
    if not given.write:
        print(made, end="")  # noqa: T201
        return
    page = PAGE.read_text("utf-8")
    between = re.compile(f"(?<={re.escape(BEGIN)}).*?(?={re.escape(END)})", re.DOTALL)
    PAGE.write_text(between.sub(made.replace("\\", r"\\"), page), "utf-8")


if __name__ == "__main__":
    main()
