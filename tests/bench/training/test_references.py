"""Normal training images for few-shot methods: drawn by seed and name, never a test image."""

import dataclasses

import pytest
from zsad.bench import load_dataset
from zsad.bench.dataset import Box
from zsad.bench.errors import DataError
from zsad.bench.training.references import normal_references, refuse_tested


@pytest.fixture(scope="module")
def dataset():
    return load_dataset("synthetic")


def listing(dataset, train):
    """The dataset with other training images."""

    class Other(type(dataset)):
        def samples(self, split="test"):
            return train if split == "train" else super().samples(split)

    return Other.open()


def test_references_are_normal_training_images_and_follow_the_seed(dataset):
    category = list(dataset.categories)[2]
    train = dataset.samples("train")
    four = normal_references(dataset, category, 4, seed=111)
    assert {(s.category, s.label, s.split) for s in four} == {(category, 0, "train")}
    assert normal_references(dataset, category, 2, seed=111) == four[:2]
    assert normal_references(listing(dataset, train[::-1]), category, 4, seed=111) == four
    assert normal_references(dataset, category, 4, seed=1) != four
    everything = normal_references(dataset, category, None, seed=111)
    assert set(everything) == {s for s in train if s.category == category}


def test_too_few_normal_images_are_an_error_that_names_the_dataset(dataset):
    category = next(iter(dataset.categories))
    with pytest.raises(DataError, match=r"synthetic has 16 normal .* 17 are needed"):
        normal_references(dataset, category, 17, seed=1)
    auxiliary = load_dataset("synthetic_aux")
    with pytest.raises(DataError, match="synthetic-aux has 0 normal training images"):
        normal_references(auxiliary, next(iter(auxiliary.categories)), None, seed=1)


def test_a_test_image_is_refused_as_reference_by_place_and_by_content(dataset, tmp_path):
    test = next(s for s in dataset.samples("test") if s.label == 0)
    with pytest.raises(DataError, match="is a test image of synthetic"):
        refuse_tested(dataset, [test])
    copy = tmp_path / "copy.png"
    copy.write_bytes(test.image_path.read_bytes())
    copied = dataclasses.replace(test, image_path=copy, split="train")
    with pytest.raises(DataError, match="is a test image of synthetic"):
        normal_references(listing(dataset, [copied]), test.category, 1, seed=1)
    link = tmp_path / "link.png"
    link.symlink_to(test.image_path)
    with pytest.raises(DataError, match="is a test image"):
        refuse_tested(dataset, [dataclasses.replace(test, image_path=link)])
    refuse_tested(dataset, dataset.samples("train"))


@pytest.mark.parametrize(
    ("box", "shared"),
    [(Box(0, 0, 48, 96), True), (Box(48, 0, 96, 96), False), (None, True)],
)
def test_a_piece_is_a_test_image_where_it_shares_pixels_with_one(dataset, box, shared):
    first = dataset.samples("test")[0]

    class Cut(type(dataset)):
        def samples(self, split="test"):
            return [dataclasses.replace(first, crop=Box(0, 0, 48, 96))]

    piece = dataclasses.replace(first, crop=box)
    if shared:
        with pytest.raises(DataError, match="is a test image"):
            refuse_tested(Cut.open(), [piece])
    else:
        refuse_tested(Cut.open(), [piece])
