"""A user's own folders: what is ambiguous is refused, what is odd is named, nothing is dropped."""

import json
import os
import shutil
import socket

import numpy as np
import pytest
from PIL import Image
from zsad.bench.data.check import check
from zsad.bench.errors import DataError, UsageError
from zsad.bench.records.record import read_records
from zsad.bench.registry import dataset_class, load_dataset
from zsad.bench.running.plan import make_plan
from zsad.bench.running.runner import run


@pytest.fixture
def own(tmp_path, trees):
    """One category of images of different content: 3 normal, 2 anomalous with masks."""
    root = tmp_path / "doors"
    for number in range(3):
        noise(root / "normal" / f"n{number}.png", number)
    for number in range(2):
        noise(root / "anomalous" / f"{number}.png", 10 + number)
        trees.mask(root / "masks" / f"{number}.png")
    return root


@pytest.fixture
def locked(monkeypatch):
    """A function that makes the folders whose paths end so unreadable, as root reads any."""
    scandir = os.scandir
    endings = []

    def refusing(path):
        if str(path).endswith(tuple(endings)):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    return endings.append


def noise(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def faults(root, **options):
    dataset = load_dataset("folder", root, **options)
    dataset.samples()
    return dataset.faults()


def opened(root):
    return check(dataset_class("folder"), root, open_files=True)


def test_an_ordinary_folder_has_no_fault(own):
    assert faults(own) == []
    assert opened(own).status == "ok"


@pytest.mark.parametrize("second", ["1.bmp", "1_mask.png", "sub/1.png"])
def test_two_masks_of_one_image_are_refused(own, trees, second):
    trees.mask(own / "masks" / second)
    if second == "sub/1.png":
        noise(own / "anomalous" / "sub" / "7.png", 7)
        (own / "masks" / "1.png").rename(own / "masks" / "1_gt.png")
        (own / "masks" / "other").mkdir()
        (own / "masks" / "1_gt.png").rename(own / "masks" / "other" / "1.png")
        trees.mask(own / "masks" / "7.png")
    with pytest.raises(DataError, match=r"1.png has 2 masks, .*: keep one of them"):
        load_dataset("folder", own).samples()


def test_images_of_one_stem_in_two_subfolders_have_each_its_own_mask(own, trees):
    for kind, box in (("dent", (1, 1, 3, 3)), ("scratch", (5, 5, 9, 9))):
        noise(own / "anomalous" / kind / "a.png", len(kind))
        trees.mask(own / "masks" / kind / "a.png", box=box)
    samples = [s for s in load_dataset("folder", own).samples() if s.image_path.stem == "a"]
    assert [s.mask_path.parent.name for s in samples] == ["dent", "scratch"]
    shutil.rmtree(own / "masks" / "dent")
    with pytest.raises(DataError, match=r"fits 2 images"):
        load_dataset("folder", own).samples()


def test_stems_that_differ_in_case_are_paired_by_it_and_named(own, trees):
    noise(own / "anomalous" / "A.png", 20)
    noise(own / "anomalous" / "a.png", 21)
    trees.mask(own / "masks" / "A.png")
    trees.mask(own / "masks" / "a.png")
    samples = load_dataset("folder", own).samples()
    assert all(s.mask_path.stem == s.image_path.stem for s in samples if s.label)
    assert any("differ only in case" in fault for fault in faults(own))


def test_images_that_share_a_mask_are_named(own):
    noise(own / "anomalous" / "1.bmp", 30)
    assert any("share the mask" in fault for fault in faults(own))


def test_categories_that_differ_in_case_are_refused(tmp_path, trees):
    trees.own_categories(tmp_path / "parts")
    shutil.copytree(tmp_path / "parts" / "left_door", tmp_path / "parts" / "Left_Door")
    with pytest.raises(DataError, match="Left_Door and .*left_door differ only in case"):
        load_dataset("folder", tmp_path / "parts").samples()
    trees.mvtec(tmp_path / "mvtec")
    shutil.copytree(tmp_path / "mvtec" / "bottle", tmp_path / "mvtec" / "Bottle")
    with pytest.raises(DataError, match="differ only in case"):
        load_dataset("mvtec_ad", tmp_path).samples()


def test_two_spellings_of_one_category_are_refused(tmp_path, trees):
    trees.mvtec(tmp_path / "mvtec")
    shutil.copytree(tmp_path / "mvtec" / "metal_nut", tmp_path / "mvtec" / "metal nut")
    with pytest.raises(DataError, match="are the same category"):
        load_dataset("mvtec_ad", tmp_path).samples()


def test_a_second_folder_of_normal_images_is_named(own):
    noise(own / "good" / "0.png", 40)
    assert any("good was left out: " in fault for fault in faults(own))


@pytest.mark.parametrize("emptied", [True, False])
def test_a_category_without_anomalous_images_is_left_out_and_named(tmp_path, trees, emptied):
    root = tmp_path / "parts"
    trees.own_categories(root)
    shutil.rmtree(root / "left_door" / "bad")
    if emptied:
        (root / "left_door" / "bad").mkdir()
    (fault,) = faults(root)
    assert "left_door" in fault
    assert "left out" in fault
    assert {s.category for s in load_dataset("folder", root).samples()} == {"right_door"}


def test_an_unreadable_category_is_left_out_and_named(tmp_path, trees, locked):
    trees.own_categories(tmp_path / "parts")
    trees.mvtec(tmp_path / "mvtec")
    locked("left_door")
    locked("metal_nut")
    (fault,) = faults(tmp_path / "parts")
    assert "left_door cannot be read (" in fault
    assert "Permission denied" in fault
    dataset = load_dataset("mvtec_ad", tmp_path)
    assert {s.category for s in dataset.samples()} == {"bottle"}
    assert any("metal_nut cannot be read" in fault for fault in dataset.faults())


@pytest.mark.parametrize("folder", ["good", "bad", "bad/dent", "masks"])
def test_a_category_with_an_unreadable_folder_is_left_out_and_named(
    tmp_path, trees, locked, folder
):
    root = tmp_path / "parts"
    trees.own_categories(root)
    noise(root / "left_door" / "bad" / "dent" / "2.png", 2)
    if folder == "masks":
        for image in ("left_door/masks/1", "left_door/masks/2", "right_door/masks/1"):
            trees.mask(root / f"{image}.png")
    locked(f"left_door/{folder}")
    (fault,) = faults(root)
    assert f"category {root / 'left_door'} cannot be read" in fault
    assert f"left_door/{folder} cannot be listed" in fault
    assert fault.endswith("was left out")
    assert {s.category for s in load_dataset("folder", root).samples()} == {"right_door"}
    result = check(dataset_class("folder"), root)
    assert (result.status, result.problems) == ("incomplete", [fault])


@pytest.mark.parametrize(
    "folder", ["train", "test", "ground_truth", "test/good", "ground_truth/scratch"]
)
def test_a_category_of_mvtecs_tree_with_an_unreadable_folder_is_named(
    tmp_path, trees, locked, folder
):
    root = tmp_path / "more"
    trees.own_tree(root)
    shutil.copytree(root / "my_part", root / "other")
    locked(f"other/{folder}")
    (fault,) = faults(root)
    assert f"category {root / 'other'} cannot be read" in fault
    assert {s.category for s in load_dataset("folder", root).samples()} == {"my_part"}


def test_only_unreadable_categories_are_an_error_that_names_them(tmp_path, trees, locked):
    trees.own_categories(tmp_path / "parts")
    locked("door/bad")
    with pytest.raises(DataError, match=r"no test image; category .*left_door cannot be read"):
        load_dataset("folder", tmp_path / "parts").samples()
    with pytest.raises(DataError, match=r"left_door cannot be read"):
        load_dataset("folder", tmp_path / "parts", categories="left_door").samples()


def test_a_run_scores_the_readable_categories_and_its_record_names_the_other(
    tmp_path, trees, locked
):
    trees.own_categories(tmp_path / "parts")
    locked("left_door/bad")
    datasets = [{"name": "folder", "root": str(tmp_path / "parts")}]
    (record,) = read_records(run(make_plan(["clip"], datasets, out=tmp_path / "run", gallery=0)))
    assert [result.category for result in record.categories] == ["right_door"]
    assert any("left_door cannot be read" in warning for warning in record.warnings)


def test_what_categories_lack_that_were_not_chosen_is_no_obstacle(tmp_path, trees, locked):
    root = tmp_path / "parts"
    trees.own_categories(root)
    trees.mask(root / "left_door" / "masks" / "other.png")
    with pytest.raises(DataError, match="no mask for image"):
        load_dataset("folder", root).samples()
    assert faults(root, categories="right_door") == []
    locked("left_door/bad")
    assert faults(root, categories="right_door") == []
    with pytest.raises(UsageError, match="did you mean left_door"):
        load_dataset("folder", root, categories="left_dor").samples()


@pytest.mark.parametrize(
    ("builder", "name", "broken", "chosen"),
    [
        ("mvtec", "mvtec_ad", "bottle/ground_truth/broken_large/001_mask.png", "metal_nut"),
        ("visa", "visa", "pcb1/Data/Masks/Anomaly/001.png", "candle"),
        ("dagm", "dagm", "Class1/Test/Label/0002_label.PNG", "Class10"),
    ],
)
def test_a_gap_of_a_category_that_was_not_chosen_does_not_refuse_the_dataset(
    tmp_path, trees, builder, name, broken, chosen
):
    root = tmp_path / builder
    root.mkdir()
    getattr(trees, builder)(root)
    (root / broken).unlink()
    with pytest.raises(DataError, match="no mask for image"):
        load_dataset(name, root).samples()
    dataset = load_dataset(name, root, categories=chosen)
    assert {s.category for s in dataset.samples()} == {chosen}


def test_a_gap_of_a_class_of_meta_json_that_was_not_chosen_does_not_refuse_it(tmp_path, trees):
    trees.with_meta(tmp_path)
    file = tmp_path / "meta.json"
    content = json.loads(file.read_text())
    (name,) = content["Test"]
    lost = [{**row, "img_path": "pictures/lost.png"} for row in content["Test"][name]]
    file.write_text(json.dumps({**content, "Test": {**content["Test"], "bolt": lost}}))
    with pytest.raises(DataError, match="lost.png', which does not exist"):
        load_dataset("folder", tmp_path).samples()
    assert load_dataset("folder", tmp_path, categories=name).samples()


def test_a_normal_image_that_is_an_anomalous_one_too_is_named(own):
    shutil.copy(own / "anomalous" / "1.png", own / "normal" / "again.png")
    (fault,) = faults(own)
    assert "has the content of normal image" in fault
    assert "again.png" in fault


def test_an_empty_mask_of_an_anomalous_image_is_named_when_read(own, trees):
    path = trees.mask(own / "masks" / "1.png", box=None)
    result = opened(own)
    assert result.status == "incomplete"
    assert any(f"mask {path} of anomalous image" in text for text in result.problems)


@pytest.mark.parametrize("place", ["n1.png", "normal/n1.png", "normal/1.png"])
def test_a_mask_of_a_normal_image_is_named_unless_it_is_empty(own, trees, place):
    if place == "normal/1.png":
        (own / "normal" / "n1.png").rename(own / "normal" / "1.png")
    trees.mask(own / "masks" / place, box=None)
    assert faults(own) == []
    assert opened(own).status == "ok"
    path = trees.mask(own / "masks" / place)
    result = opened(own)
    assert any(f"mask {path} of normal image" in text for text in result.problems)


def test_a_mask_of_a_normal_image_of_mvtecs_tree_is_named(tmp_path, trees):
    trees.own_tree(tmp_path / "more")
    path = trees.mask(tmp_path / "more" / "my_part" / "ground_truth" / "good" / "000_mask.png")
    result = opened(tmp_path / "more")
    assert any(f"mask {path} of normal image" in text for text in result.problems)


@pytest.mark.parametrize("colour", [0, 255])
def test_a_mask_in_the_alpha_channel_is_taken_and_named(own, colour):
    pixels = np.full((20, 24, 4), colour, dtype=np.uint8)
    pixels[..., 3] = 0
    pixels[3:6, 3:9, 3] = 255
    Image.fromarray(pixels, "RGBA").save(own / "masks" / "1.png")
    dataset = load_dataset("folder", own)
    reading = dataset.read(next(s for s in dataset.samples() if s.image_path.name == "1.png"))
    assert reading.mask.sum() == 18
    assert any("alpha channel" in text for text in opened(own).problems)


def test_what_is_not_a_regular_file_is_named_and_not_opened(own):
    os.mkfifo(own / "normal" / "pipe.png")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(own / "anomalous" / "socket.png"))
    (own / "normal" / "gone.png").symlink_to("nowhere")
    with pytest.raises(DataError, match=r"is incomplete: .*missing=skip"):
        load_dataset("folder", own, missing="refuse").samples()
    (own / "masks" / "socket.png").symlink_to("1.png")
    told = "\n".join(faults(own, missing="skip"))
    assert "pipe.png is not a file but a pipe, socket or device" in told
    assert "socket.png is not a file" in told
    assert "gone.png is a link to nowhere" in told


def test_a_name_that_is_not_utf_8_is_named(own):
    source = os.fsencode(own / "normal" / "n1.png")
    (own / "normal" / "n1.png").rename(os.fsdecode(source.replace(b"n1", b"n\xff1")))
    with pytest.raises(DataError, match=r"n\\xff1.png is not UTF-8: rename the file"):
        load_dataset("folder", own).samples()


def test_a_folder_that_is_not_a_category_is_named(tmp_path, trees):
    trees.own_categories(tmp_path / "parts")
    noise(tmp_path / "parts" / "unsorted" / "a.png", 1)
    (fault,) = faults(tmp_path / "parts")
    assert "unsorted has no folders of normal and anomalous images" in fault


def test_a_folder_without_any_usable_category_says_why(tmp_path, trees):
    trees.own_categories(tmp_path / "parts")
    for category in ("left_door", "right_door"):
        (tmp_path / "parts" / category / "bad" / "1.png").unlink()
    with pytest.raises(DataError, match=r"no usable category; category 'left_door' .*'right_door'"):
        load_dataset("folder", tmp_path / "parts").samples()
