"""What methods of the full-shot track share: a network of their own, made and run by anomalib.

A model is learned anew for each category, from all its normal training images. It looks at images
through a convolutional network that was trained on ImageNet (timm), never through CLIP, so that no
visual forward is made for it. anomalib is imported when a method is created, not before.

Differences from anomalib's own runs: docs/fidelity.md.
"""

from __future__ import annotations

import dataclasses
import hashlib
import warnings
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ..bench.anomaly_maps import smooth
from ..bench.backbone import Backbone, BackboneSpec
from ..bench.errors import UsageError, WeightsError, message_of
from ..bench.method import PUBLISHED_MAP_SIZE, Method, Options, Prediction, Query, Track
from ..bench.packages import Package
from ..bench.preprocess import Preprocess, Unencoded

if TYPE_CHECKING:
    from ..bench.category import Observed

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
STRIDE = 32  # pixels per position of the deepest layer
IMAGE_SIZE, SIGMA = 256, 4.0  # pixels, in anomalib and in both papers


@dataclass(frozen=True)
class FullShotOptions(Options):
    """Options of both methods.

    Attributes:
        network: timm name of the network; anomalib has decoders of a few.
        pre_trained: with weights learned on ImageNet, which timm downloads once. Without them
            numbers mean nothing: to try things out on a machine that cannot download.
    """

    network: str = "wide_resnet50_2"
    pre_trained: bool = True


class FullShotMethod(Method):
    """Learns from the normal training images of a category and answers by its own network.

    Attributes:
        frozen: the part of the network that is used as timm gives it.
    """

    track = Track.FULL_SHOT
    backbone_spec = BackboneSpec("tiny", "")  # never asked: the smallest
    interpolation = "bilinear"
    sigma = SIGMA * PUBLISHED_MAP_SIZE / IMAGE_SIZE
    needs_images = True
    needs_keys = True
    class_aware = False
    in_benchmark = False
    package = Package("anomalib", "zsad[full-shot]")
    default_variant = "anomalib"
    frozen: ClassVar[str]
    options: FullShotOptions

    def __init__(self, backbone: Backbone, options: Options | None = None) -> None:
        super().__init__(backbone, options)
        if self.image_size % STRIDE:
            raise UsageError(
                f"image_size of {self.title} is a multiple of {STRIDE}, not {self.image_size}"
            )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # anomalib's, of its own modules
                self.network = self.make_network()
        except Exception as error:  # timm and the hub raise errors of many kinds
            raise WeightsError(
                f"{self.title}: network '{self.options.network}' of timm cannot be had "
                f"({message_of(error)}): its weights are downloaded from the Hugging Face hub, so "
                "let it, copy the HF_HOME of a machine that did, or set pre_trained=false to try "
                "things out"
            ) from error
        self.backbone = self._stated(backbone)
        self.has_learned = False

    @property
    def image_size(self) -> int:
        """Input side in pixels; no CLIP limits it."""
        asked = self.options.image_size
        return IMAGE_SIZE if asked is None else asked

    @property
    def preprocess(self) -> Preprocess:
        """As the network was trained, and without a forward of CLIP."""
        return Unencoded(self.image_size, self.interpolation, IMAGENET_MEAN, IMAGENET_STD)

    @abstractmethod
    def make_network(self) -> Any:
        """The model of anomalib, with its maps not smoothed."""

    @abstractmethod
    def learn(self, images: Tensor, observed: Observed) -> None:
        """Fit the network to normal images [N, 3, S, S] on the CPU, which are in a fixed order.

        Called with the global generators seeded. `observed.check` is to be called now and then.
        """

    @abstractmethod
    def scores(self, answer: Any, maps: Tensor) -> Tensor:
        """The image scores [B] from what anomalib answers and from the smoothed maps [B, S, S]."""

    def observe(self, images: Observed) -> None:
        """Learn from the normal images, in the order of their content, with the method's seed."""
        batches = [batch.images for batch in images.batches()]
        everything = torch.cat([batch.cpu() for batch in batches if batch is not None])
        keys = images.keys or range(len(everything))
        order = sorted(range(len(everything)), key=keys.__getitem__)
        with seeded(self.seed, self.backbone.device):
            self.learn(everything[order], images)
        self.network.eval()
        self.has_learned = True

    def predict(self, query: Query) -> Prediction:
        """The network's answer, its maps smoothed."""
        if not self.has_learned:
            raise UsageError(f"{self.title} is asked before it was shown normal images")
        assert query.images is not None
        answer = self.network(query.images.to(self.backbone.dtype))
        maps = smooth(answer.anomaly_map[:, 0], self.smoothing_sigma)
        return Prediction(self.scores(answer, maps), maps)

    def to_device(self, images: Tensor) -> Tensor:
        """Images as the network reads them."""
        return images.to(self.backbone.device, self.backbone.dtype)

    def _stated(self, backbone: Backbone) -> Backbone:
        """The backbone by the name and the weights of the network, as records state what scored."""
        weights = hashlib.sha256()
        for tensor in self.network.get_submodule(self.frozen).state_dict().values():
            weights.update(tensor.cpu().numpy().tobytes())
        ending = "" if self.options.pre_trained else ":random"
        return dataclasses.replace(
            backbone,
            name=f"{self.options.network}{ending}",
            weights_sha256=weights.hexdigest(),
        )


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Torch's and NumPy's global generators, seeded in the block and restored after it.

    Anomalib draws from both: projections and the first patch of a coreset, initial weights.
    """
    before = np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(before)  # noqa: NPY002
