import json

import pytest
from zsad.bench.errors import DataError, UsageError
from zsad.bench.meta import meta_of
from zsad.bench.registry import load_dataset


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
        ("{", "cannot be read as JSON"),
        ("[]", "holds no object of splits"),
        ('{"val": {}}', "has the split 'val'"),
        ('{"test": {"screw": {}}}', "is no list of rows"),
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
    with pytest.raises(DataError, match="class 'screw', which BTAD has not"):
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
