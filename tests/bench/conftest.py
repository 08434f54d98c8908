"""Hand-made records for the tests of tables, comparison, check, rescore and merge; a browser."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from zsad.bench.analysis import published
from zsad.bench.records.cell import Cell
from zsad.bench.records.record import CategoryResult, ErrorInfo, ImageScores, Record, write_record
from zsad.bench.track import Track

PROTOCOL = {
    "backbone": "ViT-L-14-336",
    "weights_sha256": "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02",
    "map_size": 518,
    "image_size": 518,
    "metric_version": 1,
    "precision": "fp32",
}
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
NO_NORMAL = "there is no normal image"
NO_MASKS = "the dataset has no pixel-level masks"


def _record(
    title: str = "CLIP",
    dataset: str = "mvtec_ad",
    categories: Mapping[str, Mapping[str, float]] | None = None,
    *,
    seed: int = 111,
    variant: str = "official",
    options: Mapping[str, Any] | None = None,
    undefined: Mapping[str, str] | None = None,
    counts: tuple[int, int] = (10, 20),
    error: str | None = None,
    images: Mapping[str, ImageScores] | None = None,
    protocol: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
    timing: Mapping[str, float] | None = None,
    parameters: tuple[int, int] = (0, 0),
    track: Track = Track.ZERO_SHOT,
) -> Record:
    results = [
        CategoryResult(
            category=name,
            class_name=name,
            n_normal=counts[0],
            n_anomalous=counts[1],
            metrics=dict(metrics),
            undefined=dict(undefined or {}),
            images=(images or {}).get(name),
        )
        for name, metrics in (categories or {}).items()
    ]
    method = title.lower().replace("-", "_").replace(" ", "_")
    return Record(
        cell=Cell(method, variant, dataset, seed, dict(options or {})),
        status="error" if error else "ok",
        title=title,
        categories=results,
        protocol={**PROTOCOL, **(protocol or {})},
        provenance=dict(provenance or {"device": "cpu", "started": "2026-01-01T00:00:00+00:00"}),
        timing=dict(timing or {}),
        published_parameters=parameters[0],
        effective_parameters=parameters[1],
        error=ErrorInfo("DataError", error, "Traceback") if error else None,
        track=track,
    )


@pytest.fixture(scope="session")
def make_record() -> Callable[..., Record]:
    """A function that makes a record: title, dataset, {category: {metric: value}}, details."""
    return _record


def paper_records() -> list[Record]:
    """What a run would hold if it gave exactly the numbers that the paper prints.

    MVTecAD and VisA have their categories, all others (and AnoVL, of which no categories are
    printed) one category with the printed value.
    """
    registry_names = {
        name: name.lower().replace("-", "_").replace("mvtecad", "mvtec_ad")
        for name in published.datasets()
    }
    values: dict[tuple[str, str], dict[str, dict[str, float]]] = {}
    for row in published.breakdown():
        if row.category != published.DATASET_MEAN:
            cell = values.setdefault((row.model, row.dataset), {})
            cell.setdefault(row.category, {})[row.metric] = row.value / 100
    whole = set(values)
    for printed in published.main_results():
        key = (printed.model, printed.dataset)
        if key not in whole:
            metrics = values.setdefault(key, {}).setdefault(printed.dataset.lower(), {})
            metrics[printed.metric] = printed.value / 100
    counts = {c.dataset: (c.test_normal, c.test_anomalous) for c in published.counts()}
    records = []
    for (model, dataset), categories in values.items():
        undefined = {}
        if dataset not in published.datasets("image"):
            undefined = dict.fromkeys(("image_auroc", "image_ap", "image_f1max"), NO_NORMAL)
        if dataset not in published.datasets("pixel"):
            undefined = dict.fromkeys(("pixel_auroc", "pixel_pro"), NO_MASKS)
        records.append(
            _record(
                model,
                registry_names[dataset],
                categories,
                undefined=undefined,
                counts=counts[dataset],
                protocol={"dataset_title": dataset, "domain": published.domain_of(dataset)},
                timing={"images": 100.0, "seconds_forward": 10.0, "seconds_predict": 2.0},
            )
        )
    return records


@pytest.fixture(scope="session")
def paper_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory with `paper_records`, written through `write_record`."""
    run = tmp_path_factory.mktemp("paper_run")
    for record in paper_records():
        write_record(run, record)
    return run


def _scored(
    title: str, dataset: str, seed: int, separation: float, size: int = 40, **details: Any
) -> Record:
    """A record with random per-image scores and the metrics that they give."""
    from zsad.bench.metrics import image_metrics

    generator = np.random.default_rng([seed, len(dataset)])
    labels = np.tile([0, 1], size // 2)
    noise = np.random.default_rng([seed, *title.encode()]).normal(size=size) * 0.3
    scores = generator.normal(size=size) + separation * labels + noise
    measured = image_metrics(labels, scores)
    names = [f"test/{i:03d}.png" for i in range(size)]
    images = ImageScores(names, labels.tolist(), scores.tolist())
    return _record(
        title,
        dataset,
        {"one": measured.defined()},
        images={"one": images},
        counts=(size // 2, size // 2),
        **details,
    )


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Path]:
    """The function of made_run.py that makes a whole run with pictures and curves."""
    name = "zsad_test_made_run"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / "made_run.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    made: Callable[..., Path] = sys.modules[name].make_run
    return made


@pytest.fixture(scope="session")
def scored_record() -> Callable[..., Record]:
    """A function that makes a record with scores: title, dataset, random seed, separation."""
    return _scored


def _draw_parts(root: Path, *categories: str, size: tuple[int, int] = (48, 48)) -> Path:
    numbers = np.random.default_rng(0)
    for category in categories:
        for kind in ("normal", "anomalous", "masks"):
            (root / category / kind).mkdir(parents=True)
        for kind in ("normal", "anomalous"):
            for number in range(2):
                pixels = numbers.integers(0, 256, (*size, 3)).astype(np.uint8)
                if kind == "anomalous":
                    mask = np.zeros(size, np.uint8)
                    pixels[10:20, 10:30], mask[10:20, 10:30] = 255, 255
                    Image.fromarray(mask).save(root / category / "masks" / f"{number}.png")
                Image.fromarray(pixels).save(root / category / kind / f"{number}.png")
    return root


@pytest.fixture(scope="session")
def draw_parts() -> Callable[..., Path]:
    """A function that fills a folder as a user would: root, categories ("." is root itself), size.

    Each category has two normal and two anomalous images with masks.
    """
    return _draw_parts


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
