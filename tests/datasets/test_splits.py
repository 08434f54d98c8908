import hashlib
import importlib.util
from pathlib import Path

import pytest
from zsad.bench.errors import DataError, UsageError
from zsad.bench.registry import load_dataset
from zsad.datasets._splits import NormalSplit


@pytest.mark.parametrize(
    ("normals", "tested"), [(1143, 286), (2256, 564), (1508, 377), (3143, 786), (1, 1), (4, 1)]
)
def test_a_quarter_rounded_up_is_tested(normals, tested):
    names = [str(n) for n in range(normals)]
    test, train = NormalSplit().divide(range(normals), names)
    assert len(test) == tested
    assert sorted(test + train) == list(range(normals))


@pytest.mark.parametrize(
    ("count", "seed", "fraction"), [(1508, 42, 0.25), (97, 0, 0.3), (10, 7, 0.5)]
)
def test_members_are_those_of_scikit_learn(count, seed, fraction):
    from sklearn.model_selection import train_test_split

    train, test = train_test_split(list(range(count)), test_size=fraction, random_state=seed)
    ours = NormalSplit(fraction, seed).divide(range(count), [str(n) for n in range(count)])
    assert ours == (test, train)


def test_list_file_replaces_the_rule(tmp_path):
    chosen = tmp_path / "test.txt"
    chosen.write_text("b\nd\n\n")
    rule = NormalSplit(list_file=chosen)
    assert rule.divide([1, 2, 3, 4], ["a", "b", "c", "d"]) == ([2, 4], [1, 3])
    with pytest.raises(DataError, match="names 1 images that do not exist, first 'd'"):
        rule.divide([1, 2], ["a", "b"])
    with pytest.raises(DataError, match="list of test images .* does not exist"):
        NormalSplit(list_file=tmp_path / "none").divide([1], ["a"])


def test_fraction_must_make_sense():
    with pytest.raises(UsageError, match="normal_test_fraction"):
        NormalSplit(fraction=0)


def test_split_options_reach_the_dataset(tmp_path, trees):
    trees.lag(tmp_path / "LAG")
    half = load_dataset("lag", tmp_path, normal_test_fraction=0.5)
    assert [s.label for s in half.samples()].count(0) == 4
    listed = tmp_path / "chosen.txt"
    listed.write_text("non_glaucoma/image/0003.jpg\n")
    only = load_dataset("lag", tmp_path, split_list=str(listed))
    assert [s.image_path.name for s in only.samples() if not s.label] == ["0003.jpg"]


@pytest.mark.skipif(importlib.util.find_spec("elpv_dataset") is None, reason="needs elpv-dataset")
def test_elpv_package_gives_the_papers_cells():
    dataset = load_dataset("elpv")
    test = dataset.samples("test")
    normals = sorted(s.name(dataset.root) for s in test if s.label == 0)
    assert (len(normals), len(test) - len(normals)) == (377, 715)
    assert len(dataset.samples("train")) == 1131
    folder = Path(dataset.root) / "images"
    assert {s.image_path.parent for s in test} == {folder}
    digest = hashlib.sha256("\n".join(normals).encode()).hexdigest()
    assert digest[:16] == "f5100c8625db1ce5"
    kinds = [s.anomaly_type for s in test if s.label]
    assert (kinds.count("mono"), kinds.count("poly")) == (313, 402)
    assert {s.class_name for s in test} == {"solar cell"}
