"""Real samples in their official layouts, in the folder that ZSAD_DATA names."""

import os
import shutil
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from zsad.bench.data.completeness import completeness
from zsad.bench.data.meta_json import meta_of
from zsad.bench.dataset import Counts
from zsad.bench.images import read_image
from zsad.bench.registry import load_dataset
from zsad.datasets.dagm import read_labels
from zsad.datasets.visa import VisA, read_split

pytestmark = pytest.mark.data


def count(dataset, split="test"):
    labels = [s.label for s in dataset.samples(split)]
    return labels.count(0), labels.count(1)


@pytest.mark.parametrize(
    ("name", "normal", "anomalous"), [("brainmri", 98, 155), ("headct", 100, 100)]
)
def test_complete_sets_have_their_counts_and_open(real_data, name, normal, anomalous):
    dataset = load_dataset(name, real_data)
    assert count(dataset) == (normal, anomalous)
    for sample in dataset.samples()[:: 1 if name == "brainmri" else 4]:
        assert min(dataset.read(sample).image.size) > 20


@pytest.mark.parametrize(
    ("name", "normal", "anomalous"),
    [
        ("mvtec_ad", 5, 25),
        ("br35h", 20, 20),
        ("cvc_colondb", 0, 15),
        ("cvc_clinicdb", 0, 26),
        ("kvasir", 0, 50),
    ],
)
def test_samples_are_all_read_with_their_masks(real_data, name, normal, anomalous):
    dataset = load_dataset(name, real_data)
    assert count(dataset) == (normal, anomalous)
    assert dataset.faults() == []
    for sample in dataset.samples():
        reading = dataset.read(sample)
        if dataset.has_masks:
            assert reading.mask.any() == (sample.label == 1)


def test_clinicdb_has_its_colours(real_data):
    dataset = load_dataset("cvc_clinicdb", real_data)
    first = next(s for s in dataset.samples() if s.image_path.name == "1.tif")
    red, green, blue = np.asarray(dataset.read(first).image).reshape(-1, 3).mean(axis=0)
    assert red > green > blue


def test_clinicdbs_tiffs_are_converted_for_the_released_loaders(real_data, tmp_path):
    shutil.copytree(real_data / "CVC-ClinicDB", tmp_path / "CVC-ClinicDB")
    dataset = load_dataset("cvc_clinicdb", tmp_path)
    content = meta_of(dataset, code="anomalyclip", png_into=dataset.root / "converted")
    rows = content["test"]["colon"]
    assert len(rows) == 26
    for row, sample in zip(rows, dataset.samples(), strict=True):
        reading = dataset.read(sample)
        image, mask = (Image.open(dataset.root / row[key]) for key in ("img_path", "mask_path"))
        assert (image.format, mask.format) == ("PNG", "PNG")
        assert np.array_equal(np.asarray(image), np.asarray(reading.image))
        assert np.array_equal(np.asarray(mask.convert("L")) > 0, reading.mask)


def test_clean_threshold_shrinks_jpeg_masks(real_data):
    paper, clean = (load_dataset("kvasir", real_data, mask_threshold=t) for t in (0, 127))
    areas = [sum(int(d.read(s).mask.sum()) for s in d.samples()) for d in (paper, clean)]
    assert 1.05 < areas[0] / areas[1] < 1.3


def labelled_counts(folder):
    """What the Labels.txt below a folder promise for each class; no image is needed."""
    counts = {}
    for place in folder.iterdir():
        numbers = []
        for split in ("Test", "Train"):
            flags = [bool(m) for m in read_labels(place / split / "Label" / "Labels.txt").values()]
            numbers += [len(flags) - sum(flags), sum(flags)]
        counts[place.name] = Counts(*numbers)
    return counts


def test_dagm_labels_promise_the_papers_counts(real_data):
    found = labelled_counts(real_data / "DAGM" / "labels_only")
    expected = load_dataset("dagm", real_data).categories
    assert {name: info.counts for name, info in expected.items()} == found
    assert sum(c.test_normal for c in found.values()) == 6996
    assert sum(c.test_anomalous for c in found.values()) == 1054


def test_dagm_loader_finds_them_once_the_images_are_there(real_data, tmp_path, trees):
    """16,100 links to one tiny image, named as the real labels say."""
    tiny = trees.paint(tmp_path / "tiny.png", mode="L")
    root = tmp_path / "DAGM"
    for listed in sorted((real_data / "DAGM" / "labels_only").rglob("Labels.txt")):
        part = root / listed.parents[2].name / listed.parents[1].name
        (part / "Label").mkdir(parents=True)
        (part / "Label" / "Labels.txt").write_bytes(listed.read_bytes())
        for image, drawn in read_labels(listed).items():
            os.link(tiny, part / image)
            if drawn:
                os.link(tiny, part / "Label" / drawn)
    dataset = load_dataset("dagm", tmp_path)
    assert count(dataset) == (6996, 1054)
    assert count(dataset, "train") == (7004, 1046)
    assert dataset.faults() == []
    per_class = Counter(s.category for s in dataset.samples())
    assert per_class["Class1"] == 575
    assert per_class["Class10"] == 1150


def test_visa_split_has_the_papers_counts_in_all_twelve_rows(real_data):
    rows = read_split(real_data / "VisA" / "split_csv" / "1cls.csv")
    assert len(rows) == 10821
    found = Counter((r.category, r.split, r.label) for r in rows)
    for category, info in VisA.categories.items():
        assert (
            found[category, "test", 0],
            found[category, "test", 1],
            found[category, "train", 0],
        ) == (info.counts.test_normal, info.counts.test_anomalous, info.counts.train_normal)
    assert len({r.category for r in rows}) == 12
    assert sum(r.split == "test" and not r.label for r in rows) == 962
    assert sum(r.split == "test" and r.label for r in rows) == 1200
    for image in (real_data / "VisA").rglob("*.JPG"):
        assert read_image(image).size == (1342, 1118)


def test_sdd_items_give_thirds(real_data):
    dataset = load_dataset("sdd", real_data)
    everything = dataset.samples("test") + dataset.samples("train")
    assert len(everything) == 3 * (8 + 7 + 8)
    assert sum(s.label for s in everything) == 4
    for sample in dataset.samples():
        reading = dataset.read(sample)
        assert reading.mask.any() == (sample.label == 1)
        assert reading.mask.shape == (reading.image.height, reading.image.width)


def test_aitex_irregular_strips(real_data):
    dataset = load_dataset("aitex", real_data)
    normals = [s for split in ("test", "train") for s in dataset.samples(split) if not s.label]
    assert len(normals) == 6 * 16
    anomalous = [s for s in dataset.samples() if s.label]
    stems = {s.image_path.stem for s in anomalous}
    assert stems <= {"0001_002_00", "0094_027_05"}  # not the doubled, the empty, the absent mask
    union = load_dataset("aitex", real_data, multi_mask="union")
    assert sum(s.label for s in union.samples()) > len(anomalous)
    for sample in union.samples():
        reading = union.read(sample)
        assert reading.image.height == 256
        assert reading.mask.any() == (sample.label == 1)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mvtec_ad", "incomplete: 14 of 15 categories missing"),
        ("kvasir", "incomplete: 50 of 1000 images"),
        ("headct", ""),
        ("brainmri", ""),
    ],
)
def test_real_samples_are_told_apart_from_whole_sets(real_data, name, words):
    assert completeness(load_dataset(name, real_data)).words() == words
