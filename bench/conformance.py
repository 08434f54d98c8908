"""Named checks of whether a method or a dataset keeps the contract, for plug-ins too.

    from zsad.bench.conformance import check_method, check_dataset

    def test_my_method():
        check_method(MyMethod)

`METHOD_CHECKS` and `DATASET_CHECKS` are the single checks, for `pytest.mark.parametrize`.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from .backbone import Backbone
from .backbone_spec import PRECISIONS
from .category import (
    answers_to_category,
    observes_category,
    observes_references,
    refuse_parts,
    track_of,
)
from .dataset import Dataset, Domain
from .errors import ContractError, UsageError
from .method import Method, TrainableMethod, build
from .query import Prediction, Query
from .schedule import Loss
from .simulated_device import on_device, simulated_device
from .track import Track
from .training.divided import fault_of_parts
from .training.loop import remember
from .training.optimisation import TrainingConfig
from .training.references import refuse_tested
from .training.sources import memory_sources
from .training.stages import REMEMBERING
from .training.trainer import fit

IMAGES = 4
CATEGORY = 12  # images of a category that is observed; MuSc's windows need nine
REFERENCES = 3  # normal images for a few-shot method
CLASS_NAMES = ("bottle", "metal nut", "bottle", "tile")
TOLERANCE = 1e-5  # float32 rounding of another batch size
STEPS = 8  # optimiser steps after which a trained method must have improved on its own batch

MethodCheck = Callable[[type[Method], Backbone], None]
DatasetCheck = Callable[[Dataset], None]


def check_method(
    cls: type[Method],
    backbone: Backbone | None = None,
    device: Literal["cpu", "simulated"] = "cpu",
) -> None:
    """Run every check of `METHOD_CHECKS`.

    Args:
        cls: the method's class.
        backbone: what to try it on; the built-in one by default.
        device: "simulated" refuses to mix its tensors with the host's, as CUDA does, and computes
            on the CPU; see `zsad.bench.simulated_device`.

    Raises:
        ContractError: names every check that failed, and why.
    """
    from .weights import load_backbone  # it imports open_clip, which a finished run can do without

    backbone = backbone or load_backbone("tiny")
    if device == "cpu":
        _run_all(METHOD_CHECKS, cls.__name__, cls, backbone)
        return
    checks = [check for check in METHOD_CHECKS if check is not runs_on_cuda]
    with simulated_device() as simulated:
        _run_all(checks, cls.__name__, cls, on_device(backbone, simulated))


def check_dataset(dataset: Dataset) -> None:
    """Run every check of `DATASET_CHECKS` on an opened dataset.

    Raises:
        ContractError: names every check that failed, and why.
    """
    _run_all(DATASET_CHECKS, dataset.name, dataset)


def _run_all(checks: Sequence[Callable[..., None]], name: str, *arguments: Any) -> None:
    failed = []
    for check in checks:
        try:
            check(*arguments)
        except Exception as error:
            failed.append(f"{check.__name__}: {type(error).__name__}: {error}")
    if failed:
        raise ContractError(f"{name} breaks the contract:\n" + "\n".join(failed))


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise ContractError(what)


# -- methods ------------------------------------------------------------------------------------


def answers_in_shape(cls: type[Method], backbone: Backbone) -> None:
    """Scores [B] and maps [B, H, W] at the map size, finite, for every variant."""
    for variant in cls.variants:
        method = _ready(cls, backbone, variant)
        pictures = _pictures(method)
        answer = _predict(method, pictures).checked(len(pictures), cls.title)
        if answer.maps is not None:
            shape, size = tuple(answer.maps.shape[1:]), method.map_size
            _require(shape == (size, size), f"maps of {shape}, map_size says {size}")


def is_deterministic(cls: type[Method], backbone: Backbone) -> None:
    """The same query twice gives the same answer, and so does a second instance."""
    method = _ready(cls, backbone)
    first, second = _predict(method), _predict(method)
    _require_equal(first, second, "a second call answers differently")
    _require_equal(first, _predict(_ready(cls, backbone)), "a second instance differs")


def ignores_the_batch(cls: type[Method], backbone: Backbone) -> None:
    """One image at a time gives what the whole batch gives.

    In the zero-shot track an image is scored alone; in the transductive track it is alone in its
    batch but not in its category.
    """
    for variant in _one_of_each_track(cls):
        method = _ready(cls, backbone, variant)
        pictures, names = _pictures(method), _names(method)
        whole = _predict(method, pictures)
        if track_of(method) is Track.TRANSDUCTIVE:
            single = _predict(method, pictures, batch_size=1)
        else:
            alone = [slice(i, i + 1) for i in range(len(pictures))]
            single = Prediction.joined([_predict(method, pictures[i], names[i]) for i in alone])
        _require_equal(whole, single, "the batch changes the answer")


def ignores_the_order(cls: type[Method], backbone: Backbone) -> None:
    """A permuted batch, or category, gives permuted answers."""
    for variant in _one_of_each_track(cls):
        method = _ready(cls, backbone, variant)
        pictures, names = _pictures(method), _names(method)
        order = [*range(2, len(pictures), 2), 0, *range(3, len(pictures), 2), 1]
        permuted = _predict(method, pictures[order], [names[i] for i in order])
        expected = _predict(method, pictures).map(itemgetter(order))
        _require_equal(expected, permuted, "the order matters")


def keeps_to_its_track(cls: type[Method], backbone: Backbone) -> None:
    """Scores depend on the category only where the track says so, never on which image came first.

    A zero-shot or few-shot method gives no parts to make scores of, and a few-shot method answers
    the same whatever the order of the normal images.
    """
    for variant in _one_of_each_track(cls):
        method = _ready(cls, backbone, variant)
        query = _asked(method)
        with torch.no_grad():
            refuse_parts(method, method.predict(query))
        if observes_references(method):
            again = _predict(method, references=_references(method).flip(0))
            _require_equal(_predict(method), again, "the order of references matters")


def reads_what_it_declares(cls: type[Method], backbone: Backbone) -> None:
    """`predict` needs only the declared tokens, and images only where declared."""
    method = _ready(cls, backbone)
    try:
        with torch.no_grad():
            method.predict(_asked(method))
    except KeyError as error:
        raise ContractError(f"reads tokens {error} that token_specs does not declare") from error


def states_its_forwards(cls: type[Method], backbone: Backbone) -> None:
    """`predict` runs as many visual forwards of its own per image as `extra_work_of` says."""
    stated = {cls.extra_work_of(options): name for name, options in cls.variants.items()}
    for work, variant in stated.items():
        method = _ready(cls, backbone, variant)
        query = _asked(method)
        counter = method.backbone.counter
        before = counter.images
        with torch.no_grad():
            method.predict(query)
        found = (counter.images - before) / len(query)
        _require(
            found == work.forwards,
            f"variant '{variant}' runs {found:g} visual forwards of its own per image, and "
            f"extra_work_of says {work.forwards:g}",
        )


def leaves_the_backbone_alone(cls: type[Method], backbone: Backbone) -> None:
    """Predicting and learning change no weight, mode or gradient of the backbone."""
    before = copy.deepcopy(backbone.model.state_dict())
    _predict(_ready(cls, backbone))
    learner = build(cls, backbone)
    if isinstance(learner, TrainableMethod):
        _fit(learner, epochs=1)
    _require(_are_equal(before, backbone.model.state_dict()), "changes the backbone's weights")
    _require(not backbone.model.training, "puts the backbone into training mode")
    gradients = any(p.requires_grad or p.grad is not None for p in backbone.model.parameters())
    _require(not gradients, "lets gradients into the backbone")
    kept = {name.split(".")[0] for name in learner.state_dict()}
    _require("backbone" not in kept, "keeps the backbone in its state dict")


def leaves_its_input_alone(cls: type[Method], backbone: Backbone) -> None:
    """`predict` changes none of the tensors it is given."""
    method = _ready(cls, backbone)
    query = _asked(method)
    before = query.map(torch.clone).tensors()
    with torch.no_grad():
        method.predict(query)
    _require(_are_equal(before, query.tensors()), "changes its input in place")


def refuses_unknown_options(cls: type[Method], backbone: Backbone) -> None:
    """An option that does not exist is refused by name."""
    try:
        build(cls, backbone, no_such_option=1)
    except UsageError as error:
        _require("no_such_option" in str(error), "does not name the unknown option")
        return
    raise ContractError("takes an option that does not exist")


def smooths_as_asked(cls: type[Method], backbone: Backbone) -> None:
    """`smoothing_sigma` changes the maps, and 0 leaves them unsmoothed."""
    sharp = _predict(_ready(cls, backbone, smoothing_sigma=0.0)).maps
    soft = _predict(_ready(cls, backbone, smoothing_sigma=3.0)).maps
    if sharp is None or soft is None:
        return
    _require(not torch.equal(sharp, soft), "ignores smoothing_sigma")
    _require(bool(soft.std() < sharp.std()), "smoothing makes maps rougher")


def keeps_its_state(cls: type[Method], backbone: Backbone) -> None:
    """What was learned survives being saved and loaded."""
    method = build(cls, backbone)
    if not isinstance(method, TrainableMethod):
        return
    _fit(method, epochs=1)
    other = build(cls, backbone, seed=5)
    assert isinstance(other, TrainableMethod)
    other.load_learned(method.learned_state())
    _require_equal(_predict(method), _predict(other), "loses what it learned")


def learns(cls: type[Method], backbone: Backbone) -> None:
    """A trainable method lowers its loss on a batch that it sees repeatedly, in every stage.

    In the precision that a run trains in.
    """
    method = build(cls, _for_training(backbone))
    if not isinstance(method, TrainableMethod):
        return
    _hold_still(method)
    history = _fit(method, epochs=STEPS)
    for number, stage in enumerate(method.stages()):
        first, *_, last = history[number * STEPS : (number + 1) * STEPS]
        lowers = last["total"] < first["total"]
        _require(lowers, f"does not lower its loss in stage '{stage.name}'")


def learns_in_parts(cls: type[Method], backbone: Backbone) -> None:
    """A loss that is said to be a mean over images is one: its terms and its gradients."""
    method = _ready(cls, _for_training(backbone))
    if isinstance(method, TrainableMethod):
        sources = memory_sources(method, method.stages(), *_training_arrays(method), IMAGES)
        fault = fault_of_parts(method, sources)
        _require(not fault, fault)


def runs_on_cuda(cls: type[Method], backbone: Backbone) -> None:
    """The GPU gives the CPU's answer; passes where there is no GPU."""
    if not torch.cuda.is_available():
        return
    from .weights import load_backbone

    on_gpu = load_backbone(device="cuda")
    method, reference = _ready(cls, on_gpu), _ready(cls, load_backbone())
    gpu = _predict(method).map(lambda tensor: tensor.cpu())
    _require_equal(gpu, _predict(reference), "CUDA answers differently", tolerance=1e-3)


METHOD_CHECKS: tuple[MethodCheck, ...] = (
    answers_in_shape,
    is_deterministic,
    ignores_the_batch,
    ignores_the_order,
    keeps_to_its_track,
    reads_what_it_declares,
    states_its_forwards,
    leaves_the_backbone_alone,
    leaves_its_input_alone,
    refuses_unknown_options,
    smooths_as_asked,
    keeps_its_state,
    learns,
    learns_in_parts,
    runs_on_cuda,
)


def _picture_arrays(
    size: int, count: int = IMAGES, seed: int = 0
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Seeded pictures [N, S, S, 3], the third and fourth with a bright defect, and masks."""
    random = np.random.default_rng(seed)
    coarse = random.integers(40, 160, (count, 6, 6, 3)).astype(np.uint8)
    resized = (Image.fromarray(c).resize((size, size), Image.Resampling.BICUBIC) for c in coarse)
    pictures = np.stack([np.asarray(picture) for picture in resized])
    masks = np.zeros((count, size, size), dtype=bool)
    if count < IMAGES:
        return pictures, masks
    masks[2, size // 4 : size // 2, size // 4 : size // 2] = True
    masks[3, size // 2 : size // 2 + size // 5, : size // 3] = True
    pictures[masks] = 240
    return pictures, masks


def _pictures(method: Method) -> Tensor:
    """The preprocessed pictures [4, 3, S, S] at the method's size; of a category [12, 3, S, S]."""
    count = CATEGORY if track_of(method) is Track.TRANSDUCTIVE else IMAGES
    return _prepared(method, _picture_arrays(method.image_size, count)[0])


def _references(method: Method) -> Tensor:
    """Preprocessed normal pictures [3, 3, S, S] that are none of the others."""
    return _prepared(method, _picture_arrays(method.image_size, REFERENCES, seed=1)[0])


def _prepared(method: Method, arrays: NDArray[np.uint8]) -> Tensor:
    return torch.stack([method.preprocess(Image.fromarray(array)) for array in arrays])


def _names(method: Method) -> Sequence[str]:
    """A word for each of the pictures; the images of a category share theirs."""
    alike = track_of(method) is not Track.ZERO_SHOT
    return CLASS_NAMES[:1] * CATEGORY if alike else CLASS_NAMES


def _ready(
    cls: type[Method], backbone: Backbone, variant: str | None = None, **options: Any
) -> Method:
    """A method that can be asked; one that remembers has seen the pictures."""
    method = build(cls, backbone, variant, **options)
    if isinstance(method, TrainableMethod) and method.remembers:
        stages = [REMEMBERING]
        (source,) = memory_sources(method, stages, *_training_arrays(method), batch_size=IMAGES)
        remember(method, source, TrainingConfig())
    return method


def _one_of_each_track(cls: type[Method]) -> list[str]:
    """The default variant, and the first one of each other track."""
    found = {cls.track_of(cls.variants[cls.default_variant]): cls.default_variant}
    for variant, options in cls.variants.items():
        found.setdefault(cls.track_of(options), variant)
    return list(found.values())


def _predict(
    method: Method,
    images: Tensor | None = None,
    names: Sequence[str] | None = None,
    batch_size: int = CATEGORY,
    references: Tensor | None = None,
) -> Prediction:
    """The answer to images (the pictures), after a method was shown what its track has for it."""
    images = _pictures(method) if images is None else images
    words = (_names(method) if names is None else names)[: len(images)]
    starts = range(0, len(images), batch_size)
    batches = (
        Query.encoded(method, images[i : i + batch_size], words[i : i + batch_size]) for i in starts
    )
    normal = []
    if observes_references(method):
        shown = _references(method) if references is None else references
        normal.append(Query.encoded(method, shown, [words[0]] * len(shown)))
    return Prediction.joined(answers_to_category(method, batches, len(images), normal))


def _asked(method: Method) -> Query:
    """The pictures as one batch, after the method was shown what its track has for it."""
    images = _pictures(method)
    _predict(method, images)
    query = Query.encoded(method, images, _names(method)[: len(images)])
    places = tuple(range(len(images))) if observes_category(method) else None
    return dataclasses.replace(query, places=places)


def _hold_still(method: TrainableMethod) -> None:
    """Let losses see the same images and draws at every step, so that learning alone moves them."""

    def fixed(loss: Loss) -> Loss:
        def drawn_alike(query: Query, labels: Tensor, masks: Tensor) -> dict[str, Tensor]:
            torch.manual_seed(0)
            return loss(query, labels, masks)

        return drawn_alike

    stages = []
    for stage in method.stages():
        still = dataclasses.replace(stage.schedule, augments=False, augments_images=False)
        loss = fixed(stage.loss or method.loss)
        stages.append(dataclasses.replace(stage, loss=loss, schedule=still))
    method.stages = lambda: stages  # type: ignore[method-assign]


def _fit(method: TrainableMethod, epochs: int) -> list[dict[str, float]]:
    return fit(method, *_training_arrays(method), epochs=epochs)


def _training_arrays(
    method: Method,
) -> tuple[list[NDArray[np.uint8]], list[NDArray[np.bool_]], list[int], list[str]]:
    """The pictures at the method's size, with masks, labels and class names."""
    arrays, masks = _picture_arrays(method.image_size)
    labels = [int(mask.any()) for mask in masks]
    return list(arrays), list(masks), labels, list(CLASS_NAMES)


def _require_equal(
    first: Prediction, second: Prediction, what: str, tolerance: float = TOLERANCE
) -> None:
    for name in ("scores", "maps"):
        a, b = getattr(first, name), getattr(second, name)
        _require((a is None) == (b is None), f"{what}: {name} are there only sometimes")
        if a is not None:
            scale = max(1.0, float(a.abs().max()))
            difference = float((a - b).abs().max())
            _require(difference <= tolerance * scale, f"{what}: {name} differ by {difference:.2g}")


def _for_training(backbone: Backbone) -> Backbone:
    """The backbone, or its copy in the precision that a run trains in."""
    if backbone.training_precision == backbone.precision:
        return backbone
    model = copy.deepcopy(backbone.model).to(PRECISIONS[backbone.training_precision])
    return dataclasses.replace(backbone, model=model, precision=backbone.training_precision)


def _are_equal(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(tensor, second[name]) for name, tensor in first.items()
    )


# -- datasets -----------------------------------------------------------------------------------


def names_itself(dataset: Dataset) -> None:
    """A name, a title and a domain."""
    _require(bool(dataset.name) and bool(dataset.title), "has no name or title")
    domains = get_args(Domain)
    _require(dataset.domain in domains, f"domain is one of {domains}")


def lists_samples_in_order(dataset: Dataset) -> None:
    """Two listings are equal, and not empty."""
    first, second = dataset.samples("test"), dataset.samples("test")
    _require(bool(first), "has no test samples")
    _require(first == second, "lists its samples in another order the second time")


def labels_are_binary(dataset: Dataset) -> None:
    """Labels are 0 or 1, and anomalous images exist."""
    labels = {sample.label for sample in dataset.samples("test")}
    _require(labels <= {0, 1}, f"labels are {labels}")
    _require(1 in labels, "has no anomalous test image")
    if dataset.has_image_labels:
        _require(0 in labels, "claims image-level labels but has no normal test image")


def files_exist(dataset: Dataset) -> None:
    """Every image and mask that is listed exists."""
    for sample in dataset.samples("test"):
        for path in (sample.image_path, *sample.mask_paths):
            _require(path.is_file(), f"lists {path}, which does not exist")


def normal_images_have_no_mask(dataset: Dataset) -> None:
    """Masks belong to anomalous images."""
    for sample in dataset.samples("test"):
        if sample.label == 0:
            _require(not sample.mask_paths, f"gives the normal {sample.image_path} a mask")


def names_its_classes(dataset: Dataset) -> None:
    """Every sample has a category and a word for the prompts."""
    for sample in dataset.samples("test"):
        _require(bool(sample.category) and bool(sample.class_name), f"{sample} lacks a name")


def reads_its_samples(dataset: Dataset) -> None:
    """Images are RGB, masks are boolean and of the image's size (first and last of each label)."""
    for label in (0, 1):
        chosen = [s for s in dataset.samples("test") if s.label == label]
        for sample in chosen[:1] + chosen[-1:]:
            reading = dataset.read(sample)
            _require(reading.image.mode == "RGB", f"{sample.image_path} is not read as RGB")
            if reading.mask is None:
                continue
            size = (reading.image.height, reading.image.width)
            _require(reading.mask.dtype == bool, f"mask of {sample.image_path} is not boolean")
            _require(reading.mask.shape == size, f"mask of {sample.image_path} has another size")
            _require(label == 1 or not reading.mask.any(), f"normal {sample.image_path} has a mask")


def keeps_train_and_test_apart(dataset: Dataset) -> None:
    """No image is in both splits."""
    test = {(s.image_path, s.crop) for s in dataset.samples("test")}
    both = [s for s in dataset.samples("train") if (s.image_path, s.crop) in test]
    _require(not both, f"{len(both)} images are in train and test")


def shows_no_test_image(dataset: Dataset) -> None:
    """No normal training image, which few-shot methods are shown, is a copy of a test image."""
    refuse_tested(dataset, [sample for sample in dataset.samples("train") if sample.label == 0])


DATASET_CHECKS: tuple[DatasetCheck, ...] = (
    names_itself,
    lists_samples_in_order,
    labels_are_binary,
    files_exist,
    normal_images_have_no_mask,
    names_its_classes,
    reads_its_samples,
    keeps_train_and_test_apart,
    shows_no_test_image,
)
