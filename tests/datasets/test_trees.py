import json

import pytest
from zsad.bench.data.completeness import completeness
from zsad.bench.data.meta_json import meta_of
from zsad.bench.errors import DataError, UsageError
from zsad.bench.registry import dataset_class, load_dataset, open_dataset


@pytest.fixture
def dataset(tree_case, build):
    data_root, folder = build(tree_case)
    return load_dataset(tree_case.dataset, folder if tree_case.dataset == "folder" else data_root)


def test_documented_tree_gives_its_samples(tree_case, dataset):
    test, train = dataset.samples("test"), dataset.samples("train")
    assert dataset.layout_found() == tree_case.layout
    assert [s.label for s in test].count(0) == tree_case.normal
    assert [s.label for s in test].count(1) == tree_case.anomalous
    assert len(train) == tree_case.train
    assert tuple(dict.fromkeys(s.category for s in test)) == tree_case.categories
    assert {s.split for s in test} == {"test"}
    assert {s.split for s in train} <= {"train"}
    identities = [s.name(dataset.root) for s in test + train]
    assert len(set(identities)) == len(identities)
    assert dataset.faults() == []


def test_masks_belong_to_their_images(tree_case, dataset):
    for sample in dataset.samples("test"):
        reading = dataset.read(sample)
        assert reading.image.mode == "RGB"
        assert (sample.anomaly_type == "good") == (sample.label == 0)
        if not dataset.has_masks:
            assert reading.mask is None
            continue
        assert reading.mask.shape == (reading.image.height, reading.image.width)
        assert reading.mask.any() == (sample.label == 1)
        for path in sample.mask_paths:
            own, drawn = sample.image_path.stem, path.stem
            in_its_folder = path.parent.name == own
            assert in_its_folder or drawn.lower().startswith((own.lower(), f"p{own.lower()}"))


def test_samples_come_in_one_fixed_order(tree_case, dataset, build):
    again = type(dataset)(dataset.root)
    names = [s.name(dataset.root) for s in dataset.samples("test")]
    assert names == [s.name(again.root) for s in again.samples("test")]
    assert dataset.fingerprint() == again.fingerprint()
    by_category = [s.category for s in dataset.samples("test")]
    assert by_category == sorted(by_category, key=list(dict.fromkeys(by_category)).index)


def test_own_folder_and_data_root_give_the_same(tree_case, build):
    data_root, folder = build(tree_case)
    direct = load_dataset(tree_case.dataset, folder)
    prints = {direct.fingerprint(), type(direct)(str(direct.root)).fingerprint()}
    if tree_case.dataset != "folder":
        prints.add(load_dataset(tree_case.dataset, data_root).fingerprint())
    assert len(prints) == 1


def test_folder_under_another_name_is_known_by_its_content(tree_case, build):
    _, folder = build(tree_case)
    other = folder.rename(folder.with_name("download 7"))
    found = load_dataset(tree_case.dataset, other).samples("test")
    assert len(found) == tree_case.normal + tree_case.anomalous


def test_every_dataset_of_the_paper_has_a_tree_here(trees):
    from zsad.bench.data.check import benchmark_names

    names = benchmark_names()
    assert len(names) == 19
    assert set(names) <= {case.dataset for case in trees.CASES}


def test_data_root_of_many_gives_each_its_own(tmp_path, trees):
    chosen = {}
    for case in trees.CASES:
        if case.dataset != "folder" and case.dataset not in chosen:
            chosen[case.dataset] = case
            (tmp_path / case.folder).mkdir(parents=True)
            case.build(tmp_path / case.folder)
    for name, case in chosen.items():
        dataset = load_dataset(name, tmp_path)
        assert dataset.root.is_relative_to(tmp_path / case.folder)
        assert len(dataset.samples()) == case.normal + case.anomalous


def test_names_of_folders_are_compared_without_case(tmp_path, trees):
    trees.pairs(tmp_path / "some where" / "KVASIR seg")
    assert len(load_dataset("kvasir", tmp_path).samples()) == 3


def test_class_names_are_official_readable_or_given(tmp_path, trees):
    trees.mvtec(tmp_path / "mvtec")

    def words(**options):
        samples = load_dataset("mvtec-ad", tmp_path, **options).samples()
        return list(dict.fromkeys(s.class_name for s in samples))

    assert words() == ["bottle", "metal_nut"]
    assert words(class_names="readable") == ["bottle", "metal nut"]
    assert words(class_name="object") == ["object"]


def test_categories_can_be_chosen(tmp_path, trees):
    trees.mvtec(tmp_path / "mvtec")
    chosen = load_dataset("mvtec_ad", tmp_path, categories=["Metal-Nut"]).samples()
    assert {s.category for s in chosen} == {"metal_nut"}
    with pytest.raises(UsageError, match="did you mean bottle"):
        load_dataset("mvtec_ad", tmp_path, categories=["botle"]).samples()
    listed = load_dataset("mvtec_ad", tmp_path, categories="bottle, metal_nut").samples()
    assert {s.category for s in listed} == {"bottle", "metal_nut"}


def test_a_chosen_category_that_is_not_there_is_named(tmp_path, trees):
    trees.visa(tmp_path / "VisA")
    with pytest.raises(DataError, match=r"'cashew' of VisA is not in .*has candle, pcb1"):
        load_dataset("visa", tmp_path, categories="candle,cashew").samples()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("visa", {"categories": 3}),
        ("visa", {"categories": []}),
        ("visa", {"mask_threshold": "high"}),
        ("visa", {"class_name": ["a"]}),
        ("visa", {"layout": ["tree"]}),
        ("sdd", {"normal_test_fraction": "half"}),
        ("sdd", {"split_seed": "one"}),
        ("sdd", {"split_list": 3}),
    ],
)
def test_an_option_of_a_wrong_type_is_refused_by_name(name, options, tmp_path, trees):
    getattr(trees, name)(tmp_path / name)
    with pytest.raises(UsageError, match=next(iter(options)).replace("mask_t", "mask t")):
        load_dataset(name, tmp_path, **options).samples()


def test_unknown_option_or_value_is_refused_by_name(tmp_path):
    kvasir = dataset_class("kvasir")
    with pytest.raises(UsageError, match=r"mask_treshold.*did you mean mask-threshold"):
        kvasir(tmp_path, mask_treshold=1)
    with pytest.raises(UsageError, match=r"0\.\.254, not 300"):
        kvasir(tmp_path, mask_threshold=300)
    with pytest.raises(UsageError, match="'official', 'nearest' or 'none'"):
        kvasir(tmp_path, mask_resize="cubic")
    with pytest.raises(UsageError, match="'exif' or 'stored'"):
        kvasir(tmp_path, orientation="left")
    with pytest.raises(UsageError, match=r"layout of kvasir 'pair'.*did you mean pairs"):
        kvasir(tmp_path, layout="pair")
    with pytest.raises(UsageError, match="multi_mask"):
        dataset_class("aitex")(tmp_path, multi_mask="both")


def test_mask_threshold_replaces_the_papers(tmp_path, trees):
    trees.paint(tmp_path / "Kvasir" / "images" / "1.png")
    trees.mask(tmp_path / "Kvasir" / "masks" / "1.png", value=100)
    paper, clean = (
        load_dataset("kvasir", tmp_path, mask_threshold=threshold) for threshold in (None, 127)
    )
    assert paper.read(paper.samples()[0]).mask.sum() == 80
    assert clean.read(clean.samples()[0]).mask.sum() == 0


def test_visa_masks_count_every_kind_of_defect(tmp_path, trees):
    trees.visa(tmp_path / "VisA")
    dataset = load_dataset("visa", tmp_path)
    areas = {int(dataset.read(s).mask.sum()) for s in dataset.samples() if s.label}
    assert areas == {80}


def test_visa_without_its_split_says_where_it_is(tmp_path, trees):
    from zsad.bench.errors import DataError

    trees.visa(tmp_path / "VisA")
    (tmp_path / "VisA" / "split_csv" / "1cls.csv").unlink()
    with pytest.raises(DataError, match=r"no split_csv/1cls.csv.*spot-diff"):
        load_dataset("visa", tmp_path).samples()


def test_sdd_thirds_cover_the_image_and_share_a_straddling_defect(tmp_path, trees):
    trees.sdd(tmp_path / "SDD")
    dataset = load_dataset("sdd", tmp_path)
    everything = dataset.samples("test") + dataset.samples("train")
    assert len(everything) == 3 * 12
    one = sorted(
        s.crop for s in everything if s.image_path.name == "Part0.jpg" and "kos02" in str(s)
    )
    assert one == [(0, 0, 20, 10), (0, 10, 20, 20), (0, 20, 20, 31)]
    bad = {(s.image_path.parent.name, s.crop.top) for s in everything if s.label}
    assert bad == {("kos01", 0), ("kos02", 0), ("kos02", 10), ("kos10", 20)}
    pieces = [dataset.read(s) for s in everything if "kos02" in str(s.image_path) and s.label]
    assert sum(int(piece.mask.sum()) for piece in pieces) == 5 * 5


def test_aitex_patches_follow_the_paper_or_merge_double_masks(tmp_path, trees):
    trees.aitex(tmp_path / "AITEX")
    paper = load_dataset("aitex", tmp_path)
    bad = [(s.image_path.stem, s.crop.left, s.anomaly_type) for s in paper.samples() if s.label]
    assert bad == [("0001_002_00", 0, "Broken_end"), ("0001_002_00", 256, "Broken_end")]
    assert "0100_025_08" in paper.notes()[0]
    union = load_dataset("aitex", tmp_path, multi_mask="union")
    extra = [s for s in union.samples() if s.image_path.stem == "0044_019_04"]
    assert [(s.crop.left, len(s.mask_paths)) for s in extra] == [(0, 2), (512, 2)]
    assert [int(union.read(s).mask.sum()) for s in extra] == [30, 30]
    assert union.read(extra[1]).image.size == (600 - 512, 8)


def test_mvtec_ad_2_lists_the_public_test_set_and_says_what_it_leaves_out(tmp_path, trees):
    trees.mvtec_ad_2(tmp_path / "mvtec_ad_2")
    dataset = load_dataset("mvtec-ad-2", tmp_path)
    everything = dataset.samples("test") + dataset.samples("train")
    parts = {sample.image_path.parent.parent.name for sample in everything}
    assert parts == {"test_public", "train"}
    assert dataset.notes() == [
        "test_private and test_private_mixed have no ground truth and were left out"
    ]


def test_mvtec_loco_joins_masks_and_can_leave_logical_anomalies_out(tmp_path, trees):
    trees.mvtec_loco(tmp_path / "mvtec_loco")
    dataset = load_dataset("mvtec-loco", tmp_path)
    kinds = [s.anomaly_type for s in dataset.samples() if s.category == "screw_bag" and s.label]
    assert kinds == 2 * ["logical_anomalies"] + 2 * ["structural_anomalies"]
    areas = {
        s.image_path.stem: int(dataset.read(s).mask.sum()) for s in dataset.samples() if s.label
    }
    assert areas == {"000": 12, "001": 24}
    structural = load_dataset("mvtec-loco", tmp_path, anomalies="structural")
    assert {s.anomaly_type for s in structural.samples()} == {"good", "structural_anomalies"}
    assert completeness(structural).words().endswith("chosen: anomalies=structural")
    assert structural.fingerprint() != dataset.fingerprint()
    with pytest.raises(UsageError, match="'all' or 'structural', not 'logical'"):
        load_dataset("mvtec-loco", tmp_path, anomalies="logical")


def test_real_iad_labels_by_its_rows_and_never_by_the_path(tmp_path, trees):
    trees.real_iad(tmp_path / "Real-IAD")
    dataset = load_dataset("real-iad", tmp_path)
    below_ng = [s for s in dataset.samples() if "NG" in s.image_path.parts]
    assert [(s.label, s.anomaly_type) for s in below_ng] == [(1, "HS"), (0, "good")] * 2
    single = load_dataset("real-iad", tmp_path, views="single")
    assert {"_C1_" in s.image_path.name for s in single.samples()} == {True}
    assert completeness(single).words().endswith("chosen: views=single")
    with pytest.raises(UsageError, match="'all' or 'single', not 'two'"):
        load_dataset("real-iad", tmp_path, views="two")


def test_real_iad_says_which_size_it_reads_and_what_is_not_there(tmp_path, trees):
    root = tmp_path / "Real-IAD"
    trees.real_iad(root)
    (root / "realiad_1024").rename(root / "realiad_256")
    (root / "realiad_256" / "usb").rename(root / "usb")
    notes = load_dataset("real-iad", tmp_path).notes()
    assert notes[-1] == "images of realiad_256 are read"
    assert f"folder {root / 'realiad_256' / 'usb'} is not there, so that usb was left out" in notes


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "not a readable split file"),
        ('{"meta": {}, "train": []}', "it lacks 'test'"),
        (
            '{"meta": {}, "train": [], "test": [{"image_path": 3, "anomaly_class": "OK"}]}',
            "not text",
        ),
        (
            '{"meta": {"prefix": "../"}, "train": [], '
            '"test": [{"image_path": "a.jpg", "anomaly_class": "OK"}]}',
            "leads out of the dataset's folder",
        ),
    ],
)
def test_a_broken_split_file_of_real_iad_is_named(text, why, tmp_path, trees):
    trees.real_iad(tmp_path / "Real-IAD")
    (tmp_path / "Real-IAD" / "realiad_jsons" / "usb.json").write_text(text)
    with pytest.raises(DataError, match=rf"usb\.json.*{why}"):
        load_dataset("real-iad", tmp_path).samples()


def test_options_that_leave_images_out_hold_for_a_meta_json_too(tmp_path, trees):
    trees.mvtec_loco(tmp_path / "mvtec_loco")
    loco = load_dataset("mvtec-loco", tmp_path)
    content = meta_of(loco, loco.root / "pieces")
    (loco.root / "meta.json").write_text(json.dumps(content))
    rows = load_dataset("mvtec-loco", tmp_path, layout="meta", anomalies="structural").samples()
    assert {s.anomaly_type for s in rows} == {"good", "structural_anomalies"}
    trees.real_iad(tmp_path / "Real-IAD")
    real = load_dataset("real-iad", tmp_path)
    (real.root / "meta.json").write_text(json.dumps(meta_of(real)))
    assert load_dataset("real-iad", tmp_path, layout="meta").samples() == real.samples()
    with pytest.raises(DataError, match="no split of one side"):
        load_dataset("real-iad", tmp_path, layout="meta", views="single").samples()


def test_bmad_keeps_the_validation_part_out(tmp_path, trees):
    trees.bmad("{0}/{1}")(tmp_path / "Brain_AD" / "BraTS2021_slice")
    dataset = load_dataset("bmad-brain", tmp_path)
    everything = dataset.samples("test") + dataset.samples("train")
    assert not any("valid" in s.image_path.parts for s in everything)


def test_elpv_leaves_doubtful_cells_out(tmp_path, trees):
    trees.elpv(tmp_path / "elpv")
    dataset = load_dataset("elpv", tmp_path)
    names = {s.image_path.stem for split in ("test", "train") for s in dataset.samples(split)}
    assert names == {f"cell{n:04d}" for n in range(1, 17) if n % 4 != 2}
    kinds = {s.image_path.stem: s.anomaly_type for s in dataset.samples() if s.label}
    assert kinds == {"cell0001": "mono", "cell0005": "mono", "cell0009": "poly", "cell0013": "poly"}


def test_own_images_without_masks_have_none(tmp_path, trees):
    trees.own_categories(tmp_path / "parts")
    dataset = load_dataset("folder", tmp_path / "parts", class_names="readable")
    assert not dataset.has_masks
    assert {s.class_name for s in dataset.samples()} == {"left door", "right door"}
    trees.own_folders(tmp_path / "doors")
    assert load_dataset("folder", tmp_path / "doors").has_masks


def test_listing_needs_no_torch(tmp_path, trees):
    import subprocess
    import sys

    trees.mvtec(tmp_path / "mvtec")
    code = (
        "import sys; from zsad.bench.registry import load_dataset, names, dataset_class;"
        "[dataset_class(n) for n in names('dataset') if 'synthetic' not in n];"
        f"assert load_dataset('mvtec_ad', {str(tmp_path)!r}).samples();"
        "assert not {'torch', 'pandas', 'matplotlib', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# The layout of a plug-in that was written from datasets/headct.py of an earlier version.
EARLIER_PLUG_IN = """
from dataclasses import dataclass
from zsad.bench.sample import CategoryInfo, Counts, Dataset, Sample, Source, Split, locate
from zsad.datasets._layouts import (
    CategoryTrees, LabelFolders, LaidOutDataset, Layout, Listing, child, find_file, lacking,
    list_images, subfolders,
)
from zsad.datasets._meta import MetaJson

@dataclass(frozen=True)
class Flat(Layout):
    key: str = "flat"

    def match(self, folder, dataset):
        return 2 if find_file(folder, "widgets.csv") else 0

    def index(self, folder, dataset):
        found = Listing()
        for label, part in enumerate(("whole", "broken")):
            found.samples += [
                dataset.sample(image, label, dataset.only_category(), anomaly_type=part, masks=[])
                for image in list_images(child(folder, part))
            ]
        return found

class Widgets(LaidOutDataset):
    name = "widgets"
    title = "Widgets"
    has_masks = False
    folders = ("widgets_v1",)
    layouts = (Flat(), CategoryTrees(), MetaJson())
    categories = {"cog": CategoryInfo("cog", "cog wheel", Counts(1, 1))}
    source = Source(tree="widgets_v1/")
"""


def test_a_dataset_written_for_an_earlier_version_still_loads(tmp_path, trees):
    space = {"__name__": "zsad_widgets"}
    exec(EARLIER_PLUG_IN, space)
    for part in ("whole", "broken"):
        trees.paint(tmp_path / "archive" / "widgets_v1" / part / "0.png")
    (tmp_path / "archive" / "widgets_v1" / "widgets.csv").touch()
    dataset = open_dataset(space["Widgets"], tmp_path, {})
    assert [(s.label, s.anomaly_type, s.class_name) for s in dataset.samples()] == [
        (1, "broken", "cog"),
        (0, "whole", "cog"),
    ]
