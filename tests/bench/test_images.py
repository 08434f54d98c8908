import os
import socket

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from zsad.bench import images
from zsad.bench.errors import DataError, UsageError
from zsad.bench.images import MaskRule, read_image, read_mask, read_picture, resize_mask

ORIENTATION = 0x0112


def noise(height=12, width=20, channels=3, seed=0):
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".jpg", ".bmp", ".tif", ".TIFF", ".weird", ""])
def test_content_decides_and_not_the_suffix(tmp_path, suffix):
    path = tmp_path / f"an image{suffix}"
    Image.fromarray(noise()).save(path, format="PNG")
    assert np.array_equal(np.asarray(read_image(path)), noise())


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    path = tmp_path / "x.tif"
    stored = Image.fromarray(noise()).convert(mode)
    stored.save(path)
    image = read_image(path)
    assert (image.mode, image.size) == ("RGB", (20, 12))
    assert np.array_equal(np.asarray(image), np.asarray(stored.convert("RGB")))


def test_transparent_palette_keeps_its_colours(tmp_path):
    path = tmp_path / "x.png"
    image = Image.fromarray(noise()).convert("P")
    image.save(path, transparency=3)
    assert np.array_equal(np.asarray(read_image(path)), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_and_not_clipped(tmp_path, kind):
    path = tmp_path / "x"
    Image.fromarray(np.array([[0, 257, 32896, 65535]], dtype=np.uint16)).save(path, format=kind)
    assert np.asarray(read_image(path))[0, :, 0].tolist() == [0, 1, 128, 255]


def test_float_images_are_stretched_from_0_1(tmp_path):
    path = tmp_path / "x.tif"
    Image.fromarray(np.array([[0, 0.5, 1, np.nan]], dtype=np.float32)).save(path)
    assert np.asarray(read_image(path))[0, :, 1].tolist() == [0, 128, 255, 0]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_orientation_is_applied_and_can_be_ignored(tmp_path, orientation, kind):
    path = tmp_path / "x"
    grey = np.kron(noise(2, 3, 1), np.ones((8, 8), np.uint8))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(grey).save(
        path, format=kind, exif=exif, **({"quality": 100} if kind == "JPEG" else {})
    )
    turned = {
        1: grey,
        2: grey[:, ::-1],
        3: grey[::-1, ::-1],
        4: grey[::-1],
        5: grey.T,
        6: grey[::-1].T,
        7: grey[::-1, ::-1].T,
        8: grey[:, ::-1].T,
    }[orientation]
    image = np.asarray(read_image(path))[..., 0].astype(int)
    assert image.shape == turned.shape
    assert np.abs(image - turned).max() <= 2
    if kind != "TIFF":  # Pillow itself turns TIFFs
        assert read_image(path, upright=False).size == (24, 16)


@pytest.mark.parametrize("drawn_on", ["stored", "upright", "own tag"])
def test_mask_is_turned_with_its_image(tmp_path, drawn_on):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    stored = noise(16, 24)
    Image.fromarray(stored).save(tmp_path / "image.png", exif=exif)
    mask = np.zeros((16, 24), dtype=np.uint8)
    mask[2:5, 3:9] = 255
    upright = mask[::-1].T
    saved = upright if drawn_on == "upright" else mask
    own = {"exif": exif} if drawn_on == "own tag" else {}
    Image.fromarray(np.ascontiguousarray(saved)).save(tmp_path / "mask.png", **own)
    picture = read_picture(tmp_path / "image.png")
    read = read_mask(tmp_path / "mask.png", MaskRule(), picture)
    assert (picture.orientation, picture.image.size, picture.stored_size) == (6, (16, 24), (24, 16))
    assert np.array_equal(read, upright > 0)
    lying = read_picture(tmp_path / "image.png", upright=False)
    if drawn_on != "upright":
        assert np.array_equal(read_mask(tmp_path / "mask.png", MaskRule(), lying), mask > 0)


def test_damaged_exif_is_no_reason_to_refuse(tmp_path):
    Image.fromarray(noise()).save(tmp_path / "x.jpg", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff")
    assert read_image(tmp_path / "x.jpg").size == (20, 12)


@pytest.mark.parametrize("keep", [0, 10, 80, 300])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "GIF"])
def test_truncated_files_are_named(tmp_path, keep, kind):
    path = tmp_path / "cut"
    Image.fromarray(noise(60, 60)).save(path, format=kind)
    path.write_bytes(path.read_bytes()[:keep])
    for read in (read_image, lambda p: read_mask(p, MaskRule())):
        with pytest.raises(DataError, match="cannot be read") as caught:
            read(path)
        assert str(path) in str(caught.value)


def test_absent_file_and_folder_are_named(tmp_path):
    with pytest.raises(DataError, match=r"image .*none.png does not exist"):
        read_image(tmp_path / "none.png")
    with pytest.raises(DataError, match=r"mask .*none.png does not exist"):
        read_mask(tmp_path / "none.png", MaskRule())
    with pytest.raises(DataError, match="cannot be read"):
        read_image(tmp_path)


def test_decompression_bombs_are_refused_before_decoding(tmp_path, monkeypatch):
    path = tmp_path / "bomb.png"
    Image.new("1", (30_000, 30_000)).save(path)
    assert path.stat().st_size < 200_000
    with pytest.raises(DataError, match="is refused"):
        read_image(path)
    monkeypatch.setattr(images, "MAX_PIXELS", 100)
    Image.new("L", (11, 11)).save(path)
    with pytest.raises(DataError, match="11x11 pixels, more than the limit of 100"):
        read_mask(path, MaskRule())


def test_size_comes_from_the_header(tmp_path):
    Image.fromarray(noise()).save(tmp_path / "x.png")
    assert images.image_size(tmp_path / "x.png") == (20, 12)
    with pytest.raises(DataError, match="does not exist"):
        images.image_size(tmp_path / "y.png")


def test_mask_threshold_is_exclusive(tmp_path):
    Image.fromarray(np.array([[0, 1, 127, 128, 255]], dtype=np.uint8)).save(tmp_path / "m.png")
    assert read_mask(tmp_path / "m.png", MaskRule()).tolist() == [[False, True, True, True, True]]
    clean = read_mask(tmp_path / "m.png", MaskRule(threshold=127))
    assert clean.tolist() == [[False, False, False, True, True]]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "F"])
def test_masks_of_every_mode(tmp_path, mode):
    values = np.array([[0, 255, 0, 255]], dtype=np.uint8)
    if mode == "I;16":
        image = Image.fromarray(values.astype(np.uint16) * 257)
    elif mode == "F":
        image = Image.fromarray(values.astype(np.float32) / 255)
    else:
        image = Image.fromarray(values).convert(mode)
    image.save(tmp_path / "m.tif")
    for threshold in (0, 127):
        mask = read_mask(tmp_path / "m.tif", MaskRule(threshold))
        assert mask.tolist() == [[False, True, False, True]]


def test_class_indices_in_16_bit_masks_count(tmp_path):
    Image.fromarray(np.array([[0, 1, 9]], dtype=np.uint16)).save(tmp_path / "m.png")
    assert read_mask(tmp_path / "m.png", MaskRule()).tolist() == [[False, True, True]]


def test_official_rule_equals_the_released_transform():
    transforms = pytest.importorskip("torchvision.transforms")
    released = transforms.Compose(
        [transforms.Resize((37, 37)), transforms.CenterCrop(37), transforms.ToTensor()]
    )
    for seed in range(5):
        mask = noise(50, 90, 1, seed) > 200
        expected = released(Image.fromarray(mask.astype(np.uint8) * 255))[0] > 0.5
        assert np.array_equal(resize_mask(mask, 37, MaskRule())[0], expected.numpy())


@pytest.mark.parametrize(("rule", "kept"), [("official", False), ("nearest", True)])
def test_vanished_regions_are_counted(rule, kept):
    mask = np.zeros((100, 100), dtype=bool)
    mask[10:60, 10:60] = True
    mask[85, 85] = True
    mask[95, 95], mask[96, 96] = True, True  # touch at a corner: one region
    resized, lost = resize_mask(mask, 20, MaskRule(resize=rule))
    assert resized.shape == (20, 20)
    assert resized[5, 5]
    hit = [resized[85 * 20 // 100, 85 * 20 // 100], resized[19, 19]]
    assert lost == 2 - sum(hit)
    if rule == "official":
        assert lost == 2


def test_rule_none_keeps_the_size():
    mask = noise(9, 14, 1) > 100
    assert np.array_equal(resize_mask(mask, 5, MaskRule(resize="none"))[0], mask)


def test_empty_and_full_masks_stay_so():
    assert not resize_mask(np.zeros((9, 30), bool), 12, MaskRule())[0].any()
    full, lost = resize_mask(np.ones((9, 30), bool), 12, MaskRule())
    assert full.all()
    assert lost == 0


@given(
    st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.floats(0, 1), st.integers(0, 99)
)
def test_lost_regions_never_exceed_the_regions(height, width, size, share, seed):
    from scipy import ndimage

    mask = np.random.default_rng(seed).random((height, width)) < share
    for rule in (MaskRule(), MaskRule(resize="nearest")):
        resized, lost = resize_mask(mask, size, rule)
        regions = ndimage.label(mask, structure=np.ones((3, 3)))[1]
        assert resized.dtype == bool
        assert resized.shape == (size, size)
        assert 0 <= lost <= regions
        if not resized.any():
            assert lost == regions


def test_rules_that_make_no_sense_are_refused():
    for values in ({"threshold": -1}, {"threshold": 255}, {"resize": "bilinear"}):
        with pytest.raises(UsageError):
            MaskRule(**values)


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_what_is_no_regular_file_is_refused_before_it_is_opened(tmp_path, kind, monkeypatch):
    path = tmp_path / "x.png"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        monkeypatch.chdir(tmp_path)  # a socket's path must be short
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    for read in (read_image, images.image_size, lambda path: read_mask(path, MaskRule())):
        with pytest.raises(DataError, match=r"x\.png .*not a regular file"):
            read(path)
