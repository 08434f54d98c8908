"""A site of two runs and a results repository, with two backbones and two tracks."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from zsad.bench.analysis.resampling import Settings
from zsad.bench.export.repository import place_records
from zsad.bench.records.record import Record, read_records, write_record
from zsad.bench.records.repository import read_sources
from zsad.bench.site.catalogue import Catalogue
from zsad.bench.site.pages import Wishes, write_site
from zsad.bench.track import Track


@pytest.fixture(scope="session")
def sources(make_run, tmp_path_factory) -> list[Path]:
    """Runs of two backbones, and a repository with a method of another track."""
    root = tmp_path_factory.mktemp("sources")
    small = {"images": 10, "keep": 0}
    make_run(root / "a", ("CLIP", "WinCLIP", "FAPrompt"), ("visa", "elpv", "synthetic"), **small)
    make_run(root / "b", ("CLIP",), ("visa",), **small, backbone="ViT-B-16-plus-240")
    other = make_run(root / "c", ("MuSc",), ("visa",), **small, track=Track.TRANSDUCTIVE)
    place_records(read_records(other), root / "repository")
    return [root / "a", root / "b", root / "repository"]


@pytest.fixture(scope="session")
def wrong_run(make_run, tmp_path_factory) -> Path:
    """A run whose only record does not follow from its scores."""
    run = make_run(tmp_path_factory.mktemp("wrong"), ("AnoVL",), ("elpv",), images=10, keep=0)
    (record,) = read_records(run)
    (result,) = record.categories
    metrics = {**result.metrics, "image_f1max": 0.123}
    result = dataclasses.replace(result, metrics=metrics)
    write_record(run, dataclasses.replace(record, categories=[result]))
    return run


@pytest.fixture(scope="session")
def shown_records(sources, wrong_run) -> list[Record]:
    return read_sources([*sources, wrong_run])


@pytest.fixture(scope="session")
def site(shown_records, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("site")
    write_site(Catalogue.of(shown_records), out, Wishes("Board", settings=Settings(replicates=100)))
    return out
