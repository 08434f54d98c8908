"""The built-in sets: drawn the same everywhere, disjoint, with exact masks."""

from __future__ import annotations

import itertools
import multiprocessing

import numpy as np
import pytest
from PIL import Image
from zsad.bench import load_dataset
from zsad.bench.data.check import built_in_names
from zsad.bench.errors import UsageError
from zsad.datasets import _kinds as catalogue
from zsad.datasets import _synthetic as drawings

TEST_PIXELS = "d917b372d9364eea9bd9a7313d7dc94568295e9f39d620fc5646b22399c40f89"
TRAIN_PIXELS = "4a9d3de936e6f0edd40e891c5988c853e4e33884ae7901449e3642c8f9872117"
PIXELS = {
    "synthetic": TEST_PIXELS,
    "synthetic_aux": "c3761545eebcebae5de8f64434a12568f8e22d229a33eb4cf221bba216203e21",
    "synthetic_fabrics": "0978c1859c86550fa789b47a571a7d01f9179c75dab318e497c2983737fb18e8",
    "synthetic_goods": "ef5ea1fb6d5f90bdd8596c322ae44bdbd306865132387affd062b37febeee564",
    "synthetic_moles": "1c32cae4c76ca4e2ba613fe8d413d618143e09e016254f9a1ff47caf91b57074",
    "synthetic_parts": "75e48463728ca9a286d7322e6f7a0219287665a60f90bfe87364427d6e21ede6",
    "synthetic_polyps": "ec7bc64dc2c1600fc8c471d65363f2a1f1a30ca0235b846e16d4b112e2846612",
    "synthetic_scans": "31bc1440357c51d57b2c82984a90dba814044323edbbc0956a1042b516eae6d0",
    "synthetic_stones": "96bad501b92787bfbc05da7533c00402a0a08aed6c0d0065e5aaeaee40c8437a",
}
SMALL = [name for name in built_in_names() if name != "synthetic"]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """A cache of its own, so that drawing is really tested."""
    patch = pytest.MonkeyPatch()
    patch.setenv("ZSAD_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


@pytest.mark.parametrize(("name", "pixels"), PIXELS.items())
def test_every_machine_draws_the_same_pixels(name, pixels):
    assert load_dataset(name).fingerprint("test") == pixels


def test_the_training_pictures_are_normal_and_none_is_a_test_picture():
    dataset = load_dataset("synthetic")
    train, test = dataset.samples("train"), dataset.samples("test")
    assert [s.category for s in train] == [c for c in dataset.categories for _ in range(16)]
    assert {(s.label, s.split, s.mask_paths) for s in train} == {(0, "train", ())}
    assert dataset.expected().train_normal == len(train)
    pixels = {dataset.read(s).image.tobytes() for s in train}
    assert len(pixels) == len(train)
    assert not pixels & {dataset.read(s).image.tobytes() for s in test}
    assert dataset.fingerprint("train") == TRAIN_PIXELS
    assert dataset.fingerprint("test") == TEST_PIXELS
    assert load_dataset("synthetic_aux").samples("train") == []


def test_the_fingerprint_follows_the_pixels_on_disk(tmp_path):
    tmp_path.joinpath("own").mkdir()
    dataset = load_dataset("synthetic", tmp_path / "own")
    before = dataset.fingerprint()
    sample = next(s for s in dataset.samples() if s.label == 1)
    image = Image.open(sample.image_path).convert("RGB")
    image.save(sample.image_path, compress_level=0)
    assert dataset.fingerprint() == before, "the encoder is not content"
    image.putpixel((0, 0), tuple(255 - value for value in image.getpixel((0, 0))))
    image.save(sample.image_path)
    assert dataset.fingerprint() != before


def test_the_test_set_is_large_and_balanced():
    samples = load_dataset("synthetic").samples("test")
    categories = {s.category for s in samples}
    assert len(samples) >= 448
    for category in categories:
        labels = [s.label for s in samples if s.category == category]
        assert labels.count(0) >= 40
        assert labels.count(1) >= 40


def test_no_class_and_three_kinds_of_defects_are_new_to_the_test_set():
    groups = [
        {kind.name for kind in kinds}
        for kinds in (
            catalogue.BACKBONE_KINDS,
            catalogue.VALIDATION_KINDS,
            catalogue.AUXILIARY_KINDS,
            catalogue.TEST_KINDS,
        )
    ]
    assert len(set().union(*groups)) == sum(map(len, groups))
    functions = [
        {kind.draw for kind in kinds}
        for kinds in (catalogue.BACKBONE_KINDS, catalogue.AUXILIARY_KINDS, catalogue.TEST_KINDS)
    ]
    assert not functions[2] & (functions[0] | functions[1])
    assert len(set(catalogue.TEST_DEFECTS) - set(catalogue.VALIDATION_DEFECTS)) >= 3
    assert len(set(catalogue.VALIDATION_DEFECTS) - set(catalogue.AUXILIARY_DEFECTS)) >= 2


def test_the_sets_of_three_domains_are_small_and_of_classes_and_drawings_of_their_own():
    kinds = [kind for name in SMALL for kind in load_dataset(name).kinds]
    others = (catalogue.BACKBONE_KINDS, catalogue.AUXILIARY_KINDS)
    known = {k.name for group in (*others, catalogue.TEST_KINDS) for k in group}
    assert len({kind.name for kind in kinds} - known) == len(kinds)
    assert not {k.draw for k in kinds} & {k.draw for group in others for k in group}
    assert sum(len(load_dataset(name).samples()) for name in SMALL) < 240
    domains = [load_dataset(name).domain for name in SMALL]
    assert {domain: domains.count(domain) for domain in domains} == {
        "surfaces": 2,
        "objects": 2,
        "lesions": 3,
    }


def test_one_set_has_no_normal_images_and_one_no_masks():
    polyps, scans = load_dataset("synthetic_polyps"), load_dataset("synthetic_scans")
    assert {s.label for s in polyps.samples()} == {1}
    assert polyps.samples("train") == []
    assert not polyps.has_image_labels
    assert all(polyps.read(s).mask.any() for s in polyps.samples())
    assert {s.label for s in scans.samples()} == {0, 1}
    assert not scans.has_masks
    assert {scans.read(s).mask for s in scans.samples()} == {None}


def test_pictures_and_masks_are_read_back_as_they_were_drawn():
    dataset = load_dataset("synthetic_aux")
    drawn = list(dataset.pictures())
    for sample, (_, label, defect, picture, mask) in zip(
        dataset.samples("test")[::7], drawn[::7], strict=True
    ):
        reading = dataset.read(sample)
        assert (sample.label, sample.anomaly_type) == (label, defect)
        np.testing.assert_array_equal(np.asarray(reading.image), picture)
        np.testing.assert_array_equal(reading.mask, mask)


LESION_KINDS = tuple(catalogue.kinds_of(group)[0] for group in ("polyps", "moles", "scans"))


@pytest.mark.parametrize(
    ("kind", "defect"),
    [
        *itertools.product(catalogue.TEST_KINDS[::2], drawings.DEFECTS),
        *zip(LESION_KINDS, ("polyp", "mole", "mass"), strict=True),
        (LESION_KINDS[0], "patchy"),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_defect_changes_the_picture_inside_its_mask_and_nearly_nothing_outside(kind, defect):
    drawing = drawings.draw(kind, defect, drawings.seeded(5, kind, 1, 0))
    change = np.abs(drawing.anomalous.astype(int) - drawing.normal.astype(int)).max(-1)
    assert drawing.mask.any()
    least = 2 if defect == "ghost" else 3  # a ghost is faint, and of the picture's own colours
    assert np.median(change[drawing.mask]) > least * np.median(change[~drawing.mask])


def test_other_seeds_and_sizes_are_other_sets():
    first = load_dataset("synthetic_aux")
    other = load_dataset("synthetic_aux", seed=12)
    large = load_dataset("synthetic_aux", size=64)
    prints = {d.fingerprint("test") for d in (first, other, large)}
    assert len(prints) == 3
    assert large.read(large.samples("test")[0]).image.size == (64, 64)


@pytest.mark.parametrize("options", [{"seed": -1}, {"seed": "x"}, {"size": 3}, {"colour": 1}])
def test_senseless_options_are_refused(options):
    with pytest.raises(UsageError):
        load_dataset("synthetic", **options)


def _draw(root: str) -> None:
    load_dataset("synthetic_aux", root)


def test_two_processes_may_draw_the_same_set_at_once(tmp_path):
    context = multiprocessing.get_context("fork")
    pair = [context.Process(target=_draw, args=(str(tmp_path),)) for _ in range(2)]
    for process in pair:
        process.start()
    for process in pair:
        process.join(timeout=120)
        assert process.exitcode == 0
    drawn = load_dataset("synthetic_aux", tmp_path)
    assert len(drawn.samples("test")) == len(drawn.kinds) * sum(drawn.per_kind)
    assert len(list(tmp_path.iterdir())) == 1
