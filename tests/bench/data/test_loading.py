import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from zsad.bench.data.loading import Readers, load_batches
from zsad.bench.dataset import Dataset, Sample
from zsad.bench.errors import DataError
from zsad.bench.images import MaskRule, resize_mask
from zsad.bench.metrics.mask_regions import regions_of
from zsad.bench.preprocess import Preprocess

SIZE = 16


class Tiles(Dataset):
    """Five images of growing size below a root; odd ones are anomalous, with a mask."""

    name = "tiles"
    title = "Tiles"
    domain = "custom"

    def samples(self, split="test"):
        found = []
        for number in range(5):
            path = self.root / f"{number}.png"
            mask = self.root / f"{number}_mask.png"
            found.append(
                Sample(
                    image_path=path,
                    label=number % 2,
                    category="tiles",
                    class_name=f"tile{number}",
                    mask_path=mask if number % 2 else None,
                )
            )
        return found


@pytest.fixture
def tiles(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(5):
        side = 20 + 7 * number
        Image.fromarray(rng.integers(0, 255, (side, side + 3, 3), dtype=np.uint8)).save(
            tmp_path / f"{number}.png"
        )
        mask = np.zeros((side, side + 3), dtype=np.uint8)
        mask[4 : side // 2, 5:15] = 255
        mask[0, 0] = 255  # a region of one pixel, which the official resizing loses
        Image.fromarray(mask).save(tmp_path / f"{number}_mask.png")
    return Tiles(tmp_path)


def batches_of(tiles, workers=0, **how):
    how["readers"] = Readers(workers)
    return list(load_batches(tiles, tiles.samples(), Preprocess(SIZE), SIZE, **how))


def test_batches_keep_the_order_and_the_last_one_is_smaller(tiles):
    batches = batches_of(tiles, batch_size=2)
    assert [len(batch) for batch in batches] == [2, 2, 1]
    assert [name for batch in batches for name in batch.names] == [f"{i}.png" for i in range(5)]
    assert torch.cat([batch.labels for batch in batches]).tolist() == [0, 1, 0, 1, 0]
    assert batches[1].class_names == ["tile2", "tile3"]
    assert batches[0].images.shape == (2, 3, SIZE, SIZE)
    assert batches[0].labels.dtype == torch.int64


def test_worker_processes_read_the_same_batches(tiles):
    here = batches_of(tiles, batch_size=2)
    there = batches_of(tiles, batch_size=2, workers=2)
    for one, other in zip(here, there, strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.masks, other.masks)
        assert one.names == other.names
        assert one.regions_lost == other.regions_lost


@pytest.mark.parametrize("workers", [0, 1])
def test_regions_are_those_of_the_resized_masks_where_they_are_asked_for(tiles, workers):
    for batch in batches_of(tiles, batch_size=2, workers=workers, label_regions=True):
        for mask, regions in zip(batch.masks.numpy(), batch.regions, strict=True):
            expected = regions_of(mask)
            assert np.array_equal(regions.pixels, np.flatnonzero(mask))
            assert np.array_equal(regions.numbers, expected.numbers)
            assert np.array_equal(regions.sizes, expected.sizes)
    assert batches_of(tiles)[0].regions is None


def test_reading_draws_no_random_numbers(tiles):
    state = torch.get_rng_state()
    batches_of(tiles)
    assert torch.equal(torch.get_rng_state(), state)


def test_masks_are_resized_by_the_rule_of_the_dataset(tiles):
    (batch,) = batches_of(tiles, batch_size=5)
    expected = [resize_mask(tiles.read(s).mask, SIZE, MaskRule()) for s in tiles.samples()]
    assert batch.masks.dtype == torch.bool
    assert np.array_equal(batch.masks.numpy(), np.stack([mask for mask, _ in expected]))
    assert batch.regions_lost == sum(lost for _, lost in expected) == 2
    assert not batch.masks[0].any()
    assert batch.masks[1].any()

    nearest = Tiles(tiles.root, mask_resize="nearest")
    (other,) = batches_of(nearest, batch_size=5)
    assert not torch.equal(other.masks, batch.masks)


def test_images_are_what_preprocessing_makes_of_them(tiles):
    (batch,) = batches_of(tiles, batch_size=5)
    sample = tiles.samples()[3]
    assert torch.equal(batch.images[3], Preprocess(SIZE)(tiles.read(sample).image))


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("broken", ["3.png", "3_mask.png"])
def test_a_broken_file_is_named_without_the_traceback_of_a_worker(tiles, workers, broken):
    path = tiles.root / broken
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError) as caught:
        batches_of(tiles, batch_size=2, workers=workers)
    assert str(path) in str(caught.value)
    assert "Traceback" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_batches_before_a_broken_file_arrive(tiles):
    (tiles.root / "4.png").unlink()
    batches = load_batches(tiles, tiles.samples(), Preprocess(SIZE), SIZE, batch_size=2)
    assert len(next(batches)) == 2
    assert len(next(batches)) == 2
    with pytest.raises(DataError, match=r"4\.png does not exist"):
        next(batches)


def test_a_mask_of_another_size_is_named(tiles):
    Image.fromarray(np.zeros((3, 3), dtype=np.uint8)).save(tiles.root / "1_mask.png")
    with pytest.raises(DataError, match=r"1_mask\.png is 3x3"):
        batches_of(tiles)


def test_a_dataset_without_masks_has_none(tiles):
    class Unmasked(Tiles):
        has_masks = False

    (batch,) = batches_of(Unmasked(tiles.root), batch_size=5)
    assert batch.masks is None


def test_masks_are_left_out_where_some_anomalous_images_lack_them(tiles, caplog):
    class Half(Tiles):
        def samples(self, split="test"):
            found = super().samples(split)
            return [*found[:3], Sample(found[3].image_path, 1, "tiles", "tile"), found[4]]

    with caplog.at_level(logging.WARNING):
        batches = batches_of(Half(tiles.root), batch_size=2)
    assert all(batch.masks is None for batch in batches)
    assert "1 of 2 anomalous images" in caplog.text
    assert str(Path(tiles.root) / "3.png") in caplog.text


def test_unresized_masks_need_one_size_a_batch(tiles):
    raw = Tiles(tiles.root, mask_resize="none")
    assert [tuple(b.masks.shape) for b in batches_of(raw, batch_size=1)][1] == (1, 27, 30)
    with pytest.raises(DataError, match="batch size 1"):
        batches_of(raw, batch_size=2)
