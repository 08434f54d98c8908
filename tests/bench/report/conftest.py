"""Reports to show in the browser of the tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

DESKTOP = {"width": 1360, "height": 900, "deviceScaleFactor": 1, "mobile": False}


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory, make_run: Any) -> dict[str, Path]:
    """Run folders with a report, by the first word of their names.

    Of nine methods, of ten, of fewer methods than datasets, and of ten methods on more datasets
    with two seeds.
    """
    from zsad.bench.report.page import render_report

    titles = ["CLIP", "CLIP-AC", "WinCLIP", "APRIL-GAN", "AnoVL", "CoOp", "CoCoOp"]
    nine = [*titles, "AnomalyCLIP", "FAPrompt"]
    made = {
        "An invented run, not a result": {"titles": nine, "failing": ("CoOp", "btad")},
        "ten methods": {"titles": [*nine, "MediCLIP"], "datasets": ["visa", "btad"]},
        "few methods": {"titles": ["CLIP", "CoOp", "FAPrompt"], "keep": 0},
        "many datasets": {
            "titles": [*nine, "MediCLIP"],
            "datasets": [*"abcdefgh", "visa", "elpv", "brainmri"],
            "seeds": (1, 2),
            "images": 6,
            "keep": 0,
        },
    }
    found = {}
    for name, settings in made.items():
        folder = tmp_path_factory.mktemp("run") / name
        make_run(folder, **{"images": 8, "keep": 1, **settings})
        (folder / "report.html").write_text(render_report(folder), encoding="utf-8")
        found[name.split()[0].lower()] = folder
    return found


@pytest.fixture
def show_page(driver: Any) -> Callable[..., Any]:
    """Opens the report of a folder freshly: on a desktop, in the light, with empty logs."""

    def show(folder: Path, place: str = "") -> Any:
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", DESKTOP)
        feature = {"name": "prefers-color-scheme", "value": "light"}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        driver.get("about:blank")  # else only what stands after the hash would change
        for log in ("browser", "performance"):
            driver.get_log(log)
        driver.get(f"{(folder / 'report.html').as_uri()}{place}")
        driver.execute_script("try { localStorage.clear(); } catch (error) {}")
        return driver

    return show
