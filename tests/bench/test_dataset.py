"""A dataset is a sequence of its test samples, and tells what it is without reading a file."""

from zsad.bench import load_dataset


def test_a_dataset_is_a_sequence_of_its_test_samples(tmp_path, draw_parts):
    dataset = load_dataset("folder", draw_parts(tmp_path / "parts", "nut", "bolt"))
    samples = dataset.samples("test")
    assert len(dataset) == len(samples) == 8
    assert list(dataset) == samples
    assert (dataset[0], dataset[-1], dataset[2:4]) == (samples[0], samples[-1], samples[2:4])


def test_a_dataset_that_is_not_there_has_a_name_and_a_place(tmp_path):
    dataset = load_dataset("folder", tmp_path, mask_threshold=9)
    (tmp_path / "later").mkdir()
    text = repr(dataset)
    assert "folder" in text
    assert repr(str(tmp_path)) in text
    assert "mask_threshold=9" in text
    assert "class_name" not in text
    assert dataset  # although its samples cannot be listed
