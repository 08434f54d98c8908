"""The contract of `methods/`: what a method declares, what it sees, what it answers."""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from PIL import Image
from torch import Tensor, nn

from .backbone import Backbone, BackboneSpec, TokenSpec
from .declaration import refuse_incomplete
from .errors import ContractError, WeightsError
from .extra_work import ExtraWork
from .images import Mask, MaskResize
from .learned_tensors import own_names, refuse_misfit, take, tensors_of
from .names import display_name, known_name
from .options import DEFAULT_SEED, AuxiliarySplit, Options, with_overrides
from .packages import Package, refuse_missing
from .preprocess import Interpolation, Preprocess
from .query import Prediction, Query
from .schedule import Schedule, Stage
from .track import Track

if TYPE_CHECKING:
    from .category import Observed

__all__ = [
    "AuxiliarySplit",
    "ExtraWork",
    "Method",
    "Options",
    "Prediction",
    "Query",
    "Schedule",
    "Stage",
    "Supervision",
    "Track",
    "TrainableMethod",
    "build",
    "make_options",
]

PUBLISHED_MAP_SIZE = 518  # pixels; published smoothing sigmas are meant at this map size


_BUILDING = threading.RLock()
"""Held while initial values are drawn: all threads draw from torch's one global generator."""


class Supervision(enum.StrEnum):
    """What a method learns from before it sees the target dataset."""

    TRAINING_FREE = "training-free"
    AUXILIARY = "auxiliary-trained"
    TEST_TIME = "test-time"


class Method(nn.Module, ABC):
    """An anomaly detection method on a frozen backbone.

    In the zero-shot track the answer for an image depends on that image alone. In the others it
    depends on what was observed before, too. Batch and order never matter. Parameters and buffers
    are what the method learns or keeps; the backbone is neither.

    Attributes:
        title: what the tables print.
        supervision: what it learns from.
        track: what it sees of the target dataset; `track_of` says it of a variant.
        backbone_spec: the backbone it was published with.
        interpolation: how images are resized to the input size.
        sigma: the published Gaussian sigma at a 518-px map; 0 is none.
        variants: name -> options; where paper and released code differ, both exist.
        default_variant: the one that `create` takes when none is named.
        needs_images: `Query.images` is read, not only features.
        needs_keys: `Query.keys` is read, to draw random numbers or to order images by.
        class_aware: prompts hold the class name.
        published_parameters: the paper's parameter count; 0 for training-free.
        in_benchmark: meant by "all". Newer methods than the paper's, ablations and ensembles are
            run by name, or with all others as "all-known".
        package: an optional package that it cannot be built without.
        specs: the patch tokens that `predict` reads, in its own order; see `token_specs`.
        options: what was asked of this instance; a method with options of its own declares their
            class (`options: MyOptions`), so that what it reads of them is checked.
    """

    title: ClassVar[str]
    supervision: ClassVar[Supervision] = Supervision.TRAINING_FREE
    track: ClassVar[Track] = Track.ZERO_SHOT
    backbone_spec: ClassVar[BackboneSpec] = BackboneSpec()
    interpolation: ClassVar[Interpolation] = "bicubic"
    sigma: ClassVar[float] = 0.0
    variants: ClassVar[Mapping[str, Options]] = {"official": Options()}
    default_variant: ClassVar[str] = "official"
    needs_images: ClassVar[bool] = False
    needs_keys: ClassVar[bool] = False
    class_aware: ClassVar[bool] = True
    published_parameters: ClassVar[int] = 0
    in_benchmark: ClassVar[bool] = True
    package: ClassVar[Package | None] = None
    specs: Sequence[TokenSpec] = ()
    options: Options

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse a class that could not run; one that is still abstract may lack what is missing.

        Raises:
            ContractError: see `refuse_incomplete`.
        """
        super().__init_subclass__(**kwargs)
        refuse_incomplete(cls)

    def __init__(self, backbone: Backbone, options: Options | None = None) -> None:
        super().__init__()
        spec = self.backbone_spec
        self.backbone = backbone.view(spec.activation, spec.pos_embed)
        self.options = self.variants[self.default_variant] if options is None else options
        self.name = type(self).__module__.rpartition(".")[2]
        self.variant = self.default_variant
        self.seed = DEFAULT_SEED

    @property
    def image_size(self) -> int:
        """Input side in pixels."""
        asked = self.options.image_size
        return self.backbone.fitting_size(self.backbone_spec.image_size) if asked is None else asked

    @property
    def map_size(self) -> int:
        """Side of the anomaly maps in pixels; the released codes use the input's."""
        return self.image_size

    @property
    def smoothing_sigma(self) -> float:
        """Gaussian sigma in pixels of the map."""
        asked = self.options.smoothing_sigma
        return self.sigma * self.map_size / PUBLISHED_MAP_SIZE if asked is None else asked

    @property
    def preprocess(self) -> Preprocess:
        """How an image becomes the backbone's input."""
        size, backbone = self.image_size, self.backbone
        return Preprocess(size, self.interpolation, backbone.mean, backbone.std)

    @property
    def token_specs(self) -> frozenset[TokenSpec]:
        """The patch tokens that `predict` reads; it receives no others."""
        return frozenset(self.specs)

    def forward_key(self) -> tuple[Any, ...]:
        """Methods with equal keys can be fed from one visual forward."""
        return (*self.backbone.forward_key(self.image_size), self.preprocess)

    @property
    def prompts(self) -> list[str]:
        """The prompts with {} for the class name and, by custom, X for each learned token."""
        return []

    def prompt_facts(self) -> list[str]:
        """What decides the text features beside the weights; the protocol states its hash."""
        return list(self.prompts)

    def protocol(self) -> dict[str, Any]:
        """What a record must state for two numbers to be comparable."""
        return {
            "prompts_sha256": hashlib.sha256("\n".join(self.prompt_facts()).encode()).hexdigest(),
            "image_size": self.image_size,
            "map_size": self.map_size,
            "interpolation": self.interpolation,
            "activation": self.backbone.forward_key(self.image_size)[1],
            "pos_embed": self.backbone.forward_key(self.image_size)[2],
            "smoothing_sigma": self.smoothing_sigma,
            "temperature": dataclasses.asdict(self.options).get("temperature"),
        }

    @classmethod
    def supervision_of(cls, options: Options) -> Supervision:
        """What a variant with these options learns from; the same for all, but for a few."""
        return cls.supervision

    @classmethod
    def track_of(cls, options: Options) -> Track:
        """The track of a variant with these options; the same for all, but for a few."""
        return cls.track

    @classmethod
    def extra_work_of(cls, options: Options) -> ExtraWork:
        """What scoring with these options costs beside the shared visual forward.

        Nothing by default: it reads that forward and keeps little. `zsad plan`, records and the
        complexity table state it; the conformance kit counts the forwards.
        """
        return ExtraWork()

    def parameter_counts(self) -> tuple[int, int]:
        """(published, effective): the paper's count, and what learns here, for this backbone."""
        learned = [p for p in self.parameters() if p.requires_grad]
        return self.published_parameters, sum(p.numel() for p in learned)

    @abstractmethod
    def predict(self, query: Query) -> Prediction:
        """Score a batch; called under `torch.no_grad`."""

    @property
    def observes(self) -> bool:
        """Whether `observe` is called: where it is defined, and the track is not zero-shot."""
        shown = self.track_of(self.options) is not Track.ZERO_SHOT
        return shown and type(self).observe is not Method.observe

    def observe(self, images: Observed) -> None:
        """Look at images before any answer; called once for each category, without gradients.

        What an earlier category left is to be replaced. `Query.places` then says which of the
        observed images each image of a batch is.

        Args:
            images: in the transductive track all test images of the category, without labels; in
                the few-shot and the full-shot track normal training images of it.
        """
        raise NotImplementedError

    def conclude(self, parts: Tensor) -> Tensor:
        """The scores [N] of all images of a category from the parts [N, P] of their predictions.

        Called once, after the last `predict`, where predictions carry parts.
        """
        raise NotImplementedError

    def prompt_maps(self, query: Query) -> Tensor | None:
        """[B, K, L] abnormal probability in [0, 1] of each patch under each abnormal prompt alone.

        For pictures of what single prompts see, as figures 3 and 6 of the FAPrompt paper; no
        metric is computed from it. None for a method without abnormal prompts of its own.
        """
        return None

    def __repr__(self) -> str:
        """Variant, backbone and sizes; not the tree of modules, which `named_modules` tells."""
        learned = self.parameter_counts()[1]
        return (
            f"<method {display_name(self.name)}@{display_name(self.variant)} on "
            f"{self.backbone.name}, {self.track_of(self.options)}, images {self.image_size} px, "
            f"maps {self.map_size} px, {learned:,} learned parameters>"
        )

    def forward(self, query: Query) -> Prediction:
        """Alias of `predict`, so that a method can be called as a module."""
        return self.predict(query)


class TrainableMethod(Method):
    """A method that learns from an auxiliary dataset.

    The optimisation loop, seeds, progress, caching and resumption belong to `bench/training/`;
    a method gives its loss and a schedule, or its stages. Learned tensors have the names of the
    released checkpoints.

    Attributes:
        official_key: where the released checkpoint keeps its state dict; "" is the top level.
        evaluation_options: options of this method that a checkpoint may be evaluated with otherwise
            than it was learned with.
        official_parts: where released checkpoints keep several state dicts, in one file or one
            each: their keys there -> what stands before their names here. Of what lies beside
            them, tensors are taken, too.
        official_aliases: beginnings of names in released checkpoints, without prefix -> what stands
            in their place here.
        official_prefix: what may stand before the tensors' names in released checkpoints.
        ignored_official: name prefixes in released checkpoints that carry nothing (dead layers,
            frozen embeddings).
        auxiliary_options: registry name of an auxiliary dataset -> options of the training
            configuration released for it, where that differs from the variants'. They hold for
            every variant that is trained on it; options given explicitly override them.
        remembered: name prefixes of the buffers that `settle` fills; they may have any number of
            rows.
        remembers_last: `remember` is called after the last stage, by what was learned, instead of
            before the first.
        mask_resize: how training masks are resized, see `MaskRule`; None is the dataset's rule.
        mean_over_images: the loss of a batch is the mean of the losses of its images, and nothing
            in it is drawn at random: so a batch that memory does not hold may be learned from in
            parts, whose gradients are added up. A sum over images is their mean times
            `Query.batch_size`. The conformance kit holds the method to it.
        mosaic_partners: how many random other images of its class come with each training image,
            for `augment` to mix in; 0 unless the schedule augments.
    """

    supervision = Supervision.AUXILIARY
    auxiliary_options: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    official_key: ClassVar[str] = ""
    official_prefix: ClassVar[str] = ""
    official_parts: ClassVar[Mapping[str, str]] = {}
    official_aliases: ClassVar[Mapping[str, str]] = {}
    evaluation_options: ClassVar[frozenset[str]] = frozenset()
    ignored_official: ClassVar[tuple[str, ...]] = ()
    remembered: ClassVar[tuple[str, ...]] = ()
    remembers_last: ClassVar[bool] = False
    mask_resize: ClassVar[MaskResize | None] = None
    mean_over_images: ClassVar[bool] = False
    mosaic_partners: ClassVar[int] = 0

    @property
    def schedule(self) -> Schedule:
        """How this variant is fitted, where it learns in one stage.

        Raises:
            ContractError: the method has neither a schedule nor stages of its own.
        """
        raise ContractError(
            f"method '{display_name(self.name)}' does not say how it is fitted: give it a "
            "schedule, or override stages"
        )

    def stages(self) -> Sequence[Stage]:
        """In which stages this variant learns, one after the other; by default one of `schedule`.

        Every parameter that requires a gradient learns in at least one of them, and has a gradient
        in the first epoch of each.
        """
        return (Stage(self.schedule),)

    def begin_stage(self, stage: Stage, class_names: Sequence[str]) -> None:
        """Compute what a stage builds on, without gradients; by default nothing.

        Called before the first step of each stage, and again where a training that was killed
        resumes in it. What it puts into parameters or persistent buffers is kept from the first
        call; all else must depend only on what does not learn in the stage.

        Args:
            stage: of `stages`.
            class_names: the words of the auxiliary dataset, each once, in alphabetical order.
        """

    @classmethod
    def split_of(cls, options: Options) -> AuxiliarySplit:
        """Which images of the auxiliary dataset a variant with these options is trained on.

        The option `split` where the method has it; else the test split, as in all released codes.
        "all" is the train and the test split.
        """
        split: AuxiliarySplit = dataclasses.asdict(options).get("split", "test")
        return split

    def prompt_facts(self) -> list[str]:
        """The prompts, and the name and shape of every learned tensor.

        The shapes tell the number of learned tokens and of deep sets. A method adds what neither
        tells, as the block that its deep tokens enter.
        """
        shapes = [f"{name} {tuple(p.shape)}" for name, p in self.named_parameters()]
        return [*super().prompt_facts(), *shapes]

    def loss(self, query: Query, labels: Tensor, masks: Tensor) -> dict[str, Tensor]:
        """Named loss terms of a batch, and under "total" the weighted sum to minimise.

        Of all stages that have no loss of their own.

        Args:
            query: features carry no gradient.
            labels: [B] int64, 0 normal, 1 anomalous.
            masks: [B, M, M] of the features' dtype, 0 or 1, at the map size.

        Raises:
            ContractError: the method has no loss.
        """
        raise ContractError(
            f"method '{display_name(self.name)}' has no loss: define loss, or give it to each stage"
        )

    def augment(
        self, images: Tensor, masks: Tensor, class_names: Sequence[str], generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Change prepared training images and their masks; called where the schedule `augments`.

        A batch is changed together, after resizing and normalisation; `augment_image` changes each
        image alone, before. An image whose mask is not empty afterwards counts as anomalous.

        Args:
            images: [B + P B, 3, S, S] normalised; after the B of the batch stand P =
                `mosaic_partners` for each of them in turn, which are only there to be mixed in.
            masks: [B + P B, M, M] bool.
            class_names: of all images.
            generator: to draw from, on the CPU; its state survives a kill.

        Returns:
            Images and masks of the same shapes, of which the first B are trained on.
        """
        return images, masks

    def augment_image(
        self, image: Image.Image, mask: Mask, class_name: str, generator: torch.Generator
    ) -> tuple[Image.Image, Mask]:
        """Change a training image and its mask together, as they were read.

        Called before they are resized, where the schedule `augments_images`, in the processes that
        read images. The image's label stays, even where its mask becomes empty.

        Args:
            image: RGB, of any size.
            mask: [H, W] of the image.
            class_name: of the image.
            generator: to draw from, on the CPU; it depends on the seed, the epoch and the sample
                alone.

        Returns:
            An RGB image and its mask, of one size, which may be another than before.
        """
        return image, mask

    @property
    def remembers(self) -> bool:
        """Whether `remember` is called: where a method defines it."""
        return type(self).remember is not TrainableMethod.remember

    def remember(self, query: Query, labels: Tensor, masks: Tensor) -> None:
        """Look at a batch of the auxiliary dataset, to keep what retrieval needs of it.

        Called once for each image, unchanged and in the dataset's order, before anything is
        learned (or see `remembers_last`) and without gradients. What is kept should lie in `Rows`,
        whose memory is bounded.

        Args:
            query: as of `loss`; so are labels and masks.
            labels: [B] int64.
            masks: [B, M, M].
        """

    def settle(self) -> None:
        """Make persistent buffers, of the names `remembered`, from what was kept.

        Called once, after the last `remember`. A training that resumes takes them from its state.
        """

    def learned_state(self) -> dict[str, Tensor]:
        """Learned tensors by their released names: what a checkpoint holds.

        These are the parameters that require a gradient and the persistent buffers. A constant is a
        buffer with persistent=False, or a parameter with requires_grad=False, and is not saved.
        """
        frozen = {name for name, p in self.named_parameters() if not p.requires_grad}
        kept = self.state_dict().items()
        return {name: t for name, t in kept if isinstance(t, Tensor) and name not in frozen}

    def other_prompts(self, state: Mapping[str, Any]) -> str:
        """How the prompts that a released state dict was learned with differ from this method's.

        Args:
            state: without `official_key` and `official_prefix`; beside the learned tensors it may
                hold the tokens of the fixed words.

        Returns:
            A clause for an error message ("its 'token_suffix' ..."), or "" where they are the same
            or the state dict does not say.
        """
        return ""

    def load_learned(self, state: Mapping[str, Any]) -> tuple[str, ...]:
        """Take learned tensors from our own or a released state dict.

        All that `learned_state` gives must be there; a constant is taken where the file has it.

        Returns:
            The names of the tensors that the method has no use for.

        Raises:
            WeightsError: a tensor is missing or has another shape, or was learned with other
                prompts; the message names it.
        """
        named = own_names(self, state)
        refuse_misfit(self, named)
        self._refuse_other_prompts(named)
        take(self, named)
        own = tensors_of(self)
        return tuple(name for name in named if name not in own)

    def _refuse_other_prompts(self, state: Mapping[str, Any]) -> None:
        difference = self.other_prompts(state)
        if not difference:
            return
        twins = {v: build(type(self), self.backbone, v) for v in self.variants}
        fitting = [
            display_name(f"{self.name}@{variant}")
            for variant, twin in twins.items()
            if isinstance(twin, TrainableMethod) and not twin.other_prompts(state)
        ]
        fix = f"ask for {' or '.join(fitting)}" if fitting else "no variant has these prompts"
        raise WeightsError(
            f"the checkpoint was learned with other prompts than variant '{self.variant}' of "
            f"'{self.name}' has: {difference}; {fix}"
        )


def variant_name(cls: type[Method], text: str | None) -> str:
    """The variant of a method that a text means, the default one for None.

    Raises:
        UsageError: there is no such variant; names the nearest ones.
    """
    if text is None:
        return cls.default_variant
    return known_name(f"variant of method {cls.title}", text, cls.variants)


def make_options(
    cls: type[Method],
    variant: str | None,
    overrides: Mapping[str, Any],
    auxiliary: str | None = None,
) -> Options:
    """The variant's options < those for the auxiliary dataset < the overrides.

    Args:
        cls: the method's class.
        variant: None is the method's default.
        overrides: options given explicitly.
        auxiliary: registry name of the dataset that the method is trained on, where it is known.

    Raises:
        UsageError: the variant or an option does not exist; names the nearest known ones.
    """
    options = cls.variants[variant_name(cls, variant)]
    if auxiliary is not None and issubclass(cls, TrainableMethod):
        overrides = {**cls.auxiliary_options.get(auxiliary, {}), **overrides}
    return with_overrides(options, overrides, cls.title)


def build(
    cls: type[Method],
    backbone: Backbone,
    variant: str | None = None,
    seed: int = DEFAULT_SEED,
    auxiliary: str | None = None,
    **options: Any,
) -> Method:
    """A method from its class, with seeded initial values, on the backbone's device.

    Raises:
        UsageError: unknown variant or option, or a package that the method needs is missing.
    """
    refuse_missing(cls.package, f"method '{cls.title}'")
    chosen = make_options(cls, variant, options, auxiliary)
    with _BUILDING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        method = cls(backbone, chosen)
    method.variant = variant_name(cls, variant)
    method.seed = seed
    return method.to(backbone.device, backbone.dtype).eval()
