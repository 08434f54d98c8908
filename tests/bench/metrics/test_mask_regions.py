import numpy as np
import pytest
from scipy import ndimage
from zsad.bench.metrics.mask_regions import regions_of


def test_regions_that_touch_by_a_corner_are_one():
    mask = np.array([[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]], dtype=bool)
    regions = regions_of(mask)
    assert regions.pixels.tolist() == [0, 3, 5, 7, 12]
    assert regions.numbers.tolist() == [0, 1, 0, 1, 2]
    assert regions.sizes.tolist() == [2, 2, 1]


@pytest.mark.parametrize("mask", [np.zeros((3, 4), bool), np.zeros((0, 0), bool)])
def test_a_mask_without_anomaly_has_no_regions(mask):
    regions = regions_of(mask)
    assert (regions.pixels.size, regions.numbers.size, regions.sizes.size) == (0, 0, 0)


def test_a_mask_that_is_all_anomalous_is_one_region():
    assert regions_of(np.ones((5, 7), bool)).sizes.tolist() == [35]


@pytest.mark.parametrize("share", [0.001, 0.02, 0.3])
def test_rows_and_columns_without_anomaly_part_regions_as_in_the_whole_mask(share):
    mask = np.random.default_rng(0).random((60, 80)) < share
    mask[:, ::7] = mask[::5] = False
    labelled, count = ndimage.label(mask, np.ones((3, 3)))
    regions = regions_of(mask)
    assert np.array_equal(regions.numbers, labelled[mask] - 1)
    assert np.array_equal(regions.sizes, np.bincount(labelled[mask])[1:])
    assert len(regions.sizes) == count
