"""What a method may see beside the image that it scores: its category's images, or normal ones.

The harness encodes each image once, keeps what was encoded, lets the method observe it, asks for
answers batch by batch and, where scores depend on all images, for these at last. Axes: B images of
a batch, N of the category, L patch tokens, D embedding.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from .at_once import AtOnce
from .backbone import TokenSpec
from .errors import ContractError, UsageError
from .method import Method
from .names import display_name
from .query import Prediction, Query
from .scratch import Scratch
from .track import Track

BATCH = 8  # images that are read at once where nobody says how many


class Observed:
    """The images that a method observes, encoded once and read as often as it wants.

    Whatever is read is a copy on the method's device, in the order of the images. What does not fit
    into memory lies on disk, so read the tokens of a few images at a time.

    Args:
        method: that observes.
        images: all of them, as one batch with the tokens of at least this method, on the CPU.
        check: called before each reading, to stop work that is no longer wanted.
        most: images of a batch, where fewer than a method asks for fit into memory.
    """

    def __init__(
        self,
        method: Method,
        images: Query,
        check: Callable[[], None] = lambda: None,
        most: int = sys.maxsize,
    ) -> None:
        self._images = images.seen_by(method)
        self._device = method.backbone.device
        self._most = most
        self.check = check

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, images: slice) -> Query:
        """Some of the images as a batch."""
        return self._images[images].map(self._read)

    def batches(self, size: int = BATCH) -> Iterator[Query]:
        """All images, in batches of so many, or fewer once memory ran out."""
        size = min(size, self._most)
        for start in range(0, len(self), size):
            yield self[start : start + size]

    def tokens(self, spec: TokenSpec, images: slice = slice(None)) -> Tensor:
        """The patch tokens [B, L, D] of some images, and nothing else of them."""
        return self._read(self._images.features.tokens[spec][images])

    @property
    def class_token(self) -> Tensor:
        """The class tokens [N, D] through ln_post and the projection."""
        return self._read(self._images.features.class_token)

    @property
    def keys(self) -> Sequence[int] | None:
        """See `Query`."""
        return self._images.keys

    def _read(self, tensor: Tensor) -> Tensor:
        self.check()
        return tensor.to(self._device, copy=True)


class KeptImages:
    """Encoded images, kept on the CPU in the order in which they come.

    Args:
        capacity: images that there may be.
        scratch: where their tensors lie.
    """

    def __init__(self, capacity: int, scratch: Scratch | None = None) -> None:
        self._capacity = capacity
        self._scratch = scratch or Scratch()
        self._room: Query | None = None  # its tensors have room for all images
        self._batches: list[Query] = []

    def __len__(self) -> int:
        return sum(map(len, self._batches))

    def add(self, batch: Query) -> None:
        """Keep a copy of a batch."""
        start, stop = len(self), len(self) + len(batch)
        if self._room is None:
            self._room = batch.map(self._space_for)
        kept = self._room.map(lambda tensor: tensor[start:stop])
        for name, tensor in batch.tensors().items():
            kept.tensors()[name].copy_(tensor)
        labelled = kept.labelled([batch])
        self._batches.append(dataclasses.replace(labelled, places=tuple(range(start, stop))))

    def batches(self) -> Iterator[Query]:
        """The batches as they came, with the places of their images."""
        yield from self._batches

    def all(self) -> Query:
        """All images as one batch; its tensors are the kept ones and no copies.

        Raises:
            ContractError: there are none.
        """
        if self._room is None:
            raise ContractError("there are no images to observe")
        count = len(self)
        return self._room.map(lambda tensor: tensor[:count]).labelled(self._batches)

    def _space_for(self, tensor: Tensor) -> Tensor:
        return self._scratch.zeros((self._capacity, *tensor.shape[1:]), tensor.dtype)


def track_of(method: Method) -> Track:
    """What a method sees of the target dataset, with its options."""
    return method.track_of(method.options)


def observes_category(method: Method) -> bool:
    """Whether a method is shown all images of a category before it answers."""
    return track_of(method) is Track.TRANSDUCTIVE and method.observes


def observes_references(method: Method) -> bool:
    """Whether a method is shown normal training images before it answers."""
    return track_of(method).has_references


@torch.no_grad()
def observe(
    method: Method, images: KeptImages, check: Callable[[], None] = lambda: None
) -> list[str]:
    """Let a method observe images that were kept.

    It does so from the beginning, in smaller batches, where memory runs out.

    Returns:
        What a record says of that.
    """
    name, kept = display_name(method.name), images.all()
    at_once = AtOnce(
        method.backbone.device,
        what=f"while method '{name}' observed",
        option="",
        fix=f"lower --option {name}.image_size",
    )

    def show(batches: Sequence[range]) -> None:
        whole = len(batches) == 1
        method.observe(Observed(method, kept, check, sys.maxsize if whole else len(batches[0])))

    at_once.together(range(BATCH), show)
    return at_once.remarks()


@torch.no_grad()
def conclude(method: Method, answer: Prediction) -> Prediction:
    """The answer to all images of a category, with scores made of its parts where it has these.

    Raises:
        ContractError: parts from a method whose track leaves no room for them, or scores of a
            wrong shape or with NaN; names the method.
    """
    if answer.parts is None:
        return answer
    refuse_parts(method, answer)
    scores = method.conclude(answer.parts)
    return Prediction(scores, answer.maps).checked(len(answer.parts), method.name)


def refuse_parts(method: Method, answer: Prediction) -> None:
    """Refuse parts of a method that does not say that its scores depend on the category.

    Raises:
        ContractError: names the method and its track.
    """
    track = track_of(method)
    if answer.parts is not None and track is not Track.TRANSDUCTIVE:
        raise ContractError(
            f"method '{display_name(method.name)}' answers with parts, so that its scores depend "
            f"on the whole category, but its track is {track}: say track = "
            "Track.TRANSDUCTIVE, or give scores"
        )


def refuse_references(method: Method, count: int) -> None:
    """Refuse to show normal images to a method that has no use for them, or none to one that has.

    Raises:
        UsageError: names the method and the fix.
    """
    name, needed = display_name(method.name), observes_references(method)
    if needed and not count:
        raise UsageError(
            f"method '{name}' is of the {track_of(method)} track: give it normal images as "
            "references (--references FOLDER)"
        )
    if count and not needed:
        raise UsageError(
            f"method '{name}' is of the {track_of(method)} track and takes no normal images: leave "
            "the references out"
        )


def answers_to_category(
    method: Method,
    batches: Iterable[Query],
    capacity: int,
    references: Iterable[Query] = (),
    at_once: AtOnce | None = None,
) -> list[Prediction]:
    """A method's answers to all images of a category, batch by batch on the CPU, with final scores.

    Arguments and errors as `each_answer`.
    """
    answers = each_answer(method, batches, capacity, references, at_once=at_once)
    return with_scores(method, list(answers))


def each_answer(
    method: Method,
    batches: Iterable[Query],
    capacity: int,
    references: Iterable[Query] = (),
    check: Callable[[], None] = lambda: None,
    at_once: AtOnce | None = None,
) -> Iterator[Prediction]:
    """A method's answers to the images of a category as they come, batch by batch on the CPU.

    Where they have parts, `with_scores` makes the scores once all of them are there. A batch that
    memory does not hold is answered in parts.

    Args:
        method: ready to predict.
        batches: of the category, as the method sees them.
        capacity: images that these may hold.
        references: normal images for a method of the few-shot or full-shot track.
        check: called while the method observes, to stop work that is no longer wanted.
        at_once: how many images it answers at once; None is as many as a batch has.

    Raises:
        ContractError: a wrong shape or NaN, or nothing to observe; names the method.
        ZsadError: memory does not hold one image.
    """
    at_once = at_once or AtOnce(method.backbone.device)
    if observes_references(method):
        shown = [batch.map(lambda tensor: tensor.cpu()) for batch in references]
        observe(method, _kept(shown, sum(map(len, shown))), check)
    if observes_category(method):
        kept = _kept(batches, capacity)
        observe(method, kept, check)
        batches = kept.batches()
    for batch in batches:
        for _, answer in at_once.each(batch, partial(_answer, method)):
            yield answer


@torch.no_grad()
def _answer(method: Method, batch: Query) -> Prediction:
    """A method's answer to a batch, on the CPU."""
    device = method.backbone.device
    answer = method.predict(batch.map(lambda tensor: tensor.to(device)))
    checked = answer.checked(len(batch), method.name)
    refuse_parts(method, checked)
    return checked.map(lambda tensor: tensor.cpu())


def _kept(batches: Iterable[Query], capacity: int) -> KeptImages:
    kept = KeptImages(capacity)
    for batch in batches:
        kept.add(batch)
    return kept


def with_scores(method: Method, answers: Sequence[Prediction]) -> list[Prediction]:
    """The answers, with scores from the parts of all of them where they have parts."""
    parts = [answer.parts for answer in answers if answer.parts is not None]
    if not parts:
        return list(answers)
    everything = torch.cat(parts).to(method.backbone.device)
    scores = conclude(method, Prediction(None, None, everything)).scores
    assert scores is not None
    cut = torch.split(scores.cpu(), [len(part) for part in parts])
    return [Prediction(own, answer.maps) for own, answer in zip(cut, answers, strict=True)]
