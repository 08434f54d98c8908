"""One category, many methods: encode once, predict, measure.

All methods whose `forward_key` is equal read one visual forward per batch. A method that fails
keeps its error and is left out; the others are scored to the end. Each method reads its own copies,
so that what it writes into does not reach another method, and what it returns is copied. Answers
are measured in threads while the next batch is encoded, where cores are free for it.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from ..at_once import AtOnce, images_stated
from ..backbone import TokenSpec
from ..category import observe, observes_category, observes_references
from ..data.loading import Batch, Readers, death_of_reader, is_death_of_reader, load_batches
from ..dataset import Dataset, Sample
from ..errors import Stopped
from ..free_memory import give_back_gaps
from ..method import Query
from ..metrics.device_accumulator import DeviceAccumulator
from ..metrics.pixel_accumulator import Accumulator, PixelAccumulator
from ..progress import Progress
from ..randomness import image_keys
from ..records.category_record import CategoryRecord
from ..records.cell import Cell
from ..records.gallery import Gallery
from .answers import answer, own_copy
from .background import Background
from .batch_size import images_at_once
from .measuring import Learned, Measurement, Targets
from .observation import KeptBatches, show_references
from .plan import USUAL, Plan
from .prepared_method import PreparedMethod, isolated
from .stopwatch import Stopwatch

BYTES_OF_PIXELS = 2 << 30  # pixels kept in memory per category, over all methods
DEVICE_SHARE = 0.25  # of a GPU's free memory is for the same there
BATCHES_BEHIND = 2  # that may wait for their metrics
BYTES_OF_VALUE = 4  # in a map
IMAGES_BETWEEN = 128  # two looks for gaps in memory


@dataclass(frozen=True)
class _Category:
    """A category while it is scored: what all its methods share."""

    plan: Plan
    dataset: Dataset
    samples: Sequence[Sample]
    progress: Progress
    gallery: Gallery | None
    learned: Mapping[Cell, Learned]


@dataclass
class _Group:
    """The methods of a category that share its visual forwards, while they are scored.

    Attributes:
        backgrounds: what measures a method's answers, by its cell; several may share one.
        forward: seconds of the shared forwards.
        at_once: how many images are encoded together.
        own: how many each method answers together.
        seconds_read: spent on waiting for images.
    """

    category: _Category
    members: Sequence[Measurement]
    backgrounds: Mapping[Cell, Background]
    forward: Stopwatch
    at_once: AtOnce
    own: dict[Cell, AtOnce] = field(default_factory=dict)
    targets: Targets = field(default_factory=Targets)
    seconds_read: float = 0.0


def score_category(
    plan: Plan,
    dataset: Dataset,
    samples: Sequence[Sample],
    prepared_methods: Sequence[PreparedMethod],
    progress: Progress,
    learned: Mapping[Cell, Learned] | None = None,
) -> dict[Cell, CategoryRecord]:
    """Score one category for all methods.

    A method that fails keeps its error and is absent from the answer; a broken image or mask
    is an error of all of them.

    Args:
        plan: batch size, workers, what to keep.
        dataset: to read from.
        samples: of one category.
        prepared_methods: without errors.
        progress: asked before each batch whether to stop; counts the images of all forwards.
        learned: thresholds of metrics that need one.
    """
    groups = _groups(prepared_methods, progress)
    gallery = Gallery(Path(plan.out), plan.gallery) if plan.gallery else None
    category = _Category(plan, dataset, samples, progress, gallery, learned or {})
    records: dict[Cell, CategoryRecord] = {}
    with _bar(category, len(groups)) as bar:
        for group in groups:
            with ExitStack() as memory:
                device = group[0].ready.backbone.device
                pixels = accumulators(device, len(group), len(prepared_methods))
                for one in pixels:
                    memory.enter_context(one)
                records |= _records(_score_group(category, group, pixels, bar))
            give_back_gaps()
    if gallery is not None:
        gallery.write(samples[0].category)
    return records


@dataclass(frozen=True)
class Answered:
    """What a method said about images as a whole.

    Attributes:
        labels: 0 normal, 1 anomalous [N].
        scores: [N]; None from a method without scores.
    """

    labels: NDArray[np.int64]
    scores: NDArray[np.floating[Any]] | None

    @staticmethod
    def joined(parts: Sequence[Answered]) -> Answered:
        """The answers of several parts as one."""
        scores = [part.scores for part in parts if part.scores is not None]
        labels = np.concatenate([np.empty(0, np.int64), *(part.labels for part in parts)])
        return Answered(labels, np.concatenate(scores) if scores else None)


def answered(
    plan: Plan,
    dataset: Dataset,
    samples: Sequence[Sample],
    prepared_methods: Sequence[PreparedMethod],
    pixels: Mapping[Cell, Accumulator],
    progress: Progress,
) -> dict[Cell, Answered]:
    """Let methods answer the images of one category without measuring anything.

    Args:
        plan: batch size and workers; it keeps nothing.
        dataset: to read from.
        samples: of one category.
        prepared_methods: without errors.
        progress: asked before each batch whether to stop.
        pixels: what takes in the maps, by the methods' cells.
    """
    category = _Category(plan, dataset, samples, progress, None, {})
    groups = _groups(prepared_methods, progress)
    found: dict[Cell, Answered] = {}
    with _bar(category, len(groups)) as bar:
        for group in groups:
            done = _score_group(category, group, [pixels[one.cell] for one in group], bar)
            labels = np.asarray(done.targets.labels, np.int64)
            for member in done.members:
                if member.prepared.error is None:
                    found[member.prepared.cell] = Answered(labels, member.all_scores())
    return found


def _groups(
    prepared_methods: Sequence[PreparedMethod], progress: Progress
) -> list[list[PreparedMethod]]:
    """The methods that share visual forwards, together."""
    groups: dict[tuple[Any, ...], list[PreparedMethod]] = {}
    for prepared in prepared_methods:
        with isolated(prepared, progress):
            groups.setdefault(prepared.group_key(), []).append(prepared)
    return list(groups.values())


@contextmanager
def _bar(category: _Category, groups: int) -> Iterator[tqdm[Any]]:
    """Progress over the images of a category, once for each of some groups."""
    title = f"{category.dataset.title} {category.samples[0].category}"
    with category.progress.track(len(category.samples) * groups, title, "img") as bar:
        yield bar


def accumulators(device: torch.device, count: int, methods: int) -> list[Accumulator]:
    """Accumulators for methods on a device, in their share of the memory for all methods."""
    on_host = max(BYTES_OF_PIXELS // methods, 1 << 20)
    if device.type != "cuda":
        return [PixelAccumulator(on_host) for _ in range(count)]
    free, _ = torch.cuda.mem_get_info(device)
    on_device = max(int(DEVICE_SHARE * free) // methods, 1 << 20)
    return [DeviceAccumulator(device, on_device, on_host) for _ in range(count)]


def _score_group(
    category: _Category,
    prepared_methods: Sequence[PreparedMethod],
    pixels: Sequence[Accumulator],
    bar: tqdm[Any],
) -> _Group:
    """Score the methods of one group; what goes wrong with the images is an error of them all."""
    plan = category.plan
    device = prepared_methods[0].ready.backbone.device
    forward = Stopwatch(device, plan.profile)
    members = [
        Measurement(
            prepared,
            accumulator,
            category.gallery,
            plan.save_maps,
            forward,
            Stopwatch(device, plan.profile),
            plan.measured,
            category.learned.get(prepared.cell, Learned()),
        )
        for prepared, accumulator in zip(prepared_methods, pixels, strict=True)
    ]
    backgrounds = _backgrounds(members, device, category.progress)
    group = _Group(category, members, backgrounds, forward, AtOnce(device, USUAL))
    try:
        with ExitStack() as threads:
            for background in {*backgrounds.values()}:
                threads.enter_context(background)
            _run_group(group, bar)
    except Stopped:
        raise
    except Exception as error:
        dead = is_death_of_reader(error)
        reason = death_of_reader(category.dataset, error) if dead else error
        for prepared in prepared_methods:
            prepared.error = prepared.error or reason
    return group


def _backgrounds(
    members: Sequence[Measurement], device: torch.device, progress: Progress
) -> dict[Cell, Background]:
    """What measures answers: threads on free cores, each for some of the methods.

    Without a free core answers are measured at once: a thread would have to share a core with one
    of torch's threads, for which all others wait. Maps on a GPU take one thread, as the GPU does
    the work.
    """
    free = free_cores(device)
    count = max(1, min(free, len(members)))
    behind = BATCHES_BEHIND * -(-len(members) // count) if free else 0
    made = [Background(behind, progress) for _ in range(count)]
    return {one.prepared.cell: made[i % count] for i, one in enumerate(members)}


def free_cores(device: torch.device) -> int:
    """Cores that a process leaves free while a device encodes, at most as many as torch takes."""
    if device.type == "cuda":
        return 1
    cores: int = joblib.cpu_count()
    return max(0, min(cores - torch.get_num_threads(), torch.get_num_threads()))


def _run_group(group: _Group, bar: tqdm[Any]) -> None:
    """Feed the methods of one group from one visual forward per batch."""
    category, members = group.category, group.members
    specs = _specs(group)
    group.at_once = _at_once(group, specs)
    group.own = {m.prepared.cell: dataclasses.replace(group.at_once) for m in members}
    for member in members:
        _show_references(group, member)
    observers = [m for m in members if observes_category(m.prepared.ready)]
    others = [m for m in members if not observes_category(m.prepared.ready)]
    kept = KeptBatches.with_room_for(len(category.samples))
    for batch, query in _encoded(group, specs):
        group.targets.add(batch, category.plan.save_maps)
        if observers:
            kept.add(query, batch)
        for member in others:
            if member.prepared.error is None:
                with isolated(member.prepared, category.progress):
                    _answer(group, member, query.seen_by(member.prepared.ready), batch)
        bar.update(len(batch))
        if len(group.targets.labels) % IMAGES_BETWEEN < len(batch):
            give_back_gaps()
    for member in observers:
        _answer_observed(group, member, kept)
    for member in members:
        if member.prepared.error is None:
            with isolated(member.prepared, category.progress):
                member.conclude()
    give_back_gaps()


def _specs(group: _Group) -> frozenset[TokenSpec]:
    """The patch tokens that some method of a group reads."""
    specs: set[TokenSpec] = set()
    for member in group.members:
        with isolated(member.prepared, group.category.progress):
            specs |= member.prepared.ready.token_specs
    return frozenset(specs)


def _at_once(group: _Group, specs: frozenset[TokenSpec]) -> AtOnce:
    """As many images as the plan asks for, or as memory holds of those of the category."""
    category, first = group.category, group.members[0].prepared
    method, device = first.ready, first.ready.backbone.device

    def encode(count: int) -> None:
        image = method.preprocess(category.dataset.read(category.samples[0]).image)
        images = image.expand(count, *image.shape).to(device)
        method.preprocess.encode(method.backbone, images, specs)

    maps = (BATCHES_BEHIND + 1) * len(group.members) * BYTES_OF_VALUE * first.map_size**2
    return AtOnce(device, images_at_once(category.plan.batch_size, device, encode, maps))


def _encoded(group: _Group, specs: frozenset[TokenSpec]) -> Iterator[tuple[Batch, Query]]:
    """Each batch, and what all methods of a group read of it: these tokens, among others."""
    category, members = group.category, group.members
    dataset, plan = category.dataset, category.plan
    first = members[0].prepared.ready
    device = first.backbone.device
    needs_keys = any(member.prepared.ready.needs_keys for member in members)
    description = dataset.description(category.samples[0].category)
    batches = load_batches(
        dataset,
        category.samples,
        first.preprocess,
        members[0].prepared.map_size,
        group.at_once.images,
        Readers(plan.workers, device),
        label_regions=True,
    )

    def encode(batch: Batch) -> Query:
        with group.forward.running():
            images = batch.images.to(device, non_blocking=True)
            features = first.preprocess.encode(first.backbone, images, specs)
        domains, descriptions = [dataset.domain] * len(batch), [description] * len(batch)
        keys = image_keys(batch.images) if needs_keys else None
        return Query(features, batch.class_names, images, domains, descriptions, keys)

    for batch in _timed_reading(group, batches):
        category.progress.check()
        yield from group.at_once.each(batch, encode)


def _timed_reading(group: _Group, batches: Iterable[Batch]) -> Iterator[Batch]:
    """The same batches; the time until each is there is counted."""
    began = time.perf_counter()
    for batch in batches:
        group.seconds_read += time.perf_counter() - began
        yield batch
        began = time.perf_counter()


def _show_references(group: _Group, member: Measurement) -> None:
    """Let a method of the few-shot or full-shot track observe normal training images."""
    category, prepared = group.category, member.prepared
    if prepared.error is not None or not observes_references(prepared.ready):
        return
    with isolated(prepared, category.progress), member.own.running():
        member.remarks += show_references(
            prepared.ready,
            category.dataset,
            category.samples[0].category,
            category.plan,
            category.progress,
            group.own[prepared.cell],
        )


def _answer_observed(group: _Group, member: Measurement, kept: KeptBatches) -> None:
    """Let one method observe the whole category and then answer it, batch by batch."""
    prepared, progress = member.prepared, group.category.progress
    if prepared.error is not None:
        return
    with isolated(prepared, progress):
        with member.own.running():
            member.remarks += observe(prepared.ready, kept.images, progress.check)
        for query, batch in kept.seen_by(prepared.ready):
            progress.check()
            _answer(group, member, query, batch)


@dataclass(frozen=True)
class _Asked:
    """A batch as it was read, with what a method sees of it."""

    query: Query
    batch: Batch

    def __len__(self) -> int:
        return len(self.query)

    def __getitem__(self, images: slice) -> _Asked:
        return _Asked(self.query[images], self.batch[images])


def _answer(group: _Group, member: Measurement, query: Query, batch: Batch) -> None:
    """Let one method answer copies of a batch, and have that measured in the background."""
    keeps_prompts = group.category.plan.save_prompt_scores
    device = member.prepared.ready.backbone.device

    def ask(asked: _Asked) -> Callable[[], None]:
        own = asked.query.map(lambda tensor: own_copy(tensor, device))
        return answer(member, own, asked.batch, keeps_prompts)

    for _, measure in group.own[member.prepared.cell].each(_Asked(query, batch), ask):
        group.backgrounds[member.prepared.cell].submit(partial(_measured, group, member, measure))


def _measured(group: _Group, member: Measurement, measure: Callable[[], None]) -> None:
    """Measure an answer; what goes wrong is an error of its method alone."""
    if member.prepared.error is None:
        with isolated(member.prepared, group.category.progress):
            measure()


def _records(group: _Group) -> dict[Cell, CategoryRecord]:
    """The category's records of the methods without errors; writes what the plan keeps besides.

    As many methods at once as torch may use threads: sorting leaves the interpreter to others.
    """
    with ThreadPoolExecutor(max(torch.get_num_threads(), 1)) as pool:
        made = list(pool.map(partial(_record, group), group.members))
    records: dict[Cell, CategoryRecord] = {}
    for member, record in zip(group.members, made, strict=True):
        if record is not None:
            out = Path(group.category.plan.out)
            member.write(out, record.result.category, group.targets)
            records[member.prepared.cell] = record
    return records


def _record(group: _Group, member: Measurement) -> CategoryRecord | None:
    """The record of one method, or None where it has an error, perhaps only now."""
    category, prepared = group.category, member.prepared
    if prepared.error is None:
        with isolated(prepared, category.progress):
            record = member.record(category.dataset, category.samples, group.targets)
            limits = (group.at_once, group.own[prepared.cell])
            remarks = [*member.remarks, *(text for one in limits for text in one.remarks())]
            remarks += member.pixels.remarks()
            member.pixels.release()  # the tables of all methods would not fit into memory together
            return dataclasses.replace(
                record,
                timing={**record.timing, **images_stated(limits), **_stages(group, member)},
                warnings=[*record.warnings, *prepared.remarks, *remarks],
            )
    return None


def _stages(group: _Group, member: Measurement) -> dict[str, float]:
    """Seconds of the stages beside forward and predict, where a profile is asked for."""
    if not group.category.plan.profile:
        return {}
    return {
        "seconds_read": group.seconds_read,
        "seconds_metrics": member.seconds_metrics,
        "seconds_wait": sum(one.seconds_waited for one in {*group.backgrounds.values()}),
    }
