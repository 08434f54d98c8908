"""What tests of training share: a backbone of two blocks, drawn images on disk, a cache, a stop."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from zsad.bench.dataset import Dataset, Sample
from zsad.bench.progress import Progress
from zsad.bench.training.feature_cache import FeatureCache
from zsad.bench.weights import load_backbone

CONFIG = {
    "embed_dim": 16,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
}


class Drawn(Dataset):
    """Images 0.png, 1.png, .., every second one anomalous with one mask for all."""

    name = "drawn"
    title = "Drawn"
    domain = "synthetic"
    words = ()

    def samples(self, split="test"):
        return [
            Sample(self.root / f"{n}.png", n % 2, "c", word, self.root / "m.png" if n % 2 else None)
            for n, word in enumerate(self.words if split == "test" else ())
        ]


class StopAt(Progress):
    """Stops a training at its nth check."""

    def __init__(self, step):
        super().__init__()
        self.left = step

    def asked_to_stop(self):
        self.left -= 1
        return not self.left


@pytest.fixture
def backbone(tmp_path):
    path = tmp_path / "small.json"
    path.write_text(json.dumps(CONFIG))
    return load_backbone(config=path, pretrained="random")


@pytest.fixture
def words(arrays):
    """The word of each image for the prompts."""
    return ["c"] * len(arrays[0])


@pytest.fixture
def drawn(arrays, words, tmp_path):
    """The dataset of the `arrays` (images, masks, labels) of a test module."""
    folder = tmp_path / "drawn"
    folder.mkdir()
    for number, image in enumerate(arrays[0]):
        Image.fromarray(image).save(folder / f"{number}.png")
    Image.fromarray(arrays[1][1].astype(np.uint8) * 255).save(folder / "m.png")
    dataset = Drawn(Path(folder))
    dataset.words = tuple(words)
    return dataset


@pytest.fixture
def cache(tmp_path):
    return FeatureCache(tmp_path / "cache")


@pytest.fixture
def stop_at():
    return StopAt
