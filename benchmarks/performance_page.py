"""Write the measured part of docs/performance.md from the JSON files of `all.py`.

    python benchmarks/performance_page.py [--check]

The files of each machine lie in a folder of results/performance/; everything between the two marks
of the page is replaced. `--check` changes nothing and exits with 1 where the page is stale.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tabulate import tabulate

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "performance.md"
RESULTS = ROOT / "results" / "performance"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
FIRST = ("cost_model", "end_to_end", "memory")  # the others follow by name
NOTHING = "Nothing has been measured yet."


def results_of(folder: Path) -> list[dict[str, Any]]:
    """What the scripts measured on one machine, in the order of the page."""
    results = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    order = {name: place for place, name in enumerate(FIRST)}
    return sorted(results, key=lambda it: (order.get(it["script"], len(FIRST)), it["script"]))


def machine_of(machine: Mapping[str, Any]) -> str:
    """What was measured on, and with which versions."""
    versions = f"Python {machine['python']}, torch {machine['torch']}, NumPy {machine['numpy']}"
    return f"{machine['device']}, {machine['threads']} threads; {versions}"


def section(folder: Path) -> str:
    """The tables and ratios of one machine."""
    results = results_of(folder)
    lines = [f"### {folder.name}", "", machine_of(results[0]["machine"])]
    for result in results:
        for table in result["tables"]:
            rows = tabulate(
                table["rows"], table["headers"], tablefmt="github", floatfmt=table["floats"]
            )
            lines += ["", f"**{table['title']}** (`benchmarks/{result['script']}.py`)", "", rows]
        lines += [""] * bool(result["ratios"])
        lines += [f"- {name}: {value:.2f}x" for name, value in result["ratios"].items()]
    return "\n".join(lines)


def page(text: str, results: Path) -> str:
    """The page with its measured part renewed.

    Args:
        text: of the page.
        results: a folder with one for each machine.
    """
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    folders = sorted({path.parent for path in results.glob("*/*.json")})
    measured = "\n\n".join(section(folder) for folder in folders)
    return f"{before}{BEGIN}\n\n{measured or NOTHING}\n\n{END}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    old = PAGE.read_text(encoding="utf-8")
    new = page(old, RESULTS)
    if not check:
        PAGE.write_text(new, encoding="utf-8")
    elif new != old:
        sys.exit(f"{PAGE.name} is stale: python benchmarks/performance_page.py")


if __name__ == "__main__":
    main()
