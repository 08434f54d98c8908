"""Scoring pictures in memory: the batch and the order never matter, bad input is named."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from PIL import Image
from zsad.bench import create, predict_images
from zsad.bench.category import observes_references
from zsad.bench.errors import ContractError, DataError, UsageError
from zsad.bench.method import Method, Prediction
from zsad.bench.weights import random_backbone

SMALL = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 48, "patch_size": 8, "width": 64, "layers": 8, "head_width": 16},
    "text_cfg": {
        "context_length": 77,
        "vocab_size": 49408,
        "width": 32,
        "heads": 2,
        "layers": 4,
    },
}
METHODS = [("clip", None), ("clip_ac", None), ("winclip", None), ("anovl", "paper")]
METHODS += [("anovl", "official"), ("winclip", "paper")]


@pytest.fixture(scope="module")
def backbone():
    return random_backbone(SMALL, "small")


@pytest.fixture(scope="module")
def pictures():
    """Nine pictures of different sizes and contents."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (9, 5, 7, 3), dtype=np.uint8)
    sizes = [(48, 48), (64, 40), (31, 90)]
    return [
        np.asarray(Image.fromarray(c).resize(sizes[i % 3], Image.Resampling.BICUBIC))
        for i, c in enumerate(coarse)
    ]


NAMES = ["bottle", "carpet", "metal_nut"] * 3


def test_sixteen_bit_pictures_are_scaled_and_not_cut_off(backbone):
    grey = np.arange(48 * 48, dtype=np.uint16).reshape(48, 48)
    method = create("clip", backbone)
    wide, narrow = (
        predict_images(method, [Image.fromarray(g)], "x").scores
        for g in (grey * 28, (grey * 28 / 257).round().astype(np.uint8))
    )
    torch.testing.assert_close(wide, narrow)


def test_a_backbone_and_class_names_of_a_wrong_kind_are_named(backbone, pictures):
    with pytest.raises(UsageError, match="load_backbone"):
        create("clip", "tiny")
    for odd in (None, 3, [None] * 9):
        with pytest.raises(UsageError, match="class_name"):
            predict_images(create("clip", backbone), pictures, odd)


@pytest.mark.parametrize(("name", "variant"), METHODS)
def test_batch_and_order_do_not_matter(backbone, pictures, name, variant):
    method = create(name, backbone, variant=variant)
    eight = predict_images(method, pictures, NAMES, batch_size=8)
    one = predict_images(method, pictures, NAMES, batch_size=1)
    torch.testing.assert_close(eight.scores, one.scores, atol=1e-5, rtol=0)
    torch.testing.assert_close(eight.maps, one.maps, atol=1e-5, rtol=0)
    order = np.random.default_rng(1).permutation(9)
    shuffled = predict_images(method, [pictures[i] for i in order], [NAMES[i] for i in order])
    torch.testing.assert_close(shuffled.scores, eight.scores[order], atol=1e-5, rtol=0)
    torch.testing.assert_close(shuffled.maps, eight.maps[order], atol=1e-5, rtol=0)
    assert eight.scores.std() > 0
    assert (eight.maps.std(dim=(1, 2)) > 0).all()


@pytest.mark.parametrize("place", ["encode_image", "predict"])
@pytest.mark.parametrize("name", ["clip", "musc", "winclip_few_shot"])
def test_a_call_goes_on_in_parts_where_memory_runs_out(
    backbone, pictures, name, place, monkeypatch, caplog
):
    method, of_size = create(name, backbone), []
    normal = pictures[:3] if observes_references(method) else []
    whole = predict_images(method, pictures, "tile", batch_size=9, references=normal)
    owner = type(backbone) if place == "encode_image" else type(method)
    work = getattr(owner, place)

    def exhausted(self, images, *rest, **named):
        of_size.append(len(images))
        if len(images) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return work(self, images, *rest, **named)

    monkeypatch.setattr(owner, place, exhausted)
    parts = predict_images(method, pictures, "tile", batch_size=9, references=normal)
    torch.testing.assert_close(parts.scores, whole.scores)
    torch.testing.assert_close(parts.maps, whole.maps)
    assert max(of_size) > 2 >= max(of_size[-3:])
    assert "images at once: going on with " in caplog.text


def test_answers_are_float32_at_the_map_size(backbone, pictures):
    method = create("clip", backbone)
    found = predict_images(method, pictures, "tile")
    assert (found.scores.shape, found.scores.dtype) == ((9,), torch.float32)
    assert (found.maps.shape, found.maps.dtype) == ((9, 48, 48), torch.float32)
    assert method.map_size == 48


def test_pil_images_and_arrays_are_the_same(backbone, pictures):
    method = create("clip", backbone)
    arrays = predict_images(method, pictures[:2], "tile")
    images = predict_images(method, [Image.fromarray(p) for p in pictures[:2]], "tile")
    assert torch.equal(arrays.maps, images.maps)


def test_pil_images_of_other_modes_are_read_as_rgb(backbone, pictures):
    method = create("clip", backbone)
    grey = Image.fromarray(pictures[0]).convert("L")
    rgb = np.asarray(grey.convert("RGB"))
    found = predict_images(method, [grey, rgb], "tile")
    assert torch.equal(found.maps[0], found.maps[1])


def test_an_array_of_images_is_a_list_of_images(backbone, pictures):
    method = create("clip", backbone)
    stacked = np.stack([pictures[0], pictures[3]])
    found = predict_images(method, stacked, "tile")
    assert torch.equal(found.maps, predict_images(method, [pictures[0], pictures[3]], "tile").maps)


@pytest.mark.parametrize("name", ["clip", "winclip", "anovl"])
def test_an_image_size_counts_for_one_call_only(backbone, pictures, name):
    method = create(name, backbone)
    before = predict_images(method, pictures[:1], "tile")
    prompts = backbone.counter.prompts
    larger = predict_images(method, pictures[:1], "tile", image_size=64)
    assert backbone.counter.prompts == prompts  # text is not encoded again
    assert larger.maps.shape == (1, 64, 64)
    asked = predict_images(create(name, backbone, image_size=64), pictures[:1], "tile")
    torch.testing.assert_close(larger.maps, asked.maps)
    assert method.image_size == 48
    assert torch.equal(predict_images(method, pictures[:1], "tile").maps, before.maps)


def test_nothing_that_is_answered_carries_a_gradient(backbone, pictures):
    with torch.enable_grad():
        found = predict_images(create("clip", backbone), pictures[:1], "tile")
    assert not found.scores.requires_grad
    assert not found.maps.requires_grad


class PixelsOnly(Method):
    """Maps without scores."""

    title = "pixels only"

    def predict(self, query):
        size = self.map_size
        return Prediction(
            None, query.features.class_token.mean() * torch.ones(len(query), size, size)
        )


class Broken(PixelsOnly):
    """Scores that are no numbers."""

    def predict(self, query):
        return Prediction(torch.full((len(query),), float("nan")), None)


def test_a_method_may_answer_maps_only(backbone, pictures):
    found = predict_images(PixelsOnly(backbone), pictures, "tile", batch_size=4)
    assert found.scores is None
    assert found.maps.shape == (9, 48, 48)


def test_scores_that_are_no_numbers_are_refused(backbone, pictures):
    with pytest.raises(ContractError, match="NaN"):
        predict_images(Broken(backbone), pictures, "tile")


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "no images"),
        ([np.zeros((8, 8, 3))], "image 0 is float64"),
        ([np.zeros((8, 8), np.uint8)], r"shape \(8, 8\)"),
        ([np.zeros((8, 8, 4), np.uint8)], r"shape \(8, 8, 4\)"),
        ([np.zeros((8, 8, 3), np.uint8), np.zeros((3, 8, 8), np.uint8)], "image 1"),
        ([np.zeros((0, 8, 3), np.uint8)], "image 0"),
        (Image.new("RGB", (8, 8)), "give a list"),
        (np.zeros((8, 8, 3), np.uint8), "image 0"),
    ],
)
def test_bad_pictures_are_named(backbone, images, message):
    with pytest.raises(UsageError, match=message):
        predict_images(create("clip", backbone), images, "tile")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_name": ["tile"]}, "2 images but 1 class names"),
        ({"class_name": "tile", "image_size": 50}, "multiple of 8"),
        ({"class_name": "tile", "image_size": 0}, "image_size is 0"),
        ({"class_name": "tile", "batch_size": 0}, "batch_size is 0"),
    ],
)
def test_bad_requests_are_named(backbone, pictures, options, message):
    with pytest.raises(UsageError, match=message):
        predict_images(create("clip", backbone), pictures[:2], **options)


def test_files_arrays_and_images_are_scored_alike(backbone, pictures, tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(pictures[0]).save(path)
    method = create("clip", backbone)
    given = [path, str(path), pictures[0], Image.fromarray(pictures[0])]
    answer = predict_images(method, given, "bottle")
    assert len(set(answer.scores.tolist())) == 1
    with pytest.raises(DataError, match=r"absent\.png"):
        predict_images(method, [tmp_path / "absent.png"], "bottle")
    with pytest.raises(UsageError, match="give a list of images"):
        predict_images(method, path, "bottle")


def test_methods_and_predictions_are_shown_in_one_line(backbone, pictures):
    method = create("clip", backbone)
    assert repr(method).startswith("<method clip@official on small, zero-shot, images 48 px")
    answer = predict_images(method, pictures[:2], "bottle")
    assert re.fullmatch(
        r"<prediction: scores \[2\] from \S+ to \S+, maps \[2, 48, 48\] from \S+ to \S+>",
        repr(answer),
    )
