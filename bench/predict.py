"""Scoring pictures in memory."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from .arithmetic import single_precision
from .at_once import AtOnce
from .category import answers_to_category, refuse_references
from .dataset import Domain
from .errors import UsageError
from .images import read_image, to_rgb
from .method import Method
from .query import Prediction, Query

Picture = NDArray[np.uint8] | Image.Image | Path | str
"""A uint8 array [H, W, 3], a PIL image, or the path of an image file."""


@single_precision()
def predict_images(
    method: Method,
    images: Sequence[Picture],
    class_name: str | Sequence[str],
    image_size: int | None = None,
    batch_size: int = 8,
    references: Sequence[Picture] = (),
    domain: Domain = "custom",
    description: str | None = None,
) -> Prediction:
    """Score pictures with a method's own preprocessing.

    The pictures of a call are the category of a transductive method: it scores each against all
    others, so that one picture more or less changes all answers.

    Args:
        method: from `create`.
        images: N of them, of any sizes. Files are read as those of datasets are: photographs are
            turned upright.
        class_name: the word for the prompts, one for all or N.
        image_size: input side in pixels for this call; None is the method's.
        batch_size: pictures per visual forward, or fewer once memory runs out; the answer does
            not depend on it.
        references: pictures of normal objects for a few-shot or full-shot method, else none.
        domain: of the pictures, for methods that treat domains differently.
        description: what the objects look like, for methods that put it into their prompts.

    Returns:
        Scores [N] and maps [N, M, M] float32 on the CPU, at the method's map size.

    Raises:
        UsageError: no pictures, a wrong kind of array, a size the backbone cannot take, or
            references where the method needs none, or none where it needs them.
        DataError: a file is missing or is not an image.
        ContractError: the method answers in a wrong shape or with NaN.
    """
    if batch_size < 1:
        raise UsageError(f"batch_size is {batch_size}: it must be at least 1")
    pictures, names = _named(images, class_name)
    if image_size is not None:
        method = _resized(method, image_size)
    shown = [_picture(image, number) for number, image in enumerate(references)]
    refuse_references(method, len(shown))

    at_once = AtOnce(method.backbone.device, batch_size)

    def batches(chosen: Sequence[Image.Image], words: Sequence[str]) -> Iterator[Query]:
        for start in range(0, len(chosen), batch_size):
            batch = slice(start, start + batch_size)
            yield from encoded(method, chosen[batch], words[batch], at_once, domain, description)

    normal, count = batches(shown, [names[0]] * len(shown)), len(pictures)
    answers = answers_to_category(method, batches(pictures, names), count, normal, at_once)
    return Prediction.joined(answers)


def _named(
    images: Sequence[Picture], class_name: str | Sequence[str]
) -> tuple[list[Image.Image], Sequence[str]]:
    """RGB pictures and the word for each; raises `UsageError` as `predict_images`."""
    if isinstance(images, (Image.Image, str, Path)):
        raise UsageError("images is one image: give a list of images")
    pictures = [_picture(image, number) for number, image in enumerate(images)]
    if not pictures:
        raise UsageError("there are no images to predict")
    names = [class_name] * len(pictures) if isinstance(class_name, str) else class_name
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise UsageError(f"class_name is {class_name!r}: give a word, or one for each image")
    if len(names) != len(pictures):
        raise UsageError(f"{len(pictures)} images but {len(names)} class names")
    return pictures, names


def encode_pictures(
    method: Method,
    pictures: Sequence[Image.Image],
    class_names: Sequence[str],
    domain: Domain = "custom",
    description: str | None = None,
) -> Query:
    """RGB pictures of any sizes as a batch for one method."""
    prepared = torch.stack([method.preprocess(picture) for picture in pictures])
    count = len(pictures)
    return Query.encoded(method, prepared, class_names, [domain] * count, [description] * count)


def encoded(
    method: Method,
    pictures: Sequence[Image.Image],
    class_names: Sequence[str],
    at_once: AtOnce,
    domain: Domain = "custom",
    description: str | None = None,
) -> Iterator[Query]:
    """RGB pictures of any sizes as one batch, or as several where memory does not hold one."""

    def encode(part: range) -> Query:
        own = slice(part.start, part.stop)
        return encode_pictures(method, pictures[own], class_names[own], domain, description)

    for _, query in at_once.each(range(len(pictures)), encode):
        yield query


def _resized(method: Method, image_size: int) -> Method:
    """The same method, with the same learned tensors, at another input size.

    A shallow copy: the caller's method keeps its own size, and nothing is encoded twice.
    """
    if image_size < 1:
        raise UsageError(f"image_size is {image_size}: it must be a positive number of pixels")
    other = copy.copy(method)
    other.options = dataclasses.replace(method.options, image_size=image_size)
    return other


def _picture(image: Any, number: int) -> Image.Image:
    if isinstance(image, (str, Path)):
        return read_image(Path(image))
    if isinstance(image, Image.Image):
        return to_rgb(image)
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise UsageError(
            f"image {number} is {array.dtype} of shape {array.shape}: give uint8 arrays [H, W, 3], "
            "PIL images or paths"
        )
    return Image.fromarray(array)
