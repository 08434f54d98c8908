"""A whole run made by hand: drawn images, imperfect maps, and the metrics that they really give.

Tests get it as the fixture `make_run`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from zsad.bench.data.loading import Batch
from zsad.bench.files import write_json
from zsad.bench.metrics import PixelAccumulator, image_metrics, roc_curve_points
from zsad.bench.preprocess import Preprocess
from zsad.bench.records.cell import Cell
from zsad.bench.records.gallery import Gallery
from zsad.bench.records.record import CategoryResult, ErrorInfo, ImageScores, Record, write_record
from zsad.bench.track import Track

SIDE = 56
SKILL = {
    "CLIP": 0.25,
    "CLIP-AC": 0.35,
    "WinCLIP": 0.8,
    "APRIL-GAN": 1.1,
    "AnoVL": 0.95,
    "CoOp": 0.5,
    "CoCoOp": 0.6,
    "AnomalyCLIP": 1.5,
    "FAPrompt": 1.7,
}
DATASETS: Mapping[str, tuple[str, str, tuple[str, ...], float]] = {
    "mvtec_ad": ("MVTecAD", "industrial", ("carpet", "hazelnut", "screw"), 1.3),
    "visa": ("VisA", "industrial", ("candle", "pcb4"), 1.0),
    "btad": ("BTAD", "industrial", ("01", "02"), 1.1),
    "elpv": ("ELPV", "industrial", ("elpv",), 0.8),
    "brainmri": ("BrainMRI", "medical", ("brain",), 1.4),
    "isic": ("ISIC", "medical", ("isic",), 1.2),
}
IMAGE_ONLY = ("elpv", "brainmri")
PIXEL_ONLY = ("isic",)


def make_run(
    folder: Path,
    titles: Sequence[str] = tuple(SKILL),
    datasets: Sequence[str] = tuple(DATASETS),
    options: Sequence[Mapping[str, Any]] = ({},),
    seeds: Sequence[int] = (111,),
    images: int = 24,
    keep: int = 2,
    backbone: str = "ViT-L-14-336",
    failing: tuple[str, str] | None = None,
    track: Track = Track.ZERO_SHOT,
) -> Path:
    """Write a run directory and return it.

    Args:
        folder: where.
        titles: methods of `SKILL`, or any other title of middling skill.
        datasets: names of `DATASETS`, or any other name (its own domain, one category).
        options: every method runs once with each of them.
        seeds: every cell runs once with each of them.
        images: per category.
        keep: gallery cases.
        backbone: as the protocol states it.
        failing: (title, dataset) of a cell that has failed.
        track: of all methods.
    """
    for dataset in datasets:
        title, domain, categories, ease = DATASETS.get(dataset, (dataset, "custom", ("one",), 1.0))
        drawn = {name: _draw(dataset, name, images) for name in categories}
        for method in titles:
            for option in options:
                for seed in seeds:
                    cell = Cell(_registry_name(method), "official", dataset, seed, dict(option))
                    if failing == (method, dataset):
                        write_record(folder, _failed(cell, method))
                        continue
                    skill = SKILL.get(method, 0.7) * ease + _gain(option)
                    results = [
                        _score(folder, cell, name, drawn[name], skill, keep) for name in categories
                    ]
                    protocol = _protocol(title, domain, backbone)
                    record = _record(cell, method, results, protocol)
                    write_record(folder, dataclasses.replace(record, track=track))
    write_json(folder / "plan.json", {"datasets": list(datasets), "methods": list(titles)})
    return folder


def _registry_name(title: str) -> str:
    return title.lower().replace("-", "_")


def _gain(option: Mapping[str, Any]) -> float:
    """Some options help a little and then no more."""
    return sum(0.25 * np.log2(v) for v in option.values() if isinstance(v, int | float) and v > 0)


def _draw(dataset: str, category: str, count: int) -> list[tuple[Any, Any, int]]:
    """Images uint8 [S, S, 3], masks [S, S] and labels: textures, half of them with a blemish."""
    generator = np.random.default_rng([*dataset.encode(), *category.encode()])
    tint = generator.uniform(60, 200, 3)
    scale = generator.uniform(0.8, 5)
    drawn = []
    for i in range(count):
        texture = gaussian_filter(generator.normal(size=(SIDE, SIDE)), scale) * scale * 60
        image = np.clip(
            tint + texture[..., None] + generator.normal(size=(SIDE, SIDE, 3)) * 3, 0, 255
        )
        label = 1 if dataset in PIXEL_ONLY else i % 2
        mask = np.zeros((SIDE, SIDE), bool)
        if label:
            y, x = generator.uniform(12, SIDE - 12, 2)
            ry, rx = generator.uniform(3, 10, 2)
            yy, xx = np.mgrid[:SIDE, :SIDE]
            mask = ((yy - y) / ry) ** 2 + ((xx - x) / rx) ** 2 < 1
            image[mask] = np.clip(image[mask] * 0.35 + generator.uniform(-20, 60, 3), 0, 255)
        drawn.append((image.astype(np.uint8), mask, label))
    return drawn


def _score(
    folder: Path, cell: Cell, category: str, drawn: list[Any], skill: float, keep: int
) -> CategoryResult:
    generator = np.random.default_rng([*cell.key.encode(), *category.encode()])
    names, labels, scores, heats = [], [], [], []
    has_masks = cell.dataset not in IMAGE_ONLY
    with PixelAccumulator() as pixels:
        for i, (_, mask, label) in enumerate(drawn):
            noise = gaussian_filter(generator.normal(size=(SIDE, SIDE)), 4) * 4
            heat = (noise + 1.4 * skill * gaussian_filter(mask.astype(float), 2.5)).astype("f4")
            score = float(heat.max() * 0.4 + skill * 0.8 * label + generator.normal() * 0.6)
            names.append(f"{category}/test/{'bad' if label else 'good'}/{i:03d}.png")
            labels.append(label)
            scores.append(score)
            heats.append(heat)
            pixels.update(mask[None], heat[None])
        preprocess = Preprocess(SIDE)
        prepared = torch.stack([preprocess(Image.fromarray(image)) for image, _, _ in drawn])
        truth = torch.from_numpy(np.stack([mask for _, mask, _ in drawn])) if has_masks else None
        words = [category] * len(names)
        gallery = Gallery(folder, keep)
        gallery.add_batch(
            cell,
            Batch(prepared, torch.tensor(labels), truth, words, names, 0),
            torch.tensor(scores, dtype=torch.float64),
            torch.from_numpy(np.stack(heats)),
            preprocess,
        )
        gallery.write(category)
        measured, per_pixel = image_metrics(np.asarray(labels), np.asarray(scores)), pixels.result()
        curves = {}
        metrics, undefined = measured.defined(), dict(measured.undefined)
        if measured.image_auroc is not None:
            curves["image_roc"] = _points(roc_curve_points(labels, scores, 80))
        if has_masks:
            metrics |= per_pixel.defined()
            undefined |= per_pixel.undefined
            curves["pixel_roc"] = _points(pixels.roc_curve(80))
            curves["pixel_pro"] = _points(pixels.pro_curve(80))
        else:
            why = "the dataset has no pixel-level masks"
            undefined |= dict.fromkeys(per_pixel.defined(), why)
    return CategoryResult(
        category,
        category,
        labels.count(0),
        labels.count(1),
        metrics,
        undefined,
        ImageScores(names, labels, scores),
        curves,
    )


def _points(curve: Any) -> dict[str, list[float]]:
    return {
        "x": [round(float(v), 5) for v in curve.fpr],
        "y": [round(float(v), 5) for v in curve.detection_rate],
    }


def _protocol(title: str, domain: str, backbone: str) -> dict[str, Any]:
    return {
        "dataset_title": title,
        "domain": domain,
        "backbone": backbone,
        "weights_sha256": "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02",
        "image_size": 518,
        "map_size": SIDE,
        "interpolation": "bicubic",
        "smoothing_sigma": 4,
        "precision": "fp32",
        "metric_version": 1,
        "limit": None,
    }


def _record(
    cell: Cell, title: str, results: list[CategoryResult], protocol: Mapping[str, Any]
) -> Record:
    images = sum(r.n_normal + r.n_anomalous for r in results)
    own = 0.002 + 0.012 * SKILL.get(title, 0.7)
    trained = title in ("APRIL-GAN", "CoOp", "CoCoOp", "AnomalyCLIP", "FAPrompt")
    return Record(
        cell=cell,
        status="ok",
        title=title,
        categories=results,
        protocol=protocol,
        provenance={
            "device": "NVIDIA H100",
            "started": "2026-03-02T10:00:00+00:00",
            "python": "3.11.7",
            "torch": "2.6.0",
            "commit": "0123abc",
        },
        timing={
            "images": float(images),
            "seconds_forward": 0.031 * images,
            "seconds_predict": own * images,
            "ms_per_image": 1000 * (0.031 + own),
            "peak_memory_mb": 3000.0 + 500 * SKILL.get(title, 0.7),
            **({"seconds_train": 420.0} if trained else {}),
        },
        published_parameters=9_612_256 if title == "FAPrompt" else 0,
        effective_parameters=4_100_064 if title == "FAPrompt" else 0,
    )


def _failed(cell: Cell, title: str) -> Record:
    trace = "Traceback (most recent call last):\n  ...\nDataError: bad"
    error = ErrorInfo("DataError", "image 007.png of BTAD is cut off: copy it again", trace)
    return Record(cell=cell, status="error", title=title, error=error)
