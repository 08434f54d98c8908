import json

import numpy as np
import pytest
from PIL import Image
from zsad.bench.data.check import benchmark_names
from zsad.bench.data.meta_json import CODES, class_key, meta_of
from zsad.bench.errors import DataError, UsageError
from zsad.bench.registry import dataset_class, load_dataset

SHARED_KEYS = """
carpet grid leather tile wood bottle capsule pill transistor zipper cable hazelnut metal_nut screw
toothbrush candle capsules cashew chewinggum fryum macaroni1 macaroni2 pcb1 pcb2 pcb3 pcb4
pipe_fryum bracket_black bracket_brown bracket_white connector metal_plate tubes 01 02 03
Class1 Class2 Class3 Class4 Class5 Class6 Class7 Class8 Class9 Class10 Woven_001 Woven_127 Woven_104
Stratified_154 Blotchy_099 Woven_068 Woven_125 Marbled_078 Perforated_037 Mesh_114 Fibrous_183
Matted_069 colon skin chest thyroid
"""
FAPROMPT_KEYS = """
SDD headct2 brainmri2 LAG br35 Brain_MRI elpv AITEX bend_and_parts_mismatch defective_painting hole
rust scratches Broken_end Broken_yarn Crease Fuzzyball Nep Weft_crack Broken_pick Contamination
Cut_selvage Knots Warp_ball Weft_curling
"""
LOADER_KEYS = {
    "faprompt": frozenset(SHARED_KEYS.split() + FAPROMPT_KEYS.split()),
    "anomalyclip": frozenset([*SHARED_KEYS.split(), "electrical commutators"]),
}
"""The class keys of generate_class_info in the released dataset.py; both could be read:
mala-lab/FAPrompt at 7e9d9d2aeb17648ae52374708ea95d3f8396cecc, zqhang/AnomalyCLIP at
45ed4dd35c05797d854294b5e8d585c545920089."""

WITHOUT_KEY = {
    "faprompt": frozenset(),
    "anomalyclip": frozenset({"aitex", "br35h", "brainmri", "elpv", "headct", "lag"}),
}


def released_reading(root, row):
    """Image [H, W, 3] and mask [H, W] as the released loaders take them, with plain PIL."""
    image = np.asarray(Image.open(root / row["img_path"]).convert("RGB"))
    return image, np.asarray(Image.open(root / row["mask_path"]).convert("L")) > 0


@pytest.mark.parametrize("code", CODES)
def test_every_key_is_in_the_list_of_the_released_loader(tmp_path, code):
    without = set()
    for name in benchmark_names():
        dataset = dataset_class(name)(tmp_path)
        try:
            keys = {class_key(dataset, category, code) for category in dataset.categories}
        except UsageError as refusal:
            assert f"{code} has no class key for {dataset.title}" in str(refusal)
            without.add(name)
        else:
            assert keys <= LOADER_KEYS[code], name
            assert len(keys) == len(dataset.categories)
    assert without == WITHOUT_KEY[code]


def test_the_keys_of_sdd_and_the_brains_are_the_loaders_own(tmp_path, trees):
    trees.br35h(tmp_path / "Br35H")
    dataset = load_dataset("br35h", tmp_path)
    content = meta_of(dataset)
    assert {row["cls_name"] for row in rows(content)} == {"br35"} == set(content["test"])
    (dataset.root / "meta.json").write_text(json.dumps(content))
    again = load_dataset("br35h", tmp_path, layout="meta").samples()
    assert {sample.category for sample in again} == {"brain"}
    with pytest.raises(UsageError, match="no class key for Br35H .*--code faprompt"):
        meta_of(dataset, code="anomalyclip")
    with pytest.raises(UsageError, match="did you mean anomalyclip"):
        meta_of(dataset, code="anomaly-clip")
    trees.sdd(tmp_path / "SDD")
    sdd = load_dataset("sdd", tmp_path)
    commutators = meta_of(sdd, sdd.root / "pieces", "anomalyclip")
    assert set(commutators["test"]) == {"electrical commutators"}
    (sdd.root / "meta.json").write_text(json.dumps(commutators))
    assert {s.category for s in load_dataset("sdd", tmp_path, layout="meta").samples()} == {"SDD"}


def test_tiffs_are_converted_on_request(tmp_path, trees):
    trees.clinicdb(tmp_path / "CVC-ClinicDB")
    dataset = load_dataset("cvc_clinicdb", tmp_path)
    assert all(row["img_path"].endswith(".tif") for row in rows(meta_of(dataset)))
    listed = rows(meta_of(dataset, png_into=dataset.root / "converted"))
    assert len(listed) == 3
    for row, sample in zip(listed, dataset.samples(), strict=True):
        assert row["img_path"].startswith("converted/")
        assert Image.open(dataset.root / row["img_path"]).format == "PNG"
        image, mask = released_reading(dataset.root, row)
        assert np.array_equal(image, np.asarray(dataset.read(sample).image))
        assert np.array_equal(mask, dataset.read(sample).mask)


@pytest.mark.parametrize("threshold", [0, 127])
def test_jpeg_masks_become_clean_png_masks(tmp_path, trees, threshold):
    trees.kvasir(tmp_path / "Kvasir")
    dataset = load_dataset("kvasir", tmp_path, mask_threshold=threshold)
    listed = rows(meta_of(dataset, png_into=dataset.root / "converted"))
    for row, sample in zip(listed, dataset.samples(), strict=True):
        assert dataset.root / row["img_path"] == sample.image_path
        assert row["mask_path"].endswith("_mask.png")
        drawn = np.asarray(Image.open(dataset.root / row["mask_path"]))
        assert set(np.unique(drawn)) == {0, 255}
        assert np.array_equal(drawn > 0, dataset.read(sample).mask)


def test_what_plain_pil_reads_rightly_is_not_converted(tmp_path, trees):
    trees.endo(tmp_path / "Endo" / "Endo")
    dataset = load_dataset("endo", tmp_path)
    assert meta_of(dataset, png_into=dataset.root / "converted") == meta_of(dataset)
    assert not (dataset.root / "converted").exists()


def test_photographs_that_exif_turns_are_converted_with_their_masks(tmp_path, trees):
    trees.endo(tmp_path / "Endo" / "Endo")
    dataset = load_dataset("endo", tmp_path)
    turned = dataset.samples()[0].image_path
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(turned).save(turned, exif=exif)
    listed = rows(meta_of(dataset, png_into=dataset.root / "converted"))
    assert [row["img_path"].endswith(".png") for row in listed] == [True, False]
    image, mask = released_reading(dataset.root, listed[0])
    assert image.shape[:2] == mask.shape == trees.SIZE
    stored = load_dataset("endo", tmp_path, orientation="stored")
    assert meta_of(stored, png_into=stored.root / "converted") == meta_of(stored)


def test_copies_are_not_written_over_the_originals(tmp_path, trees):
    trees.brainmri(tmp_path / "BrainMRI")
    odd = trees.paint(tmp_path / "BrainMRI" / "no" / "odd.png", mode="RGBA")
    before = odd.read_bytes()
    dataset = load_dataset("brainmri", tmp_path)
    with pytest.raises(UsageError, match="name a folder below it"):
        meta_of(dataset, png_into=dataset.root / "no" / "..")
    assert odd.read_bytes() == before


def test_two_images_that_would_be_written_to_one_file_are_refused(tmp_path, trees):
    root = tmp_path / "own"
    for name in ("a_b/c.tif", "a/b_c.tif"):
        trees.paint(root / "normal" / name)
    trees.paint(root / "anomalous" / "x.png")
    with pytest.raises(DataError, match="would both be written as normal_a_b_c.png"):
        meta_of(load_dataset("folder", root), png_into=root / "converted")


def rows(content):
    return [row for classes in content.values() for part in classes.values() for row in part]


def test_written_meta_is_read_back_as_the_same_samples(tree_case, build):
    _, folder = build(tree_case)
    dataset = load_dataset(tree_case.dataset, folder)
    content = meta_of(dataset, dataset.root / "pieces")
    (dataset.root / "meta.json").write_text(json.dumps(content))
    again = load_dataset(tree_case.dataset, dataset.root, layout="meta")
    assert again.layout_found() == "meta"
    for split in ("test", "train"):
        old, new = dataset.samples(split), again.samples(split)
        key = lambda s: (s.category, s.label, s.anomaly_type)  # noqa: E731
        assert sorted(map(key, old)) == sorted(map(key, new))
    pixels = sum(int(m.sum()) for s in dataset.samples() if (m := dataset.read(s).mask) is not None)
    pixels_again = sum(
        int(m.sum()) for s in again.samples() if (m := again.read(s).mask) is not None
    )
    assert pixels == pixels_again
    for row in rows(content):
        assert set(row) == {"img_path", "mask_path", "cls_name", "specie_name", "anomaly"}
        assert not row["img_path"].startswith("/")


def test_pieces_need_a_folder_to_be_cut_into(tmp_path, trees):
    trees.sdd(tmp_path / "SDD")
    with pytest.raises(UsageError, match="--cut"):
        meta_of(load_dataset("sdd", tmp_path))


@pytest.fixture
def listed(tmp_path, trees):
    """A meta.json dataset with one row replaced; gives the error message."""
    root = tmp_path / "mvtec"
    root.mkdir()
    trees.with_meta(root)

    def message(**change):
        content = json.loads((root / "meta.json").read_text())
        content["Test"]["screw"][1].update(change)
        (root / "meta.json").write_text(json.dumps(content))
        with pytest.raises(DataError) as caught:
            load_dataset("mvtec_ad", root).samples()
        return str(caught.value)

    message.root = root
    return message


@pytest.mark.parametrize(
    "path",
    [
        "../secret.png",
        "/etc/passwd",
        "/x/mvtec/../secret.png",
        "/x/mvtec",
        "pictures/../../secret.png",
        "C:\\secret.png",
    ],
)
def test_paths_that_lead_out_are_refused(listed, path):
    (listed.root.parent / "secret.png").write_bytes(b"")
    assert "leads out of" in listed(img_path=path)
    assert path in listed(img_path=path)


@pytest.mark.parametrize("before", ["", "/remote-home/somebody/data", "/data/mvtec/other"])
def test_absolute_paths_of_another_machine_are_read_below_the_folder(tmp_path, trees, before):
    root = tmp_path / "mvtec"
    root.mkdir()
    trees.with_meta(root)
    content = json.loads((root / "meta.json").read_text())
    for row in rows(content):
        for key in ("img_path", "mask_path"):
            if row[key]:
                row[key] = f"{before or tmp_path}/mvtec/" + row[key].replace("\\", "/")
    content["Test"]["screw"][1]["specie_name"] = ""  # as AnomalyCLIP's polyp scripts leave it
    (root / "meta.json").write_text(json.dumps(content))
    samples = load_dataset("mvtec_ad", root).samples()
    assert [s.image_path for s in samples] == [root / "pictures" / n for n in ("a.png", "b.png")]
    assert [s.anomaly_type for s in samples] == ["good", "anomaly"]


def test_masks_that_lead_out_are_refused(listed):
    assert "leads out of" in listed(mask_path="../../b.png")


def test_links_that_lead_out_are_refused(listed, trees):
    trees.paint(listed.root.parent / "elsewhere" / "x.png")
    (listed.root / "away").symlink_to(listed.root.parent / "elsewhere")
    assert "leads out of" in listed(img_path="away/x.png")
    (listed.root / "x.png").symlink_to(listed.root.parent / "elsewhere" / "x.png")
    assert "leads out of" in listed(img_path="x.png")


def test_loop_of_links_is_refused(listed):
    (listed.root / "loop.png").symlink_to(listed.root / "loop.png")
    assert "loop" in listed(img_path="loop.png")
    (listed.root / "round").symlink_to(listed.root / "round")
    assert "loop" in listed(img_path="round/x.png")


def test_missing_file_and_missing_mask_are_told(listed):
    assert "'pictures/none.png', which does not exist" in listed(img_path="pictures/none.png")
    assert "no mask for image" in listed(img_path="pictures/b.png", mask_path="")


@pytest.mark.parametrize("change", [{"anomaly": 2}, {"img_path": ""}, {"mask_path": 3}])
def test_rows_that_make_no_sense_are_shown(listed, change):
    assert "it needs img_path, mask_path" in listed(**change)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a readable JSON file"),
        ("[]", "holds no object of splits"),
        ('{"val": {}}', "has the split 'val'"),
        ('{"test": {"screw": {}}}', "is not a list of rows"),
        ('{"test": {"screw": [1]}}', "it needs img_path"),
    ],
)
def test_other_json_is_refused(listed, text, message):
    (listed.root / "meta.json").write_text(text)
    with pytest.raises(DataError, match=message):
        load_dataset("mvtec_ad", listed.root).samples()


def test_unknown_class_is_refused_where_classes_are_fixed(tmp_path, trees):
    (tmp_path / "BTAD").mkdir()
    trees.with_meta(tmp_path / "BTAD")
    with pytest.raises(DataError, match="class 'screw', which BTAD does not have"):
        load_dataset("btad", tmp_path).samples()


def test_sets_of_one_category_take_any_class_key(tmp_path, trees):
    (tmp_path / "Br35H").mkdir()
    trees.with_meta(tmp_path / "Br35H")
    assert {s.category for s in load_dataset("br35h", tmp_path).samples()} == {"brain"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda text: text.replace('"Train": {', '"Test": {}, "Train": {'),
            "'Test' is there twice",
        ),
        (lambda text: text.replace('"Train": {', '"test": {}, "Train": {'), "'test' and 'Test'"),
        (lambda text: text.replace('"screw": [', '"screw": [], "screw": [', 1), "'screw' is there"),
        (lambda text: text.replace('"screw": [', '"Screw": [], "screw": [', 1), "same category"),
        (
            lambda text: text.replace('"anomaly": 0', '"anomaly": 1, "anomaly": 0', 1),
            "'anomaly' is",
        ),
    ],
)
def test_a_key_that_is_there_twice_is_refused(tmp_path, trees, change, says):
    trees.with_meta(tmp_path / "listed")
    path = tmp_path / "listed" / "meta.json"
    path.write_text(change(path.read_text()))
    with pytest.raises(DataError, match=says):
        load_dataset("folder", tmp_path / "listed").samples()
