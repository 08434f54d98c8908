from typing import ClassVar

import pytest
import torch
from torch import nn
from zsad.bench.checkpoint import read_together
from zsad.bench.errors import WeightsError
from zsad.bench.method import TrainableMethod, build
from zsad.bench.weights import load_backbone


class TwoParts(TrainableMethod):
    """Released as two files, each with a state dict beside an epoch and an optimiser."""

    title = "Two parts"
    official_parts: ClassVar = {"text_adapter": "text.", "image_adapter": "image."}
    official_prefix = "module."
    official_aliases: ClassVar = {"image.head.fc.0.": "image.head.", "text.old": "text.1"}
    ignored_official = ("text.dead.",)

    def __init__(self, backbone, options=None):
        super().__init__(backbone, options)
        self.text = nn.ModuleList([nn.Linear(2, 2, bias=False) for _ in range(2)])
        self.image = nn.ModuleDict({"head": nn.Linear(3, 3)})

    def predict(self, query):
        raise NotImplementedError


@pytest.fixture(scope="module")
def tiny():
    return load_backbone("tiny")


def released():
    """The payloads of both files."""
    moments = {"state": {0: {"exp_avg": torch.ones(2, 2)}}, "param_groups": [{"lr": 0.1}]}
    text = {
        "0.weight": torch.full((2, 2), 1.0),
        "old.weight": torch.full((2, 2), 2.0),
        "dead.weight": torch.zeros(7),
    }
    image = {"head.weight": torch.full((3, 3), 3.0), "head.bias": torch.full((3,), 4.0)}
    return (
        {"epoch": 5, "text_adapter": text, "text_optimizer": moments},
        {"epoch": 20, "image_adapter": image, "image_optimizer": moments},
    )


def assert_taken(method):
    sums = {name: float(tensor.mean()) for name, tensor in method.learned_state().items()}
    assert sums == {
        "text.0.weight": 1,
        "text.1.weight": 2,
        "image.head.weight": 3,
        "image.head.bias": 4,
    }


@pytest.mark.parametrize("files", [1, 2])
def test_state_dicts_under_several_keys_are_taken_from_one_file_or_two(tiny, tmp_path, files):
    parts = released()
    payloads = parts if files == 2 else [{**parts[0], **parts[1]}]
    paths = [tmp_path / f"{number}.pth" for number in range(files)]
    for path, payload in zip(paths, payloads, strict=True):
        torch.save(payload, path)
    method = build(TwoParts, tiny)
    assert method.load_learned(read_together(paths)) == ("text.dead.weight",)
    assert_taken(method)


def test_names_of_another_version_are_known_by_their_aliases(tiny):
    text, image = released()
    image["image_adapter"] = {
        name.replace("head.", "head.fc.0."): tensor
        for name, tensor in image["image_adapter"].items()
    }
    method = build(TwoParts, tiny)
    method.load_learned({**text, **image})
    assert_taken(method)


def test_our_own_state_has_no_parts(tiny):
    method, other = build(TwoParts, tiny), build(TwoParts, tiny)
    method.load_learned({**released()[0], **released()[1]})
    other.load_learned(method.learned_state())
    assert_taken(other)


def test_a_missing_part_and_a_strange_tensor_are_named(tiny):
    method = build(TwoParts, tiny)
    text, image = released()
    with pytest.raises(WeightsError, match=r"lacks the tensor 'image\.head\.weight'"):
        method.load_learned(text)
    with pytest.raises(WeightsError, match="'text_adapter' of the checkpoint is not a state dict"):
        method.load_learned({**image, "text_adapter": torch.ones(2)})
    image["image_adapter"]["tail"] = torch.ones(2)
    with pytest.raises(WeightsError, match=r"'two-parts' has unknown tensors: image\.tail"):
        method.name = "two_parts"
        method.load_learned({**text, **image})
