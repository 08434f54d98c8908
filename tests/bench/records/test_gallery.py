"""The gallery keeps the same images for all methods, in bounded memory, and says how it judged."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from zsad.bench.data.loading import Batch
from zsad.bench.metrics import auroc
from zsad.bench.preprocess import Preprocess
from zsad.bench.records import gallery as module
from zsad.bench.records.cases import GAP, read_cases, read_strip
from zsad.bench.records.cell import Cell
from zsad.bench.records.gallery import Gallery, pixel_auroc, rate_levels
from zsad.bench.records.gallery_choice import Judged, choose, spread
from zsad.bench.records.map_sheets import (
    MAP_SIDE,
    PICTURE_SIDE,
    RATES,
    GalleryError,
    read_sheets,
)

CELL = Cell("clip", "official", "visa", 111)
OTHER = Cell("winclip", "official", "visa", 111)


def add(gallery, cell, name, label, score, image, mask, heat):
    preprocess = Preprocess(len(image))
    pixels = preprocess(Image.fromarray(image))[None]
    masks = None if mask is None else torch.from_numpy(mask)[None]
    batch = Batch(pixels, torch.tensor([label]), masks, ["x"], [name], 0)
    scores = None if score is None else torch.tensor([score], dtype=torch.float64)
    gallery.add_batch(cell, batch, scores, torch.from_numpy(heat)[None], preprocess)


def offer(gallery, name, label, score, with_mask=True, size=60, cell=CELL):
    generator = np.random.default_rng(sum(map(ord, name)))
    image = generator.integers(0, 256, (size, size, 3), dtype=np.uint8)
    mask = np.zeros((size, size), bool)
    if label:
        mask[10:20, 10:20] = True
    heat = generator.random((size, size), dtype=np.float32) + (score or 0) * mask
    add(gallery, cell, name, label, score, image, mask if with_mask else None, heat.astype("f4"))


def names(run, cell=CELL):
    return [image.name for sheet in read_sheets(run, cell) for image in sheet.sheet.images]


# -- which images -------------------------------------------------------------------------------


def test_choices_are_by_what_methods_say_and_share_no_image():
    images = [
        Judged("split", 1, (1.0, 0.0)),
        Judged("hard", 1, (0.1, 0.2)),
        Judged("easy", 1, (0.9, 1.0)),
        Judged("false alarm", 0, (0.0, 0.3)),
        Judged("quiet", 0, (1.0, 1.0)),
        Judged("unjudged", 1, ()),
    ]
    found = {choice: [i.name for i in own] for choice, own in choose(images, 1).items()}
    assert found["disagree"] == ["split"]
    assert found["fail"] == ["hard"]
    assert found["find"] == ["easy"], "a normal image is not found, however low its score"
    every = [i.name for own in choose(images, 2).values() for i in own]
    assert len(every) == len(set(every)) == 6
    assert spread(images, 100) and sorted(spread(images, 100)) == sorted(i.name for i in images)


def test_normal_images_are_found_where_there_are_no_others():
    images = [Judged("a", 0, (0.2,)), Judged("b", 0, (0.8,))]
    assert [i.name for i in choose(images, 1, ["c"])["find"]] == []
    assert [i.name for i in choose([Judged("c", 0, (1.0,)), *images], 1)["disagree"]] != []


def test_all_methods_keep_the_same_images(tmp_path):
    gallery = Gallery(tmp_path, keep=1)
    for cell, flip in ((CELL, 1), (OTHER, -1)):
        for i in range(60):
            offer(gallery, f"image{i:02}", i % 2, flip * float(i % 7), cell=cell)
    gallery.write("pcb1")
    assert len(names(tmp_path)) == 16
    assert names(tmp_path) == names(tmp_path, OTHER)


def test_a_method_that_is_scored_later_keeps_the_images_of_the_earlier_ones(tmp_path):
    for cell, flip in ((CELL, 1), (OTHER, -1)):  # as two processes, or after a kill
        gallery = Gallery(tmp_path, keep=1)
        for i in range(60):
            offer(gallery, f"image{i:02}", i % 2, flip * float(i % 7), cell=cell)
        gallery.write("pcb1")
    assert names(tmp_path) == names(tmp_path, OTHER)
    assert len(list((tmp_path / "gallery" / "images").iterdir())) == 2, "pictures are shared"


def test_images_of_an_earlier_sheet_that_are_gone_make_room_for_others(tmp_path):
    for first in (0, 40):
        gallery = Gallery(tmp_path, keep=1)
        for i in range(first, first + 60):
            offer(gallery, f"image{i:02}", i % 2, float(i % 7))
        gallery.write("pcb1")
    assert len(names(tmp_path)) == 16
    assert min(names(tmp_path)) >= "image40"


def test_result_does_not_depend_on_the_order_of_images(tmp_path):
    scores = [(f"bad{i}", 1, s) for i, s in enumerate([0.3, 0.9, 0.5, 0.8])]
    scores += [(f"good{i}", 0, s) for i, s in enumerate([0.1, 0.6, 0.2, 0.4])]
    for name, order in (("a", scores), ("b", scores[::-1])):
        gallery = Gallery(tmp_path / name, keep=1)
        for item in order:
            offer(gallery, *item)
        gallery.write("pcb1")
    a, b = (read_sheets(tmp_path / name, CELL)[0].sheet for name in "ab")
    assert a == b


def test_memory_does_not_grow_with_the_images(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CONSIDERED", (4, 6))
    gallery = Gallery(tmp_path, keep=1)
    for cell in (CELL, OTHER):
        for i in range(200):
            offer(gallery, f"image{i:03}", i % 2, float(i % 7), size=20, cell=cell)
    considered = gallery._considered
    assert [*considered.labels.values()].count(0) == 4 and len(considered.labels) == 10
    assert {*considered.pictures} == {*considered.masks} == {*considered.labels}
    for own in gallery._answers.values():
        assert {*own.heats} == {*considered.labels}
    gallery.write("pcb1")
    assert len(names(tmp_path)) == 10


def test_a_method_that_failed_on_the_way_has_no_sheet(tmp_path):
    gallery = Gallery(tmp_path, keep=1)
    for i in range(20):
        offer(gallery, f"image{i:02}", i % 2, float(i))
        if i < 5:
            offer(gallery, f"image{i:02}", i % 2, float(i), cell=OTHER)
    gallery.write("pcb1")
    assert len(names(tmp_path)) == 16 and names(tmp_path, OTHER) == []


# -- how they are judged ------------------------------------------------------------------------


def test_quality_is_the_share_of_the_other_label_on_the_right_side(tmp_path):
    gallery = Gallery(tmp_path, keep=2)
    for i, score in enumerate([0.1, 0.9, 0.5, 0.8, 0.95]):
        offer(gallery, f"bad{i}", 1, score)
    for i, score in enumerate([0.0, 0.2, 0.3, 0.92]):
        offer(gallery, f"good{i}", 0, score)
    gallery.write("pcb1")
    (sheet,) = read_sheets(tmp_path, CELL)
    quality = {image.name: image.quality for image in sheet.sheet.images}
    assert quality["good3"] == pytest.approx(0.2) and quality["bad0"] == pytest.approx(0.25)
    cases = read_cases(tmp_path, CELL)
    assert [c.name for c in cases if c.kind == "best"] == ["bad4", "bad1"]
    assert [c.name for c in cases if c.kind == "worst"] == ["good3", "bad0"]
    assert "below 20% of the anomalous images" in cases[2].note


def test_without_normal_images_the_location_of_the_region_decides_not_the_score(tmp_path):
    gallery = Gallery(tmp_path, keep=1)
    mask = np.zeros((56, 56), bool)
    mask[:20, :20] = True
    image = np.zeros((56, 56, 3), np.uint8)
    add(gallery, CELL, "right", 1, 0.1, image, mask, mask.astype("f4"))
    add(gallery, CELL, "wrong", 1, 0.9, image, mask, 1 - mask.astype("f4"))
    gallery.write("x")
    best, worst = read_cases(tmp_path, CELL)
    assert (best.name, worst.name) == ("right", "wrong")
    assert best.quality > 0.98 and worst.quality < 0.02


def test_pixel_auroc_of_an_image_is_that_of_its_pixels():
    generator = np.random.default_rng(3)
    mask = np.zeros((MAP_SIDE, MAP_SIDE), np.uint8)
    mask[30:60, 20:80] = 255
    heat = generator.normal(size=mask.shape).astype("f4") + (mask > 0)
    exact = auroc((mask > 0).ravel().astype(np.uint8), heat.ravel())
    assert pixel_auroc(heat, mask) == pytest.approx(exact, abs=1e-3)
    assert pixel_auroc(np.zeros_like(heat), mask) == 0.5
    assert pixel_auroc(heat, np.zeros_like(mask)) is None
    assert pixel_auroc(heat, np.full_like(mask, 255)) is None


def test_levels_keep_the_rate_of_false_positives(tmp_path):
    gallery = Gallery(tmp_path, keep=1)
    for i in range(20):
        offer(gallery, f"image{i:02}", i % 2, float(i))
    gallery.write("pcb1")
    (sheet,) = read_sheets(tmp_path, CELL)
    levels = np.concatenate(
        [sheet.map_of(i)[sheet.mask_of(i) == 0] for i in range(len(sheet.sheet.images))]
    )
    for rate, level in zip(RATES, sheet.sheet.levels, strict=True):
        assert (levels >= level).mean() <= rate + 0.03
        assert (levels >= level - 1).mean() > rate - 0.03
    counts = np.zeros(256, np.int64)
    counts[[0, 100, 200]] = 80, 15, 5
    assert [rate_levels(counts)[RATES.index(rate)] for rate in (0.01, 0.1, 0.5)] == [201, 101, 1]


@pytest.mark.parametrize("label", [0, 1])
def test_one_label_alone_without_masks_gives_no_quality(tmp_path, label):
    gallery = Gallery(tmp_path, keep=1)
    for i in range(3):
        offer(gallery, f"image{i}", label, float(i), with_mask=False)
    gallery.write("pcb1")
    (sheet,) = read_sheets(tmp_path, CELL)
    assert {image.quality for image in sheet.sheet.images} == {None}


# -- pictures -----------------------------------------------------------------------------------


def test_pictures_masks_and_maps_come_back(tmp_path):
    gallery = Gallery(tmp_path, keep=1)
    for i in range(11):  # more than a row of tiles
        image = np.full((224, 224, 3), 20 * i, np.uint8)
        mask = np.zeros((224, 224), bool)
        mask[100, 100] = True
        heat = np.zeros((224, 224), np.float32)
        heat[: 20 * i] = 1
        add(gallery, CELL, f"image{i}", 1, 0.5, image, mask, heat)
    gallery.write("x")
    (sheet,) = read_sheets(tmp_path, CELL)
    for place, image in enumerate(sheet.sheet.images):
        i = int(image.name.removeprefix("image"))
        assert sheet.picture_of(place).shape == (PICTURE_SIDE, PICTURE_SIDE, 3)
        assert abs(sheet.picture_of(place).astype(int) - 20 * i).max() <= 3
        assert np.count_nonzero(sheet.mask_of(place)) == 1  # one pixel stays visible
        assert (sheet.map_of(place)[: 10 * i] == 255).all()
        assert (sheet.map_of(place)[10 * i :] == 0).all()


def test_strip_is_image_mask_and_map_with_transparent_gaps(tmp_path):
    gallery = Gallery(tmp_path, keep=1)
    mask = np.zeros((224, 224), bool)
    mask[100, 100] = True
    heat = np.zeros((224, 224), np.float32)
    heat[:112] = 1
    add(gallery, CELL, "a", 1, 0.5, np.full((224, 224, 3), 200, np.uint8), mask, heat)
    gallery.write("x")
    (case,) = read_cases(tmp_path, CELL)
    pixels = np.asarray(read_strip(tmp_path, CELL, case))
    assert pixels.shape == (MAP_SIDE, 3 * MAP_SIDE + 2 * GAP, 4)
    assert (pixels[:, MAP_SIDE : MAP_SIDE + GAP, 3] == 0).all()
    assert (pixels[:, MAP_SIDE + GAP : 2 * MAP_SIDE + GAP, 0] > 200).sum() == 1
    hot, cold = pixels[10, -20, :3].sum(), pixels[-10, -20, :3].sum()
    assert hot > cold


def test_missing_mask_of_an_anomalous_image_is_not_drawn_as_normal(tmp_path):
    gallery = Gallery(tmp_path, keep=1)
    offer(gallery, "a", 1, 0.5, with_mask=False)
    gallery.write("pcb1")
    (case,) = read_cases(tmp_path, CELL)
    panel = np.asarray(read_strip(tmp_path, CELL, case))[:, MAP_SIDE + GAP : -MAP_SIDE - GAP]
    assert set(np.unique(panel[..., 0])) == {150, 175}


def test_constant_maps_and_strange_category_names_are_kept(tmp_path):
    gallery = Gallery(tmp_path, keep=1)
    zero = np.zeros((40, 40), np.float32)
    add(gallery, CELL, "a", 1, 0.5, np.zeros((40, 40, 3), np.uint8), None, zero)
    gallery.write("../<b>")
    (sheet,) = read_sheets(tmp_path, CELL)
    assert sheet.sheet.category == "../<b>"
    assert not sheet.map_of(0).any()
    written = {path.parent.parent for path in tmp_path.glob("**/*.*")}
    assert written == {tmp_path / "gallery"}


def test_strips_of_earlier_versions_still_show(tmp_path):
    folder = tmp_path / "gallery" / CELL.key
    folder.mkdir(parents=True)
    case = {"category": "pcb1", "kind": "best", "rank": 1, "name": "a", "label": 1, "score": 0.5}
    case |= {"quality": 0.75, "file": "pcb1-best-1.png"}
    index = {"category": "pcb1", "lowest": 0.0, "highest": 1.0, "cases": [case]}
    (folder / "pcb1.json").write_text(json.dumps(index))
    Image.new("RGBA", (344, 112), (1, 2, 3, 255)).save(folder / "pcb1-best-1.png")
    (found,) = read_cases(tmp_path, CELL)
    assert "above 75% of the normal images" in found.note
    assert read_strip(tmp_path, CELL, found).getpixel((0, 0)) == (1, 2, 3, 255)
    assert read_sheets(tmp_path, CELL) == []


@pytest.mark.parametrize(
    "normalisation",
    [{}, {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}],
    ids=["of OpenAI's weights", "of other weights"],
)
def test_batches_are_shown_as_they_were_before_normalisation(tmp_path, normalisation):
    image = Image.fromarray(np.full((56, 56, 3), (10, 120, 250), np.uint8))
    preprocess = Preprocess(56, **normalisation)
    tensor = preprocess(image)[None]
    batch = Batch(tensor, torch.tensor([1]), torch.ones(1, 56, 56, dtype=bool), ["x"], ["a"], 0)
    gallery = Gallery(tmp_path, keep=1)
    gallery.add_batch(CELL, batch, torch.tensor([0.4]), torch.rand(1, 56, 56), preprocess)
    gallery.write("any")
    (sheet,) = read_sheets(tmp_path, CELL)
    assert abs(sheet.picture_of(0)[5, 5].astype(int) - (10, 120, 250)).max() <= 4
    assert sheet.sheet.category == "any"


def test_a_run_shows_images_in_their_own_colours_whatever_its_backbone_expects(
    tmp_path, monkeypatch
):
    from zsad.bench.backbone import Backbone
    from zsad.bench.running.plan import make_plan
    from zsad.bench.running.runner import run

    half = property(lambda self: (0.5, 0.5, 0.5))
    monkeypatch.setattr(Backbone, "mean", half)
    monkeypatch.setattr(Backbone, "std", half)
    for name in ("normal", "anomalous", "masks"):
        (tmp_path / "data" / "part" / name).mkdir(parents=True)
        colour = (255, 255, 255) if name == "masks" else (10, 120, 250)
        Image.new("RGB", (40, 40), colour).save(tmp_path / "data" / "part" / name / "0.png")
    datasets = [{"name": "folder", "root": str(tmp_path / "data")}]
    run(make_plan(["clip"], datasets, out=tmp_path / "run", gallery=1, pretrained="random"))
    (picture,) = (tmp_path / "run" / "gallery" / "images").glob("*.webp")
    pixel = np.asarray(Image.open(picture).convert("RGB"))[5, 5].astype(int)
    assert abs(pixel - (10, 120, 250)).max() <= 4


# -- what is on disk ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"maps": "../../secret.png"},
        {"maps": "a.txt"},
        {"pictures": "../../secret.webp"},
        {"levels": [1, 2]},
        {"images": [{"name": "a", "label": 7}]},
    ],
)
def test_index_that_points_elsewhere_or_is_wrong_is_refused(tmp_path, change):
    gallery = Gallery(tmp_path, keep=1)
    offer(gallery, "a", 1, 0.5)
    gallery.write("pcb1")
    path = tmp_path / "gallery" / CELL.key / "pcb1.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(GalleryError, match=r"pcb1\.json"):
        read_sheets(tmp_path, CELL)


@pytest.mark.parametrize("change", [{"file": "../../secret.png"}, {"kind": "middling"}])
def test_index_of_an_earlier_version_that_is_wrong_is_refused(tmp_path, change):
    folder = tmp_path / "gallery" / CELL.key
    folder.mkdir(parents=True)
    case = {"category": "pcb1", "kind": "best", "rank": 1, "name": "a", "label": 1, "score": 0.5}
    case |= {"quality": None, "file": "pcb1-best-1.png"} | change
    (folder / "pcb1.json").write_text(json.dumps({"cases": [case]}))
    with pytest.raises(GalleryError, match=r"pcb1\.json"):
        read_cases(tmp_path, CELL)


def test_sheet_of_another_size_is_named(tmp_path):
    gallery = Gallery(tmp_path, keep=1)
    offer(gallery, "a", 1, 0.5)
    gallery.write("pcb1")
    path = tmp_path / "gallery" / CELL.key / "pcb1.png"
    Image.new("L", (8, 8)).save(path)
    (sheet,) = read_sheets(tmp_path, CELL)
    with pytest.raises(GalleryError, match=r"pcb1\.png has 8 x 8 pixels"):
        sheet.map_of(0)


def test_broken_index_names_its_file_and_no_gallery_is_empty(tmp_path):
    assert read_cases(tmp_path, CELL) == []
    path = tmp_path / "gallery" / CELL.key / "pcb1.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"cases": [{"nonsense": 1}]}')
    with pytest.raises(GalleryError, match=r"pcb1\.json"):
        read_cases(tmp_path, CELL)
    path.write_text('{"nonsense": 1}')
    with pytest.raises(GalleryError, match=r"pcb1\.json"):
        read_sheets(tmp_path, CELL)
