"""The same trees with one thing broken: each gives its message."""

import shutil
from pathlib import Path

import pytest
from zsad.bench.data.check import check
from zsad.bench.errors import DataError
from zsad.bench.registry import dataset_class, load_dataset

# builder of trees.py -> dataset, an anomalous image, its mask, a folder of images
FAMILIES = {
    "mvtec": (
        "mvtec_ad",
        "bottle/test/broken_large/001.png",
        "bottle/ground_truth/broken_large/001_mask.png",
        "bottle/test/broken_large",
    ),
    "btad": ("btad", "01/test/ko/001.bmp", "01/ground_truth/ko/001.png", "01/test/ko"),
    "visa": (
        "visa",
        "pcb1/Data/Images/Anomaly/001.JPG",
        "pcb1/Data/Masks/Anomaly/001.png",
        "pcb1/Data/Images/Anomaly",
    ),
    "dagm": ("dagm", "Class1/Test/0002.PNG", "Class1/Test/Label/0002_label.PNG", "Class1/Test"),
    "aitex": (
        "aitex",
        "Defect_images/0001_002_00.png",
        "Mask_images/0001_002_00_mask.png",
        "NODefect_images",
    ),
    "sdd": ("sdd", "kos01/Part1.jpg", "kos01/Part1_label.bmp", "kos01"),
    "kvasir": ("kvasir", "images/cju0qk.jpg", "masks/cju0qk.jpg", "images"),
    "endo": ("endo", "images/1a2b.jpg", "masks/1a2b.png", "images"),
    "clinicdb": ("cvc_clinicdb", "Original/10.tif", "Ground Truth/10.tif", "Original"),
    "isic": (
        "isic",
        "ISBI2016_ISIC_Part1_Test_Data/ISIC_0000001.jpg",
        "ISBI2016_ISIC_Part1_Test_GroundTruth/ISIC_0000001_Segmentation.png",
        "ISBI2016_ISIC_Part1_Test_Data",
    ),
    "tn3k": (
        "tn3k",
        "tn3k/test-image/0001.jpg",
        "tn3k/test-mask/0001.jpg",
        "tn3k/test-image",
    ),
    "colondb": ("cvc_colondb", "77.tif", "p77.tiff", "."),
    "own_folders": ("folder", "anomalous/dent/1.jpg", "masks/dent/1_mask.png", "anomalous"),
}
WITHOUT_MASKS = {
    "brainmri": ("brainmri", "yes/Y1.jpg", "yes"),
    "headct": ("headct", "head_ct/head_ct/001.png", "head_ct/head_ct"),
    "br35h": ("br35h", "yes/y0.jpg", "no"),
    "lag": ("lag", "suspicious_glaucoma/image/0009.jpg", "non_glaucoma/image"),
    "elpv": ("elpv", "images/cell0001.png", "images"),
}


@pytest.fixture(params=FAMILIES)
def family(request, trees, tmp_path):
    name, image, mask, folder = FAMILIES[request.param]
    root = tmp_path / request.param
    root.mkdir()
    getattr(trees, request.param)(root)
    return name, root, root / image, root / mask, root / folder


@pytest.fixture(params=WITHOUT_MASKS)
def maskless(request, trees, tmp_path):
    name, image, folder = WITHOUT_MASKS[request.param]
    root = tmp_path / request.param
    root.mkdir()
    getattr(trees, request.param)(root)
    return name, root, root / image, root / folder


def test_missing_mask_is_refused_or_left_out_on_demand(family):
    name, root, image, mask, _ = family
    mask.unlink()
    with pytest.raises(DataError, match=r"no mask for image .*missing=skip") as caught:
        load_dataset(name, root).samples()
    assert str(image) in str(caught.value)
    rest = load_dataset(name, root, missing="skip")
    if name not in ("aitex", "dagm"):  # there the only mask is gone
        assert image not in {s.image_path for s in rest.samples()}
        assert any(str(image) in fault for fault in rest.faults())


def test_extra_mask_is_told_and_does_not_hinder(family):
    name, root, image, mask, _ = family
    extra = mask.with_name(mask.name.replace(image.stem, "9999"))
    shutil.copy(mask, extra)
    dataset = load_dataset(name, root)
    before = len(dataset.samples())
    assert any(str(extra) in fault for fault in dataset.faults())
    extra.unlink()
    assert len(load_dataset(name, root).samples()) == before
    assert load_dataset(name, root).faults() == []


def test_mask_of_another_size_is_named_with_both_sizes(family, trees):
    name, root, image, mask, _ = family
    suffix_lies = "TIFF" if mask.suffix.startswith(".tif") else None
    size = trees.STRIP if name == "aitex" else trees.COMMUTATOR if name == "sdd" else trees.SIZE
    wrong = (size[0] + 2, size[1] + 2)
    trees.mask(mask, wrong, (3, 2, 8, 6), kind=suffix_lies)
    dataset = load_dataset(name, root)
    sample = next(s for s in dataset.samples() if s.image_path == image and s.label)
    with pytest.raises(DataError, match="replace the mask") as caught:
        dataset.read(sample)
    for part in (str(mask), str(image), f"{wrong[0]}x{wrong[1]}", f"{size[0]}x{size[1]}"):
        assert part in str(caught.value)


def test_folder_without_images_is_named(family):
    name, root, _, _, folder = family
    for path in list(folder.rglob("*")):
        if path.is_file() and path.suffix.lower() != ".txt":
            path.unlink()
    with pytest.raises(DataError) as caught:
        load_dataset(name, root).samples()
    assert str(root) in str(caught.value)
    assert len(str(caught.value).splitlines()[0]) < 700


def test_unreadable_image_is_found_by_opening(family):
    name, root, image, _, _ = family
    image.write_bytes(image.read_bytes()[:60])
    shallow = check(dataset_class(name), root)
    assert all("cannot be read" not in problem for problem in shallow.problems)
    deep = check(dataset_class(name), root, open_files=True)
    assert deep.status == "broken"
    assert any(str(image) in p and "replace the file" in p for p in deep.problems)


def test_unreadable_mask_names_the_file(family):
    name, root, _, mask, _ = family
    mask.write_bytes(b"no image at all")
    result = check(dataset_class(name), root, open_files=True)
    assert result.status == "broken"
    assert any(str(mask) in problem for problem in result.problems)


def test_emptied_folder_of_a_maskless_set_is_named(maskless):
    name, root, _, folder = maskless
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"holds no image|does not exist|which is not in|no test"):
        load_dataset(name, root).samples()


def test_unreadable_image_of_a_maskless_set_is_found(maskless):
    name, root, image, _ = maskless
    image.write_bytes(image.read_bytes()[:60])
    result = check(dataset_class(name), root, open_files=True)
    assert result.status == "broken"
    assert any(str(image) in problem for problem in result.problems)


def test_missing_root_says_what_to_do(tmp_path):
    for name in ("mvtec_ad", "kvasir", "elpv", "folder"):
        with pytest.raises(DataError, match=r"nowhere.* does not exist"):
            load_dataset(name, tmp_path / "nowhere")
    with pytest.raises(DataError, match="needs a folder: point --data-root"):
        load_dataset("visa")


def test_wrong_folder_of_the_right_name_shows_the_expected_tree(tmp_path):
    (tmp_path / "VisA" / "junk").mkdir(parents=True)
    with pytest.raises(DataError, match=r"not VisA in a layout that is known(.|\n)*1cls.csv"):
        load_dataset("visa", tmp_path)


def test_broken_elpv_folder_is_not_replaced_by_the_package(tmp_path):
    (tmp_path / "elpv" / "junk").mkdir(parents=True)
    with pytest.raises(DataError, match="not ELPV in a layout that is known"):
        load_dataset("elpv", tmp_path)


def test_absent_dataset_lists_the_names_looked_for(tmp_path):
    with pytest.raises(DataError, match=r"MPDD is not below .*named like one of MPDD"):
        load_dataset("mpdd", tmp_path)


def test_constructor_puts_the_error_off_until_samples(tmp_path):
    dataset = dataset_class("mpdd")(tmp_path)
    with pytest.raises(DataError, match="is not MPDD in a layout that is known"):
        dataset.samples()


@pytest.mark.parametrize("kind", ["normal", "anomalous"])
def test_category_without_a_test_side(tmp_path, trees, kind):
    trees.mvtec(tmp_path / "mvtec")
    tested = tmp_path / "mvtec" / "metal_nut" / "test"
    shutil.rmtree(tested / ("good" if kind == "normal" else "scratch"))
    dataset = load_dataset("mvtec_ad", tmp_path)
    if kind == "normal":  # pixel-level metrics remain
        assert {s.label for s in dataset.samples() if s.category == "metal_nut"} == {1}
    else:
        with pytest.raises(DataError, match=r"'metal_nut' .*no anomalous test image"):
            dataset.samples()


def test_category_folder_without_test_is_refused(tmp_path, trees):
    trees.mvtec(tmp_path / "mvtec")
    shutil.rmtree(tmp_path / "mvtec" / "metal_nut" / "test")
    with pytest.raises(DataError, match="metal_nut has no test folder"):
        load_dataset("mvtec_ad", tmp_path).samples()


def test_link_to_itself_is_neither_a_folder_nor_an_image(tmp_path, trees):
    trees.mvtec(tmp_path / "mvtec")
    loop = tmp_path / "mvtec" / "bottle" / "test" / "good" / "002.png"
    loop.symlink_to(loop)
    (tmp_path / "mvtec" / "bottle" / "test" / "loop").symlink_to("loop")
    (tmp_path / "loop").symlink_to(tmp_path)
    result = check(dataset_class("mvtec_ad"), tmp_path, open_files=True)
    assert result.status == "incomplete"
    assert any(str(loop) in problem for problem in result.problems)
    with pytest.raises(DataError, match=r"002.png is a link to nowhere"):
        load_dataset("mvtec_ad", tmp_path).samples()


def test_loop_of_links_among_own_images_is_refused(tmp_path, trees):
    trees.own_folders(tmp_path / "doors")
    (tmp_path / "doors" / "normal" / "again").symlink_to(tmp_path / "doors" / "normal")
    with pytest.raises(DataError, match="link that leads back"):
        load_dataset("folder", tmp_path / "doors").samples()


def test_labels_of_elpv_and_headct_must_make_sense(tmp_path, trees):
    trees.elpv(tmp_path / "elpv")
    (tmp_path / "elpv" / "labels.csv").write_text("images/cell0001.png maybe mono\n")
    with pytest.raises(DataError, match=r"labels.csv is not a readable table with rows of"):
        load_dataset("elpv", tmp_path / "elpv").samples()
    trees.headct(tmp_path / "HeadCT")
    (tmp_path / "HeadCT" / "labels.csv").write_text("id, hemorrhage\n0,2\n")
    with pytest.raises(DataError, match="labels other than 0 and 1"):
        load_dataset("headct", tmp_path).samples()


def test_labels_txt_that_disagrees_is_told(tmp_path, trees):
    trees.dagm(tmp_path / "DAGM")
    trees.mask(tmp_path / "DAGM" / "Class1" / "Test" / "Label" / "0003_label.PNG")
    dataset = load_dataset("dagm", tmp_path)
    assert sum(s.label for s in dataset.samples() if s.category == "Class1") == 2
    assert any("calls 0003.PNG normal" in fault for fault in dataset.faults())


def test_split_table_of_visa_may_not_lead_out(tmp_path, trees):
    trees.visa(tmp_path / "VisA")
    table = tmp_path / "VisA" / "split_csv" / "1cls.csv"
    table.write_text(table.read_text() + "candle,test,normal,../../secret.JPG,\n")
    with pytest.raises(DataError, match="leads out"):
        load_dataset("visa", tmp_path).samples()
    table.write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="has the columns"):
        load_dataset("visa", tmp_path).samples()


@pytest.mark.parametrize(
    ("name", "part", "says"),
    [
        ("aitex", "Mask_images", "but not folder Mask_images"),
        ("aitex", "NODefect_images", "but not folder NODefect_images"),
        ("headct", "labels.csv", r"it has folder head_ct, but not labels.csv"),
        ("headct", "head_ct", "holds no image that .*labels.csv lists"),
        ("clinicdb", "Ground Truth", "it has folder original, but not folder ground truth"),
        ("clinicdb", "Original", "it has folder ground truth, but not folder original"),
        ("kvasir", "masks", "it has folder images, but not folder masks"),
        ("br35h", "no", "it has folder yes, but not folder no"),
        ("elpv", "images", "it has labels.csv, but not folder images"),
        ("lag", "non_glaucoma", "but not folder non_glaucoma"),
    ],
)
def test_a_missing_part_is_named(tmp_path, trees, name, part, says):
    dataset = {"clinicdb": "cvc_clinicdb"}.get(name, name)
    root = tmp_path / dataset_class(dataset).folders[0]
    root.mkdir()
    getattr(trees, name)(root)
    shutil.rmtree(root / part) if (root / part).is_dir() else (root / part).unlink()
    with pytest.raises(DataError, match=says):
        load_dataset(dataset, tmp_path).samples()


def test_an_unknown_kind_of_defect_is_named_once(tmp_path, trees):
    trees.mvtec(tmp_path / "mvtec")
    for number in range(3):
        trees.paint(tmp_path / "mvtec" / "bottle" / "test" / "mystery" / f"{number}.png")
    with pytest.raises(DataError, match=r"test/mystery of 3 images has no folder of masks .*truth"):
        load_dataset("mvtec_ad", tmp_path).samples()


def test_an_image_beside_one_of_the_release_is_named_and_not_taken(tmp_path, trees):
    trees.sdd(tmp_path / "SDD")
    trees.paint(tmp_path / "SDD" / "kos01" / "Part0.png")
    dataset = load_dataset("sdd", tmp_path)
    assert {s.image_path.suffix for s in dataset.samples()} == {".jpg"}
    assert any("Part0.png is not of the release" in fault for fault in dataset.faults())


@pytest.mark.parametrize("name", ["headct", "elpv"])
def test_a_table_that_cannot_be_opened_is_an_error_of_its_dataset(
    tmp_path, trees, monkeypatch, name
):
    getattr(trees, name)(tmp_path / name)
    plain = Path.open

    def refusing(path, *arguments, **options):
        if path.name == "labels.csv":
            raise PermissionError(13, "Permission denied", str(path))
        return plain(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", refusing)
    result = check(dataset_class(name), tmp_path)
    assert result.status == "broken"
    assert "Permission denied" in result.problems[0]
    assert "labels.csv" in result.problems[0]


def test_a_fault_is_logged_once_however_often_a_dataset_is_opened(tmp_path, trees, caplog):
    trees.kvasir(tmp_path / "Kvasir")
    (tmp_path / "Kvasir" / "images" / "cju0qk.jpg").unlink()
    for _ in range(3):
        load_dataset("kvasir", tmp_path).samples()
    assert caplog.text.count("masks have no image") == 1
