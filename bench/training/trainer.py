"""Fitting a method to arrays (`fit`) and to an auxiliary dataset (`train`, `train_method`)."""

from __future__ import annotations

import logging
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..arithmetic import single_precision
from ..backbone import Backbone
from ..checkpoint import read_header, read_payload, write_tensors
from ..data.completeness import completeness
from ..dataset import Dataset, Sample, first_of_each
from ..errors import UsageError
from ..factory import create
from ..method import AuxiliarySplit, Method, TrainableMethod
from ..names import display_name, parts_named
from ..options import DEFAULT_SEED
from ..progress import Progress
from ..records.provenance import environment
from ..registry import names
from .batches import Source
from .description import describe
from .feature_cache import FeatureCache, digest
from .leakage import content_marks, refuse_leakage
from .loop import epoch_means, optimise
from .optimisation import TrainingConfig
from .sources import dataset_sources, memory_sources
from .stages import passes
from .state import History, StateFile, TrainingState

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Training:
    """What `train` has done.

    Attributes:
        method: with its learned weights, in eval mode.
        path: the checkpoint.
        history: of every step, those before a kill included; empty where the checkpoint was there.
        provenance: what stands in the checkpoint's header.
        seconds: spent in the loop, over all attempts.
    """

    method: TrainableMethod
    path: Path
    history: History
    provenance: Mapping[str, Any]
    seconds: float


@single_precision()
def fit(
    method: TrainableMethod,
    images: Sequence[NDArray[np.uint8]] | NDArray[np.uint8],
    masks: Sequence[NDArray[Any]] | NDArray[Any],
    labels: Sequence[int] | NDArray[Any] | Tensor,
    class_names: str | Sequence[str],
    epochs: int | None = 1,
    batch_size: int | None = 8,
    seed: int = DEFAULT_SEED,
) -> History:
    """Fit a method to arrays in memory, in place and in their order, by the loop of `train`.

    Args:
        method: from `create`; keeps its backbone frozen.
        images: N uint8 RGB images [H, W, 3], of any sizes.
        masks: N boolean masks [H, W], True = anomalous.
        labels: N labels, 0 normal, 1 anomalous.
        class_names: the word for the prompts, one for all or N.
        epochs: of each stage; None is the method's own schedule.
        batch_size: in each stage; None is the method's own.
        seed: of all that is random.

    Returns:
        Every step with its epoch, learning rate and loss terms.

    Raises:
        UsageError: the method is training-free, or the arrays do not fit each other.
        ContractError: the loss is not a finite number; names method, epoch, step and term.
    """
    config = TrainingConfig(epochs, batch_size, shuffle=False, seed=seed)
    stages = passes(_refuse_training_free(method))
    _, size = config.lengths(stages[-1].schedule)
    sources = memory_sources(method, stages, images, masks, labels, class_names, size)
    return optimise(method, sources, config).history


def train(
    name: str,
    dataset: Dataset,
    backbone: Backbone,
    out: Path | str,
    config: TrainingConfig | None = None,
    *,
    variant: str | None = None,
    options: Mapping[str, Any] | None = None,
    **how: Any,
) -> Training:
    """Create a method and train it on an auxiliary dataset.

    Args:
        name: of a trainable method.
        dataset: the auxiliary dataset.
        backbone: from `load_backbone`; its precision is the training's.
        out: the checkpoint, safetensors.
        config: as of `train_method`; its seed is that of the initial weights too.
        variant: None is the method's default.
        options: of the method, where they differ from the variant's.
        **how: as `train_method`.

    Raises:
        UsageError: an unknown name or option, or the method is training-free.
    """
    listed = set(parts_named(dataset.name)) <= set(names("dataset"))
    known = dataset.name if listed else None
    config = config or TrainingConfig()
    method = create(name, backbone, variant, None, config.seed, known, **(options or {}))
    return train_method(_refuse_training_free(method), dataset, out, config, **how)


@single_precision()
def train_method(
    method: TrainableMethod,
    dataset: Dataset,
    out: Path | str,
    config: TrainingConfig | None = None,
    *,
    split: AuxiliarySplit | None = None,
    target: Dataset | None = None,
    cache: FeatureCache | None = None,
    supersede: Callable[[Path, str], None] | None = None,
) -> Training:
    """Train a method on an auxiliary dataset and write its checkpoint.

    A checkpoint of the same training is loaded instead; a training of the same kind that was
    killed resumes from `<out>.state`.

    Args:
        method: with its initial weights.
        dataset: the auxiliary dataset; it must have masks.
        out: the checkpoint, safetensors with provenance in the header.
        config: None is the method's own schedule, with progress bars on a terminal.
        split: "test", or "all" for the train and the test split; None is the method's own.
        target: the dataset that will be tested on; it must share nothing with the auxiliary one.
        cache: where frozen features are kept; None is the default folder.
        supersede: moves a checkpoint of another training out of the way, told how it differs; None
            refuses it.

    Raises:
        UsageError: the datasets share images, or `out` cannot be written or is the checkpoint of
            another training.
        DataError: an image or mask is broken, or masks are missing.
        ContractError: the loss is not a finite number; names method, epoch, step and term.
    """
    path = Path(out)
    refuse_unwritable(path)
    split = method.split_of(method.options) if split is None else split
    config = config or TrainingConfig(progress=Progress(bar=sys.stderr.isatty()))
    samples = auxiliary_samples(dataset, split, config.limit)
    if target is not None:
        refuse_leakage(dataset, target, samples)
    cache = cache or FeatureCache()
    training = describe(method, dataset, split, samples, config, cache)
    finished = _finished(method, path, training, supersede) if path.exists() else None
    if finished is not None:
        return finished
    sources = dataset_sources(method, passes(method), dataset, samples, cache, config)
    held = asdict(completeness(dataset, split, config.limit))
    stated = {**training, "images": content_marks(samples), "completeness": held}
    return _learned(method, sources, config, path, stated, digest(training))


def _learned(
    method: TrainableMethod,
    sources: Sequence[Source],
    config: TrainingConfig,
    path: Path,
    stated: Mapping[str, Any],
    identity: str,
) -> Training:
    """Optimise a method, from where a training of this identity was killed, and write it."""
    file = StateFile(path.with_name(path.name + ".state"), identity)
    state = optimise(method, sources, config, file)
    provenance = {**stated, **_outcome(method, state), "identity": identity}
    write_tensors(path, method.learned_state(), provenance)
    file.remove()
    LOG.info("%s learned in %.1f s: %s", method.name, state.seconds, path)
    return Training(method, path, state.history, provenance, state.seconds)


def _outcome(method: TrainableMethod, state: TrainingState) -> dict[str, Any]:
    """What a header states of how a training went."""
    return {
        "seconds": round(state.seconds, 3),
        "loss": epoch_means(state.history),
        "parameters": method.parameter_counts()[1],
        "environment": dict(environment()),
        "device": str(method.backbone.device),
        **({"remarks": state.remarks} if state.remarks else {}),
    }


def _refuse_training_free(method: Method) -> TrainableMethod:
    """The method, where it is trainable.

    Raises:
        UsageError: it is not.
    """
    if isinstance(method, TrainableMethod):
        return method
    raise UsageError(f"method '{display_name(method.name)}' is training-free: it cannot be trained")


def _finished(
    method: TrainableMethod,
    path: Path,
    training: Mapping[str, Any],
    supersede: Callable[[Path, str], None] | None,
) -> Training | None:
    """Take the weights of a training that was finished before; None where it is to be repeated.

    Raises:
        UsageError: the checkpoint is another training's, and `supersede` is not given.
    """
    header = read_header(path)
    if header.get("identity") != digest(training):
        differing = [name for name in training if header.get(name) != training[name]]
        what = "other " + ", ".join(differing) if header else "it states no training"
        if supersede is not None:
            supersede(path, what)
            return None
        raise UsageError(
            f"{path} is the checkpoint of another training ({what}; its method is "
            f"{header.get('method', 'unknown')}, variant {header.get('variant', 'unknown')}, seed "
            f"{header.get('seed', 'unknown')}): name another file, or delete this one"
        )
    method.load_learned(read_payload(path))
    method.eval()
    LOG.info("%s has learned this before: %s", method.name, path)
    return Training(method, path, [], header, float(header.get("seconds", 0.0)))


def refuse_unwritable(path: Path) -> None:
    """Refuse a place where no checkpoint can be written; makes the folder that it lies in.

    Raises:
        UsageError: a folder has the name, or the file's own folder takes no files.
    """
    if path.is_dir():
        raise UsageError(
            f"checkpoint {path} is a folder: give --out a file, {path}/NAME.safetensors"
        )
    if path.is_file():  # a finished training, which is only read
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}."):
            pass
    except OSError as error:
        raise UsageError(
            f"checkpoint {path} cannot be written ({error.strerror}): give --out a file in a "
            "folder that takes files"
        ) from error


def auxiliary_samples(
    dataset: Dataset, split: AuxiliarySplit, limit: int | None = None
) -> list[Sample]:
    """What methods learn from: the test split, or with "all" the train split before it.

    Args:
        dataset: the auxiliary dataset.
        split: of it.
        limit: at most so many images per category and label; None is all.

    Raises:
        UsageError: no such split, or it has no images.
    """
    if split not in ("test", "all"):
        raise UsageError(f"the auxiliary split is 'test' or 'all', not '{split}'")
    test = dataset.samples("test")
    samples = [*dataset.samples("train"), *test] if split == "all" else test
    if not samples:
        raise UsageError(
            f"auxiliary dataset '{display_name(dataset.name)}' has no images in split '{split}'"
        )
    return first_of_each(samples, limit)
