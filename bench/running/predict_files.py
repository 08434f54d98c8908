"""Scoring a user's own image files: overlays, raw maps and scores on disk."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image

from ..arithmetic import single_precision
from ..at_once import AtOnce
from ..category import each_answer, refuse_references, with_scores
from ..errors import DataError, UsageError
from ..files import whole_file, write_png
from ..images import read_image
from ..method import Method, Query
from ..predict import encoded
from ..progress import Progress
from ..records.predictions import Decision, FileScore, Predictions, write_predictions
from ..thresholds import p_values
from .decision import (
    DecisionRule,
    KnownAnswer,
    KnownImage,
    decide,
    known_images,
    pixels_of,
    refuse_too_few,
)
from .overlay import Map, Scale, draw_overlay, short
from .own_images import RESULT_SUFFIXES, image_files, refuse_replacing, result_stems
from .plan import USUAL

LOG = logging.getLogger(__name__)
GROUND, TOP = 0.01, 0.999  # quantiles of a map between which its colours are spread


@dataclass(frozen=True)
class Request:
    """What `predict_files` is to do beside scoring.

    Attributes:
        rule: how images are told normal or anomalous.
        references: files, or folders of them, of normal images, for a few-shot or full-shot method.
        batch_size: images per visual forward, or fewer once memory runs out.
        progress: how to show progress and how to stop.
    """

    rule: DecisionRule = field(default_factory=DecisionRule)
    references: Sequence[Path] = ()
    batch_size: int = USUAL
    progress: Progress = field(default_factory=Progress)


@dataclass(frozen=True)
class _Image:
    """An image of a call: a file in question, or one whose truth is known."""

    path: Path
    known: KnownImage | None = None


@dataclass
class _Answers:
    """What a method says of the images of a call; maps are on the disk already.

    Attributes:
        images: those that were readable, in order; the other lists are as long, in the end.
        broken: what is wrong with the files that are not readable.
        scores: None from a method without image-level scores.
        spans: the values of each map that are shown darkest and brightest; None without a map.
        known: what is kept of the maps of images whose truth is known.
    """

    images: list[_Image] = field(default_factory=list)
    broken: dict[Path, str] = field(default_factory=dict)
    scores: list[float | None] = field(default_factory=list)
    spans: dict[Path, tuple[float, float]] = field(default_factory=dict)
    known: list[KnownAnswer] = field(default_factory=list)


@single_precision()
def predict_files(
    method: Method,
    paths: Sequence[Path],
    class_name: str,
    out: Path,
    request: Request | None = None,
) -> Predictions:
    """Score image files and write what was found.

    For an image `a/part.png` below a given folder: `a/part.overlay.png` (the image and its heat,
    with the outline of the region above the threshold) and `a/part.map.npy` (float32 [M, M] at the
    method's map size, greater is more anomalous); for all of them `scores.csv` and `scores.json`,
    and `decision.json` where a threshold was asked for. Images whose results would have the same
    name get numbers (`a/part-2.overlay.png`). Heat has one scale over all the images of the call.
    The files of a call, those of the rule included, are the category of a transductive method.

    Args:
        method: ready to predict.
        paths: files, or folders whose image files are taken, at any depth.
        class_name: what the images show, for the prompts.
        out: folder; made if absent.
        request: what else is asked.

    Returns:
        A row for each file; of a file that is not a readable image it holds the error.

    Raises:
        UsageError: a path does not exist, there are no images, `out` cannot be made, or a
            result would replace one of the images, or the references or the rule do not fit.
        DataError: a reference, or an image of the rule, is not a readable image.
        FileError: a result cannot be written; names its file.
    """
    request = request or Request()
    found = image_files(paths, out)
    stems = dict(zip(found, result_stems(list(found.values())), strict=True))
    refuse_replacing(found, stems, out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"folder {out} cannot be made ({error.strerror}): choose --out") from error
    known = known_images(request.rule, out)
    refuse_too_few(request.rule, known)
    _warn_of_shared(found, known)
    images = [*(_Image(image.path, image) for image in known), *map(_Image, found)]
    maps = {path: out / (stem + RESULT_SUFFIXES[1]) for path, stem in stems.items()}
    answers = _answers(method, images, class_name, maps, request)
    decision = decide(request.rule, answers.known)
    rows = _rows(answers, decision, stems, out, request.progress)
    predictions = Predictions(rows, decision)
    write_predictions(out, predictions)
    return predictions


def _warn_of_shared(found: Mapping[Path, object], known: Sequence[KnownImage]) -> None:
    """Warn of images that are judged by a threshold which they helped to choose."""
    shared = {path.resolve() for path in found} & {image.path.resolve() for image in known}
    if shared:
        LOG.warning(
            "%d images are both scored and used to choose the threshold: what is said of them "
            "holds for no new image",
            len(shared),
        )


def _answers(
    method: Method,
    images: Sequence[_Image],
    class_name: str,
    maps: Mapping[Path, Path],
    request: Request,
) -> _Answers:
    """Score all images, and write the map of each file as soon as it is there."""
    found, parts = _Answers(), []
    normal = list(image_files(request.references)) if request.references else []
    refuse_references(method, len(normal))
    at_once = AtOnce(method.backbone.device, request.batch_size)
    shown = _normal(method, normal, class_name, at_once)
    batches = _category(method, images, class_name, at_once, found)
    answered = iter(found.images)  # which grows while batches are read
    labelled = sum(image.known is not None for image in images)
    with request.progress.track(len(images), "scoring", "img") as bar:
        for answer in each_answer(method, batches, len(images), shown, at_once=at_once):
            parts.append(replace(answer, maps=None))
            own = list(itertools.islice(answered, len(answer)))
            for place, image in enumerate(own):
                values = None if answer.maps is None else answer.maps[place].numpy()
                if image.known is not None:
                    found.known.append(_known_answer(image.known, values, labelled))
                elif values is not None:
                    found.spans[image.path] = _kept(values, maps[image.path])
            bar.update(len(answer))
            request.progress.check()
    scores = [answer.scores for answer in with_scores(method, parts)]
    given = [float(score) for own in scores if own is not None for score in own]
    found.scores = [*given] or [None] * len(found.images)
    found.known = [
        replace(answer, score=score)
        for answer, score in zip(found.known, found.scores, strict=False)  # they come first
    ]
    return found


def _category(
    method: Method, images: Sequence[_Image], class_name: str, at_once: AtOnce, found: _Answers
) -> Iterator[Query]:
    """The batches of a call; notes which images are readable and what is wrong with the others."""
    size = at_once.images
    for start in range(0, len(images), size):
        pictures: list[Image.Image] = []
        for image in images[start : start + size]:
            try:
                pictures.append(read_image(image.path))
            except DataError as error:
                if image.known is not None:
                    raise
                found.broken[image.path] = str(error)
            else:
                found.images.append(image)
        if pictures:
            yield from encoded(method, pictures, [class_name] * len(pictures), at_once)


def _normal(
    method: Method, paths: Sequence[Path], class_name: str, at_once: AtOnce
) -> Iterator[Query]:
    """The batches of references."""
    size = at_once.images
    for start in range(0, len(paths), size):
        pictures = [read_image(path) for path in paths[start : start + size]]
        yield from encoded(method, pictures, [class_name] * len(pictures), at_once)


def _known_answer(known: KnownImage, values: Map | None, images: int) -> KnownAnswer:
    """What is kept of the map of an image whose truth is known; its score comes later."""
    if values is None:
        return KnownAnswer(known.label, None, None)
    pixels = pixels_of(known, values, images) if known.sample is not None else None
    return KnownAnswer(known.label, None, float(values.max()), pixels)


def _kept(values: Map, path: Path) -> tuple[float, float]:
    """Write a map; the values of it that are shown darkest and brightest."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        np.save(file, values)
    low, high = np.quantile(values, (GROUND, TOP))
    return float(low), float(high)


def _rows(
    answers: _Answers,
    decision: Decision,
    stems: Mapping[Path, str],
    out: Path,
    progress: Progress,
) -> list[FileScore]:
    """The rows of all files, those that are not readable last; draws the overlays."""
    lows, highs = zip(*answers.spans.values(), strict=True) if answers.spans else ((0.0,), (1.0,))
    scale = Scale(float(np.median(lows)), max(highs), decision.map_threshold)
    scored = [
        (image.path, score)
        for image, score in zip(answers.images, answers.scores, strict=True)
        if image.known is None
    ]
    rows = []
    with progress.track(len(scored), "overlays", "img") as bar:
        for path, score in scored:
            row = _judged(FileScore(str(path), score), decision)
            if path in answers.spans:
                row = _drawn(row, stems[path], out, scale)
            rows.append(row)
            bar.update()
            progress.check()
    return rows + [FileScore(str(path), error=error) for path, error in answers.broken.items()]


def _judged(row: FileScore, decision: Decision) -> FileScore:
    """A row with what a decision says of its score."""
    if row.score is None or decision.threshold is None:
        return row
    p_value = float(p_values(decision.normal, row.score)) if decision.normal else None
    return replace(row, anomalous=row.score > decision.threshold, p_value=p_value)


def _drawn(row: FileScore, stem: str, out: Path, scale: Scale) -> FileScore:
    """A row with its files and the share of its region; writes the overlay."""
    overlay_name, map_name = (stem + suffix for suffix in RESULT_SUFFIXES)
    values = np.load(out / map_name)
    picture = draw_overlay(read_image(Path(row.path)), values, scale, caption(row))
    write_png(out / overlay_name, picture)
    region = None if scale.threshold is None else float((values > scale.threshold).mean())
    return replace(row, region=region, overlay=overlay_name, map=map_name)


def caption(row: FileScore) -> str:
    """A row in a few words: score, verdict and p-value, as far as there are any."""
    words = ["" if row.score is None else f"score {short(row.score)}"]
    words.append({True: "anomalous", False: "normal", None: ""}[row.anomalous])
    words.append("" if row.p_value is None else f"p {short(row.p_value)}")
    return "  ".join(word for word in words if word)
