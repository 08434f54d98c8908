"""The gallery keeps the extremes, in bounded memory, and tells how it judged them."""

import json

import numpy as np
import pytest
from PIL import Image
from zsad.bench.records.cell import Cell
from zsad.bench.records.gallery import GAP, SIDE, Gallery, GalleryError, read_gallery
from zsad.bench.records.run_folder import strip_path

CELL = Cell("clip", "official", "visa", 111)


def offer(gallery, name, label, score, with_mask=True, size=60):
    generator = np.random.default_rng(sum(map(ord, name)))
    image = generator.integers(0, 256, (size, size, 3), dtype=np.uint8)
    mask = np.zeros((size, size), bool)
    if label:
        mask[10:20, 10:20] = True
    heat = generator.random((size, size), dtype=np.float32) + (score or 0) * mask
    gallery.add(CELL, name, label, score, image, mask if with_mask else None, heat.astype("f4"))


def test_best_are_the_highest_anomalous_and_worst_the_ones_that_cost_most(tmp_path):
    gallery = Gallery(tmp_path, keep=2)
    for i, score in enumerate([0.1, 0.9, 0.5, 0.8, 0.95]):
        offer(gallery, f"bad{i}", 1, score)
    for i, score in enumerate([0.0, 0.2, 0.3, 0.92]):
        offer(gallery, f"good{i}", 0, score)
    gallery.write("pcb1")
    cases = read_gallery(tmp_path, CELL)
    assert [c.name for c in cases if c.kind == "best"] == ["bad4", "bad1"]
    # bad0 is above 1 of 4 normals, good3 below 1 of 5 anomalous images
    assert [c.name for c in cases if c.kind == "worst"] == ["good3", "bad0"]
    worst = [c for c in cases if c.kind == "worst"]
    assert [c.quality for c in worst] == [pytest.approx(0.2), pytest.approx(0.25)]
    assert "below 20% of the anomalous images" in worst[0].note


def test_result_does_not_depend_on_the_order_of_images(tmp_path):
    scores = [(f"bad{i}", 1, s) for i, s in enumerate([0.3, 0.9, 0.5, 0.8])]
    scores += [(f"good{i}", 0, s) for i, s in enumerate([0.1, 0.6, 0.2, 0.4])]
    for name, order in (("a", scores), ("b", scores[::-1])):
        gallery = Gallery(tmp_path / name, keep=1)
        for item in order:
            offer(gallery, *item)
        gallery.write("pcb1")
    assert read_gallery(tmp_path / "a", CELL) == read_gallery(tmp_path / "b", CELL)


def test_memory_does_not_grow_with_the_images(tmp_path):
    gallery = Gallery(tmp_path, keep=1)
    for i in range(60):
        offer(gallery, f"image{i:02}", i % 2, float(i % 7))
    found = gallery._cells[CELL]
    kept = [c for own in (found.highest, found.lowest) for side in own.values() for c in side]
    assert len(kept) == 4
    assert all(c.image.shape == (SIDE, SIDE, 3) for c in kept)


def test_without_scores_an_image_is_judged_by_its_own_pixels(tmp_path):
    gallery = Gallery(tmp_path, keep=1)
    mask = np.zeros((56, 56), bool)
    mask[:20, :20] = True
    image = np.zeros((56, 56, 3), np.uint8)
    gallery.add(CELL, "right", 1, None, image, mask, mask.astype("f4"))
    gallery.add(CELL, "wrong", 1, None, image, mask, 1 - mask.astype("f4"))
    gallery.add(CELL, "normal", 0, None, image, mask & False, mask.astype("f4"))
    gallery.write("x")
    best, worst = read_gallery(tmp_path, CELL)
    assert (best.name, worst.name) == ("right", "wrong")
    assert best.quality > 0.99 and worst.quality < 0.01
    assert "its region outranks" in best.note


def test_no_image_is_shown_twice(tmp_path):
    gallery = Gallery(tmp_path, keep=3)
    offer(gallery, "only", 1, 0.5)
    offer(gallery, "normal", 0, 0.4)
    gallery.write("pcb1")
    assert [c.name for c in read_gallery(tmp_path, CELL)] == ["only", "normal"]


@pytest.mark.parametrize("label", [0, 1])
def test_one_label_alone_gives_cases_without_quality(tmp_path, label):
    gallery = Gallery(tmp_path, keep=1)
    for i in range(3):
        offer(gallery, f"image{i}", label, float(i))
    gallery.write("pcb1")
    best, worst = read_gallery(tmp_path, CELL)
    right = ("image0", "image2")[label]
    assert best.name == right and worst.name != right
    assert best.quality is None and worst.quality is None


def test_strip_is_image_mask_and_map_with_transparent_gaps(tmp_path):
    gallery = Gallery(tmp_path, keep=1)
    image = np.full((224, 224, 3), 200, np.uint8)
    mask = np.zeros((224, 224), bool)
    mask[100, 100] = True
    heat = np.zeros((224, 224), np.float32)
    heat[:112] = 1
    gallery.add(CELL, "a", 1, 0.5, image, mask, heat)
    gallery.write("x")
    (case,) = read_gallery(tmp_path, CELL)
    strip = Image.open(strip_path(tmp_path, CELL, case.file))
    assert strip.size == (3 * SIDE + 2 * GAP, SIDE)
    pixels = np.asarray(strip)
    assert (pixels[:, SIDE : SIDE + GAP, 3] == 0).all()
    assert (pixels[:, :SIDE, :3] == 200).all()
    assert (pixels[:, SIDE + GAP : 2 * SIDE + GAP, 0] > 200).sum() == 1  # one pixel stays visible
    hot, cold = pixels[10, -20, :3].sum(), pixels[-10, -20, :3].sum()
    assert hot > cold


def test_missing_mask_of_an_anomalous_image_is_not_drawn_as_normal(tmp_path):
    gallery = Gallery(tmp_path, keep=1)
    offer(gallery, "a", 1, 0.5, with_mask=False)
    gallery.write("pcb1")
    (case,) = read_gallery(tmp_path, CELL)
    panel = np.asarray(Image.open(strip_path(tmp_path, CELL, case.file)))[
        :, SIDE + GAP : -SIDE - GAP
    ]
    assert set(np.unique(panel[..., 0])) == {150, 175}


def test_constant_maps_and_strange_category_names_are_drawn(tmp_path):
    gallery = Gallery(tmp_path, keep=1)
    zero = np.zeros((40, 40), np.float32)
    gallery.add(CELL, "a", 1, 0.5, np.zeros((40, 40, 3), np.uint8), None, zero)
    gallery.write("../<b>")
    (case,) = read_gallery(tmp_path, CELL)
    assert case.category == "../<b>"
    assert strip_path(tmp_path, CELL, case.file).parent == tmp_path / "gallery" / CELL.key
    assert strip_path(tmp_path, CELL, case.file).exists()


@pytest.mark.parametrize(
    "normalisation",
    [{}, {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}],
    ids=["of OpenAI's weights", "of other weights"],
)
def test_batches_are_shown_as_they_were_before_normalisation(tmp_path, normalisation):
    torch = pytest.importorskip("torch")
    from zsad.bench.data.loading import Batch
    from zsad.bench.preprocess import Preprocess

    image = Image.fromarray(np.full((56, 56, 3), (10, 120, 250), np.uint8))
    preprocess = Preprocess(56, **normalisation)
    tensor = preprocess(image)[None]
    batch = Batch(tensor, torch.tensor([1]), torch.ones(1, 56, 56, dtype=bool), ["x"], ["a"], 0)
    gallery = Gallery(tmp_path, keep=1)
    gallery.add_batch(CELL, batch, torch.tensor([0.4]), torch.rand(1, 56, 56), preprocess)
    gallery.write("any")
    (case,) = read_gallery(tmp_path, CELL)
    pixels = np.asarray(Image.open(strip_path(tmp_path, CELL, case.file)))
    assert (pixels[5, 5, :3] == (10, 120, 250)).all()
    assert case.category == "any"


def test_a_run_shows_images_in_their_own_colours_whatever_its_backbone_expects(
    tmp_path, monkeypatch
):
    pytest.importorskip("torch")
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
    strips = list((tmp_path / "run" / "gallery").glob("*/part-*.png"))
    assert strips
    for strip in strips:
        assert (np.asarray(Image.open(strip))[5, 5, :3] == (10, 120, 250)).all()


@pytest.mark.parametrize(
    "change",
    [{"file": "../../secret.png"}, {"file": "a.txt"}, {"kind": "middling"}, {"label": 7}],
)
def test_index_that_points_elsewhere_is_refused(tmp_path, change):
    gallery = Gallery(tmp_path, keep=1)
    offer(gallery, "a", 1, 0.5)
    gallery.write("pcb1")
    path = tmp_path / "gallery" / CELL.key / "pcb1.json"
    index = json.loads(path.read_text())
    index["cases"][0] |= change
    path.write_text(json.dumps(index))
    with pytest.raises(GalleryError, match=r"pcb1\.json"):
        read_gallery(tmp_path, CELL)


def test_broken_index_names_its_file_and_no_gallery_is_empty(tmp_path):
    assert read_gallery(tmp_path, CELL) == []
    path = tmp_path / "gallery" / CELL.key / "pcb1.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"cases": [{"nonsense": 1}]}')
    with pytest.raises(GalleryError, match=r"pcb1\.json"):
        read_gallery(tmp_path, CELL)
