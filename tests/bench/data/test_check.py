import dataclasses
import os
import sys

import pytest
from zsad.bench.data.check import category_table, check, check_all, is_wrong, table
from zsad.bench.dataset import Counts, Dataset, Sample
from zsad.bench.errors import DataError, UsageError
from zsad.bench.locate import locate
from zsad.bench.registry import dataset_class, load_dataset


def complete_btad(root, trees):
    """BTAD with all its test images, each a link to one of two tiny files."""
    image = trees.paint(root / "i.png", kind="PNG")
    drawn = trees.mask(root / "m.png")
    for category, info in dataset_class("btad").categories.items():
        counts = info.counts
        numbers = {
            "train/ok": counts.train_normal,
            "test/ok": counts.test_normal,
            "test/ko": counts.test_anomalous,
            "ground_truth/ko": counts.test_anomalous,
        }
        for part, number in numbers.items():
            folder = root / "btad" / category / part
            folder.mkdir(parents=True)
            for i in range(number):
                source = drawn if part.startswith("ground") else image
                (folder / f"{i:04d}.bmp").hardlink_to(source)


def test_complete_copy_is_ok(tmp_path, trees):
    complete_btad(tmp_path, trees)
    result = check(dataset_class("btad"), tmp_path, open_files=True)
    assert (result.status, result.problems, result.notes) == ("ok", [], [])
    assert result.total("found") == result.total("expected") == Counts(451, 290, 1799, 0)
    assert result.layout == "tree"
    assert result.opened == 451 + 290 + 1799
    assert len(result.fingerprint) == 64
    assert not is_wrong([result], every=False)
    assert "451/451" in table([result])
    assert "400/400" in category_table(result)


def test_copy_with_other_counts_is_incomplete_and_says_where(tmp_path, trees):
    complete_btad(tmp_path, trees)
    (tmp_path / "btad" / "02" / "test" / "ok" / "0001.bmp").unlink()
    (tmp_path / "btad" / "01" / "train" / "ok" / "0001.bmp").unlink()
    result = check(dataset_class("btad"), tmp_path)
    assert result.status == "incomplete"
    assert result.usable
    assert result.problems == ["category 02 has 29 of 30 normal, 200 of 200 anomalous test images"]
    assert result.notes == ["category 01: 399 of 400 train images"]
    assert is_wrong([result], every=True)


def complete_ksdd2(root, trees):
    """KSDD2 with all its images, each a link to one of three tiny files."""
    image, empty = trees.paint(root / "i.png"), trees.mask(root / "e.png", box=None)
    drawn = trees.mask(root / "m.png")
    for split, first, normal, anomalous in (
        ("train", 10000, 2085, 246),
        ("test", 20000, 894, 110),
    ):
        folder = root / "KolektorSDD2" / split
        folder.mkdir(parents=True)
        for number in range(normal + anomalous):
            (folder / f"{first + number}.png").hardlink_to(image)
            truth = drawn if number < anomalous else empty
            (folder / f"{first + number}_GT.png").hardlink_to(truth)


def test_ksdd2_is_counted_by_its_masks(tmp_path, trees):
    complete_ksdd2(tmp_path, trees)
    ksdd2 = dataset_class("ksdd2")
    whole = check(ksdd2, tmp_path)
    assert (whole.status, whole.problems, whole.notes) == ("ok", [], [])
    assert whole.total("found") == whole.total("expected") == Counts(894, 110, 2085, 246)
    (tmp_path / "KolektorSDD2" / "test" / "20500.png").unlink()
    (tmp_path / "KolektorSDD2" / "test" / "20001_GT.png").unlink()
    part = check(ksdd2, tmp_path)
    assert part.problems == [
        "1 masks have no image: " + str(tmp_path / "KolektorSDD2" / "test" / "20500_GT.png"),
        "left out: no mask for image " + str(tmp_path / "KolektorSDD2" / "test" / "20001.png"),
        "category KSDD2 has 893 of 894 normal, 109 of 110 anomalous test images",
    ]


def complete_tree(root, name, trees, truth):
    """A dataset in a tree of category folders with all its images, each a link to a tiny file.

    `truth` says of a category's counts which folder has how many images, and masks of what name.
    """
    image, drawn = trees.paint(root / f"{name}.png"), trees.mask(root / f"{name}_mask.png")
    for category, info in dataset_class(name).categories.items():
        for part, (number, mask) in truth(info.counts).items():
            for i in range(number):
                path = root / name / category / part / f"{i:04d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.hardlink_to(image)
                if mask:
                    path = root / name / category / mask.format(f"{i:04d}")
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.hardlink_to(drawn)


def mvtec_tree(counts):
    """MVTec AD's tree, with masks named as their images."""
    return {
        "train/good": (counts.train_normal, ""),
        "test/good": (counts.test_normal, ""),
        "test/broken": (counts.test_anomalous, "ground_truth/broken/{}.png"),
    }


OFFICIAL_TREES = {
    "goodsad": mvtec_tree,
    "threecad": mvtec_tree,
    "mvtec_ad_2": lambda counts: {
        "train/good": (counts.train_normal, ""),
        "test_public/good": (counts.test_normal, ""),
        "test_public/bad": (counts.test_anomalous, "test_public/ground_truth/bad/{}_mask.png"),
    },
    "mvtec_loco": lambda counts: {
        "train/good": (counts.train_normal, ""),
        "test/good": (counts.test_normal, ""),
        "test/logical_anomalies": (80, "ground_truth/logical_anomalies/{}/000.png"),
        "test/structural_anomalies": (
            counts.test_anomalous - 80,
            "ground_truth/structural_anomalies/{}/000.png",
        ),
    },
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] if n == "threecad" else []) for n in OFFICIAL_TREES],
)
def test_official_counts_are_whole_and_a_missing_image_is_named(name, tmp_path, trees):
    complete_tree(tmp_path, name, trees, OFFICIAL_TREES[name])
    dataset = dataset_class(name)
    whole = check(dataset, tmp_path)
    assert (whole.status, whole.problems, whole.notes) == ("ok", [], [])
    assert whole.total("found") == whole.total("expected") == dataset.expected()
    category, info = next(iter(dataset.categories.items()))
    next((tmp_path / name / category).glob("test*/good/*.png")).unlink()
    counts = info.counts
    assert check(dataset, tmp_path).problems == [
        f"category {category} has {counts.test_normal - 1} of {counts.test_normal} normal, "
        f"{counts.test_anomalous} of {counts.test_anomalous} anomalous test images"
    ]


BMAD_TREES = {
    "bmad_brain": ("{0}/{1}", "BraTS2021_slice"),
    "bmad_liver": ("{1}/{0}", "hist_DIY"),
    "bmad_resc": ("{0}/{1}", "RESC"),
}


@pytest.mark.parametrize("name", BMAD_TREES)
def test_bmad_is_counted_where_its_counts_are_known(name, tmp_path, trees):
    inside, folder = BMAD_TREES[name]
    counts = dataset_class(name).expected()
    (category,) = dataset_class(name).categories
    image, drawn = trees.paint(tmp_path / "i.png"), trees.mask(tmp_path / "m.png")
    parts = {
        "train/good": (image, counts.train_normal or 3),
        f"test/{inside.format('good', 'img')}": (image, counts.test_normal),
        f"test/{inside.format('Ungood', 'img')}": (image, counts.test_anomalous),
        f"test/{inside.format('Ungood', 'label')}": (drawn, counts.test_anomalous),
    }
    for part, (source, number) in parts.items():
        (tmp_path / folder / part).mkdir(parents=True)
        for i in range(number):
            (tmp_path / folder / part / f"{i:04d}.png").hardlink_to(source)
    whole = check(dataset_class(name), tmp_path)
    assert (whole.status, whole.problems) == ("ok", [])
    (tmp_path / folder / "test" / inside.format("good", "img") / "0000.png").unlink()
    assert check(dataset_class(name), tmp_path).problems == [
        f"category {category} has {counts.test_normal - 1} of {counts.test_normal} "
        f"normal, {counts.test_anomalous} of {counts.test_anomalous} anomalous test images"
    ]


def test_a_release_of_which_only_the_whole_is_known_is_counted_as_a_whole(
    tmp_path, monkeypatch, trees
):
    real_iad = dataset_class("real_iad")
    categories = {name: real_iad.categories[name] for name in ("audiojack", "usb")}
    monkeypatch.setattr(real_iad, "categories", categories)
    monkeypatch.setattr(real_iad, "total", Counts(6, 2, 4, 0))
    trees.real_iad(tmp_path / "Real-IAD")
    whole = check(real_iad, tmp_path)
    assert (whole.status, whole.problems) == ("ok", [])
    assert (whole.completeness.complete, whole.completeness.expected) == (True, 8)
    monkeypatch.setattr(real_iad, "total", Counts(7, 2, 4, 0))
    part = check(real_iad, tmp_path)
    wrong = "the categories together have 6 of 7 normal, 2 of 2 anomalous test images"
    assert part.problems == [wrong]
    assert part.completeness.words() == "incomplete: 8 of 9 images"
    (tmp_path / "Real-IAD" / "realiad_1024" / "usb").rename(tmp_path / "usb")
    assert check(real_iad, tmp_path).problems == [
        "category usb is not there",
        "the categories together have 3 of 7 normal, 1 of 2 anomalous test images",
    ]
    chosen = check(real_iad, tmp_path, options={"categories": "audiojack"})
    assert (chosen.status, chosen.completeness.words()) == (
        "ok",
        "counts unknown; chosen: 1 of 2 categories",
    )


def test_absent_category_is_a_problem_and_own_categories_are_not(tmp_path, trees):
    trees.mvtec(tmp_path / "mvtec")
    problems = check(dataset_class("mvtec_ad"), tmp_path).problems
    assert "category tile is not there (it has 33 normal and 84 anomalous test images)" in problems
    trees.own_tree(tmp_path / "own")
    own = check(dataset_class("mvtec_ad"), tmp_path / "own")
    assert (own.status, [c.category for c in own.categories]) == ("ok", ["my_part"])


def test_gaps_are_counted_as_problems_and_the_rest_is_usable(tmp_path, trees):
    trees.kvasir(tmp_path / "Kvasir")
    (tmp_path / "Kvasir" / "masks" / "cju0qk.jpg").unlink()
    result = check(dataset_class("kvasir"), tmp_path)
    assert result.status == "incomplete"
    assert result.total("found").test_anomalous == 1
    assert any("no mask for image" in problem for problem in result.problems)


def test_missing_and_broken_are_told_apart(tmp_path):
    (tmp_path / "VisA").mkdir()
    results = check_all(["visa", "BTAD"], tmp_path)
    assert [r.status for r in results] == ["broken", "missing"]
    assert not any(r.usable for r in results)


def test_all_means_the_paper_and_tolerates_absence(tmp_path, trees):
    complete_btad(tmp_path, trees)
    results = check_all(["all"], tmp_path)
    assert len(results) == 19
    here = {r.name for r in results if r.status != "missing"}
    assert here - {"elpv"} == {"btad"}  # ELPV may come from its package
    assert not is_wrong(results, every=True)
    assert is_wrong(results, every=False)
    absent = [r for r in results if r.status == "missing"]
    assert is_wrong(absent, every=True)


def test_all_takes_no_anonymous_folder_for_four_datasets(tmp_path, trees):
    trees.pairs(tmp_path)
    names = ["cvc_clinicdb", "cvc_colondb", "endo", "kvasir"]
    statuses = {r.name: r.status for r in check_all(["all"], tmp_path)}
    assert {statuses[name] for name in names} == {"missing"}
    assert check(dataset_class("kvasir"), tmp_path).status == "incomplete"


def test_what_a_package_brings_does_not_count_as_found(tmp_path, monkeypatch, trees):
    brought = tmp_path / "site" / "elpv_dataset" / "data"
    trees.elpv(brought)
    module = sys.modules[dataset_class("elpv").__module__]
    monkeypatch.setattr(module, "packaged_folder", lambda: brought)
    (tmp_path / "empty").mkdir()
    results = check_all(["all"], tmp_path / "empty")
    (elpv,) = (r for r in results if r.status != "missing")
    assert elpv.packaged
    results[results.index(elpv)] = dataclasses.replace(elpv, status="ok")
    assert is_wrong(results, every=True)


def test_opening_counts_regions_that_resizing_loses(tmp_path, trees):
    size = (2000, 2000)
    trees.paint(tmp_path / "Kvasir" / "images" / "1.png", size)
    trees.mask(tmp_path / "Kvasir" / "masks" / "1.png", size, (700, 700, 701, 701))
    result = check(dataset_class("kvasir"), tmp_path, open_files=True)
    assert (result.opened, result.regions_lost) == (1, 1)
    kept = check(
        dataset_class("kvasir"), tmp_path, open_files=True, options={"mask_resize": "none"}
    )
    assert kept.regions_lost == 0


def test_empty_mask_of_an_anomalous_image_is_found(tmp_path, trees):
    trees.paint(tmp_path / "Kvasir" / "images" / "1.png")
    trees.mask(tmp_path / "Kvasir" / "masks" / "1.png", box=None)
    result = check(dataset_class("kvasir"), tmp_path, open_files=True)
    assert any("is empty" in problem for problem in result.problems)


def test_fingerprint_sees_files_and_not_their_place(tmp_path, trees):
    for place in ("one", "two"):
        trees.br35h(tmp_path / place / "Br35H")
    br35h = dataset_class("br35h")
    prints = [br35h(tmp_path / place / "Br35H").fingerprint() for place in ("one", "two")]
    assert prints[0] == prints[1]
    image = tmp_path / "two" / "Br35H" / "yes" / "y0.jpg"
    content = image.read_bytes()
    os.utime(image, (1, 1))
    assert br35h(tmp_path / "two" / "Br35H").fingerprint() == prints[0], "times are not content"
    image.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(image, (1, 1))
    assert br35h(tmp_path / "two" / "Br35H").fingerprint() != prints[0], (
        "one byte is, at the same size"
    )


def test_fingerprint_of_a_choice_of_samples_depends_on_the_choice(tmp_path, trees):
    trees.br35h(tmp_path / "Br35H")
    dataset = dataset_class("br35h")(tmp_path / "Br35H")
    samples = dataset.samples()
    assert dataset.fingerprint_of(samples) == dataset.fingerprint()
    assert dataset.fingerprint_of(samples[1:]) != dataset.fingerprint()
    samples[0].image_path.unlink()
    with pytest.raises(DataError, match="cannot be reached"):
        dataset.fingerprint_of(samples)


def test_unknown_names_and_roots_are_usage_and_data_errors(tmp_path):
    with pytest.raises(UsageError, match="did you mean kvasir"):
        check_all(["kvasri"], tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        check_all(["all"], tmp_path / "none")


def test_totals_of_unknown_numbers_are_unknown():
    total = Counts.total([Counts(1, 2, None, 0), Counts(3, 4, 5, 0)])
    assert total == Counts(4, 6, None, 0)
    assert Counts.total([]) == Counts()


class Plain(Dataset):
    """A dataset without layouts, as a plug-in may write one."""

    name = "plain"
    title = "Plain"
    folders = ("plain",)

    @classmethod
    def match(cls, folder):
        return int((folder / "plain.txt").exists())

    def samples(self, split="test"):
        if split == "train":
            return []
        return [Sample(self.root / "a.png", 1, "x", "x"), Sample(self.root / "b.png", 0, "x", "x")]


def test_locate_prefers_sure_folders_and_is_not_lost_in_loops(tmp_path):
    deep = tmp_path / "archive" / "Pl-ain" / "inner"
    deep.mkdir(parents=True)
    (deep / "plain.txt").touch()
    (tmp_path / "archive" / "again").symlink_to(tmp_path)
    assert locate(Plain, tmp_path) == deep
    assert locate(Plain, deep) == deep
    (tmp_path / "plain.txt").touch()
    assert locate(Plain, tmp_path) == deep  # a named folder beats a nameless one
    with pytest.raises(DataError, match="is not a folder"):
        locate(Plain, deep / "plain.txt")
    with pytest.raises(DataError, match="is not below"):
        locate(Plain, tmp_path / "archive" / "Pl-ain" / "inner", by_name=True)


def test_root_that_holds_another_dataset_is_not_a_dataset_itself(tmp_path, trees):
    trees.sdd_flat(tmp_path / "SDD")
    with pytest.raises(DataError, match="MVTecAD is not below"):
        load_dataset("mvtec_ad", tmp_path)
    assert load_dataset("mvtec_ad", tmp_path / "SDD").samples()  # asked for by its path


def test_named_folder_may_wrap_another(tmp_path, trees):
    inner = tmp_path / "Kvasir" / "version 2" / "images only"
    trees.pairs(inner)
    assert load_dataset("kvasir", tmp_path / "Kvasir").root == inner
    assert load_dataset("kvasir", tmp_path).root == inner


def test_what_macos_leaves_in_archives_is_passed_over(tmp_path, trees):
    trees.kvasir(tmp_path / "archive" / "Kvasir-SEG")
    for part in ("images", "masks"):
        left = tmp_path / "archive" / "__MACOSX" / "Kvasir-SEG" / part / "._cju0qk.jpg"
        left.parent.mkdir(parents=True)
        left.write_bytes(b"x")
    assert len(load_dataset("kvasir", tmp_path).samples()) == 2


def test_plugin_without_layouts_can_be_checked(tmp_path, trees):
    for name in ("a.png", "b.png"):
        trees.paint(tmp_path / name)
    result = check(Plain, tmp_path, open_files=True)
    assert (result.status, result.opened) == ("ok", 2)
    assert result.categories[0].found == Counts(1, 1, 0, 0)
