"""A real browser for the tests of pages, Chromium through selenium, and reports to show in it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
DRIVER = shutil.which("chromedriver") or ""
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
DESKTOP = {"width": 1360, "height": 900, "deviceScaleFactor": 1, "mobile": False}


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The browser; what it downloads goes to `driver.downloads`."""
    selenium = pytest.importorskip(
        "selenium.webdriver", reason="needs selenium: pip install zsad[dev]"
    )
    if not CHROMIUM or not DRIVER:
        pytest.skip("needs chromium and chromedriver (Debian: chromium, chromium-driver)")
    from selenium.webdriver.chrome.service import Service

    options = selenium.ChromeOptions()
    options.binary_location = CHROMIUM
    profile = tmp_path_factory.mktemp("profile")
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = selenium.Chrome(options=options, service=Service(DRIVER))
    driver.set_page_load_timeout(60)
    driver.downloads = tmp_path_factory.mktemp("downloads")
    driver.execute_cdp_cmd(
        "Browser.setDownloadBehavior",
        {"behavior": "allow", "downloadPath": str(driver.downloads)},
    )
    yield driver
    driver.quit()


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory, make_run: Any) -> dict[str, Path]:
    """Run folders with a report: of nine methods, of ten, and of fewer methods than datasets."""
    from zsad.bench.report.page import render_report

    titles = ["CLIP", "CLIP-AC", "WinCLIP", "APRIL-GAN", "AnoVL", "CoOp", "CoCoOp"]
    nine = [*titles, "AnomalyCLIP", "FAPrompt"]
    made = {
        "An invented run, not a result": {"titles": nine, "failing": ("CoOp", "btad")},
        "ten methods": {"titles": [*nine, "MediCLIP"], "datasets": ["visa", "btad"]},
        "few methods": {"titles": ["CLIP", "CoOp", "FAPrompt"], "keep": 0},
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
        driver.get("about:blank")  # else only what stands behind the hash would change
        for log in ("browser", "performance"):
            driver.get_log(log)
        driver.get(f"{(folder / 'report.html').as_uri()}{place}")
        driver.execute_script("try { localStorage.clear(); } catch (error) {}")
        return driver

    return show
