"""Make the README's tables and picture from runs, or check that they are not stale.

python docs/readme.py RUN               # RUN is of `zsad run`; needs Chromium
python docs/readme.py RUN --elpv RUN    # also the run of the README's three methods on ELPV
python docs/readme.py --check           # needs Python alone; exits with 1 if something is stale

What was shown is noted in docs/readme.json: the numbers of both runs, and digests of the picture
and of the page that it is of.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PICTURE = ROOT / "docs" / "report-screenshot.png"
NOTED = ROOT / "docs" / "readme.json"
BASELINE = ROOT / "results" / "baselines" / "builtin.json"
PAGE = ROOT / "bench" / "report" / "templates"  # what decides how the page looks
LAYOUTS = {"builtin": ("image", "pixel"), "elpv": ("image",)}
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
SIZE = (1280, 1500)
ROUNDING = 0.05  # of a number with one decimal
FIX = "python docs/readme.py RUN, with the run of `zsad run`, makes it again"

Numbers = Mapping[str, Mapping[str, float]]  # method -> metric -> percent


def block(readme: str, name: str) -> re.Match[str]:
    """The marked block of a name: (mark, content, mark)."""
    marks = rf"(<!-- {name} tables -->\n)(.*?)(<!-- end of {name} tables -->)"
    found = re.search(marks, readme, re.S)
    if found is None:
        sys.exit(f"README.md has no block between <!-- {name} tables --> and its end")
    return found


def digest_of_page() -> str:
    """sha256 over the templates, styles and scripts of the report."""
    digest = hashlib.sha256()
    for path in sorted(p for p in PAGE.rglob("*") if p.suffix in (".html", ".css", ".js")):
        digest.update(path.relative_to(PAGE).as_posix().encode() + b"\n" + path.read_bytes())
    return digest.hexdigest()


def digest_of_picture() -> str:
    """sha256 of the picture."""
    return hashlib.sha256(PICTURE.read_bytes()).hexdigest()


# -- making ----------------------------------------------------------------------------------------


def make(run: Path, elpv: Path | None) -> None:
    """Write the README's blocks, the picture and what they show."""
    noted = json.loads(NOTED.read_text("utf-8")) if NOTED.exists() else {}
    text = README.read_text("utf-8")
    for name, source in (("builtin", run), ("elpv", elpv)):
        if source is not None:
            text, noted = _with_block(text, noted, name, source)
    README.write_text(text, "utf-8")
    _take_picture(run)
    noted |= {"picture": digest_of_picture(), "page": digest_of_page()}
    NOTED.write_text(json.dumps(noted, indent=1, sort_keys=True) + "\n", "utf-8")


def _with_block(
    text: str, noted: Mapping[str, Any], name: str, run: Path
) -> tuple[str, dict[str, Any]]:
    """The README with the tables of a run, and its numbers added to what is noted."""
    from zsad.bench.analysis.frames import scores_frame
    from zsad.bench.metric_table import HEADLINES

    tables = [_zsad("table", str(run), "--layout", layout).strip() for layout in LAYOUTS[name]]
    found = block(text, name)
    new = text[: found.end(1)] + "\n\n".join(tables) + "\n" + text[found.start(3) :]
    frame = scores_frame(run)
    numbers: dict[str, dict[str, float]] = {}
    for row in frame[frame.metric.isin(HEADLINES) & frame.value.notna()].itertuples():
        numbers.setdefault(row.title, {})[row.metric] = round(100 * row.value, 4)
    images = int((frame.n_normal + frame.n_anomalous).max())
    return new, {**noted, name: {"images": images, "numbers": numbers}}


def _zsad(*words: str) -> str:
    """What the command prints."""
    command = [sys.executable, "-m", "zsad", *words]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def _take_picture(run: Path) -> None:
    """A picture of the top of the run's report, as a reader of the page sees it."""
    browser = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit("the picture needs Chromium: install it, or name it in the variable CHROMIUM")
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        _zsad("report", str(run), "--out", str(page), "--title", "builtin")
        root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        options = [
            "--headless=new",
            "--hide-scrollbars",
            "--force-device-scale-factor=1",
            "--virtual-time-budget=5000",
            f"--user-data-dir={folder}/profile",
            f"--window-size={SIZE[0]},{SIZE[1]}",
            f"--screenshot={PICTURE}",
        ]
        command = [browser, *root, *options, page.as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=120)


# -- checking --------------------------------------------------------------------------------------


def stale() -> list[str]:
    """What of the README and its picture is stale, a sentence each."""
    noted = json.loads(NOTED.read_text("utf-8"))
    if missing := [name for name in LAYOUTS if name not in noted]:
        return [f"docs/readme.json has nothing of {', '.join(missing)}"]
    readme = README.read_text("utf-8")
    found = list(_moved(noted["builtin"]["numbers"]))
    for name in LAYOUTS:
        shown = block(readme, name)[2]
        found += [f"README.md, {name} tables: {text}" for text in _faults(shown, noted[name])]
    words = f"{noted['elpv']['images']:,} test images"
    if words not in " ".join(readme.split()):
        found.append(f"README.md does not say that ELPV has {words}")
    if noted["picture"] != digest_of_picture():
        found.append(f"{PICTURE.name} is not the picture that docs/readme.json notes")
    if noted["page"] != digest_of_page():
        found.append(f"{PICTURE.name} shows an earlier state of the report page")
    return found


def _moved(numbers: Numbers) -> Iterator[str]:
    """Where the numbers that were shown are not those of the baseline, beyond its tolerances."""
    baseline = json.loads(BASELINE.read_text("utf-8"))
    tolerances = baseline["tolerances"]
    guarded = {_plain(c["cell"]["method"]): c["categories"] for c in baseline["cells"].values()}
    if {_plain(method) for method in numbers} != set(guarded):
        yield "docs/readme.json has other methods than the baseline"
        return
    for method, own in numbers.items():
        categories = guarded[_plain(method)].values()
        for metric, value in own.items():
            tolerance = 100 * tolerances.get(metric, tolerances["*"])["value"]
            now = 100 * fmean(category[metric] for category in categories)
            if abs(now - value) > tolerance:
                yield f"{method} {metric} was {value:.1f} when it was shown, and is {now:.1f} now"


def _faults(text: str, noted: Mapping[str, Any]) -> Iterator[str]:
    """What of a block's tables is not what is noted: numbers and marks."""
    numbers = {_plain(method): own for method, own in noted["numbers"].items()}
    shown = list(_table_cells(text))
    if {_plain(method) for method, *_ in shown} != set(numbers):
        yield "other methods than those that are noted"
        return
    by_metric: dict[str, list[tuple[str, float, str]]] = {}
    for method, metric, value, mark in shown:
        right = numbers[_plain(method)][metric]
        if abs(value - right) > ROUNDING + 1e-6:
            yield f"{method} {metric} is {value}, the run gave {right:.1f}"
        by_metric.setdefault(metric, []).append((method, value, mark))
    for metric, cells in by_metric.items():
        order = sorted({value for _, value, _ in cells}, reverse=True)
        for method, value, mark in cells:
            wanted = {0: "**", 1: "<u>"}.get(order.index(value), "")
            if mark != wanted:
                yield f"{method} {metric} is marked '{mark}', not '{wanted}', by its rank"


def _table_cells(text: str) -> Iterator[tuple[str, str, float, str]]:
    """(method, metric, value, mark) of every number of a block's tables."""
    titled = re.split(r"\*\*(Image|Pixel)-level \((.*?)\) in percent\*\*", text)
    for level, labels, body in zip(titled[1::3], titled[2::3], titled[3::3], strict=True):
        metrics = [f"{level}_{label}".lower() for label in labels.split(", ")]
        head, _, *rows = [line for line in body.splitlines() if line.startswith("|")]
        methods = [name.strip() for name in head.strip("|").split("|")][2:]
        for row in rows:
            for method, cell in zip(methods, row.strip("|").split("|")[2:], strict=True):
                pair = re.findall(r"(\*\*|<u>|)(\d+\.\d)", cell)
                for metric, (mark, value) in zip(metrics, pair, strict=True):
                    yield method, metric, float(value), mark


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", nargs="?", type=Path, help="a run of `zsad run`")
    parser.add_argument("--elpv", type=Path, help="the run of the README's example on ELPV")
    parser.add_argument("--check", action="store_true", help="only tell what is stale")
    chosen = parser.parse_args()
    if chosen.check == (chosen.run is not None):
        parser.error("give a run, or --check")
    if chosen.run is not None:
        make(chosen.run, chosen.elpv)
    found = stale()
    for text in found:
        sys.stderr.write(f"stale: {text}\n")
    if found:
        sys.exit(f"{FIX}")


if __name__ == "__main__":
    main()
