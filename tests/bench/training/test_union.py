import json

import numpy as np
import pytest
import torch
from PIL import Image
from zsad.bench import create, load_backbone, load_dataset
from zsad.bench.data.completeness import completeness
from zsad.bench.dataset import Dataset, Sample
from zsad.bench.errors import UsageError
from zsad.bench.registry import union_name
from zsad.bench.running.plan import make_plan
from zsad.bench.training.batches import domains_of
from zsad.bench.training.leakage import refuse_leakage
from zsad.bench.training.optimisation import TrainingConfig
from zsad.bench.training.trainer import train
from zsad.bench.training.user_checkpoint import auxiliary_options, open_checkpoint, refuse_leak
from zsad.bench.union import Union


class Plain(Dataset):
    """Two grey images of one class, the second with a mask."""

    name = "plain"
    title = "Plain"
    domain = "medical"

    def samples(self, split="test"):
        root = self.root
        both = [
            Sample(root / "0.png", 0, self.name, self.name),
            Sample(root / "1.png", 1, self.name, self.name, root / "m.png"),
        ]
        return both if split == "test" else []


class Other(Plain):
    name = "other"
    title = "Other"


@pytest.fixture
def union(tmp_path):
    parts = []
    for number, cls in enumerate((Plain, Other)):
        root = tmp_path / cls.name
        root.mkdir()
        random = np.random.default_rng(number)
        for image in range(2):
            pixels = random.integers(0, 255, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / f"{image}.png")
        mask = np.zeros((32, 32), dtype=np.uint8)
        mask[number * 8 :, :8] = 255
        Image.fromarray(mask).save(root / "m.png")
        parts.append(cls(root))
    return Union(parts)


def test_a_union_lists_and_reads_what_its_parts_do(union, tmp_path):
    assert (union.name, union.title, union.domain) == ("plain+other", "Plain + Other", "medical")
    samples = union.samples("test")
    assert [s.name(union.root) for s in samples] == [
        *("plain/0.png", "plain/1.png", "other/0.png", "other/1.png")
    ]
    for sample in samples:
        part = union.part_of(sample)
        assert part.name == sample.category
        assert np.array_equal(union.read(sample).mask, part.read(sample).mask)
    assert union.fingerprint() != Union(union.parts[::-1]).fingerprint()
    assert completeness(union).found == 4


def test_samples_have_the_domain_of_their_own_dataset(union):
    union.parts[1].domain = "industrial"
    mixed = Union(union.parts)
    samples = mixed.samples()
    assert mixed.domain == "custom"
    assert domains_of(mixed, samples[1:3]) == ["medical", "industrial"]
    assert domains_of(union.parts[0], samples[:2]) == ["medical"] * 2


@pytest.mark.parametrize("number", [0, 1])
def test_each_part_is_held_to_the_rule_of_leakage(union, tmp_path, number):
    part = union.parts[number]

    class Elsewhere(Plain):
        name = part.name

    with pytest.raises(UsageError, match=f"'{part.name}' cannot be learned from and tested on"):
        refuse_leakage(union, Elsewhere(tmp_path / "elsewhere"))

    class Copy(Plain):
        name = "copy"

    copy = tmp_path / "copy"
    copy.mkdir()
    for image in ("0.png", "1.png"):
        Image.new("RGB", (32, 32), (9 + number, 8, len(image))).save(copy / image)
    refuse_leakage(union, Copy(copy))
    (copy / "0.png").write_bytes((part.root / "1.png").read_bytes())
    with pytest.raises(UsageError, match=f"'{part.name}' and target 'copy' share 1 images"):
        refuse_leakage(union, Copy(copy), union.samples())


def test_names_are_joined_by_a_plus():
    assert union_name("MVTec-AD+cvc-colondb") == "mvtec_ad+cvc_colondb"
    assert union_name("visa") == "visa"
    for wrong, message in (("visa+nothing", "nothing"), ("visa+VisA", "twice"), ("visa+", "''")):
        with pytest.raises(UsageError, match=message):
            union_name(wrong)


def test_a_plan_learns_from_a_union_and_tests_on_no_union():
    learned_from = {"auxiliary": "visa+kvasir"}
    plan = make_plan(["anomalyclip"], ["br35h"], **learned_from)
    (job,) = plan.jobs()
    assert job.auxiliary.name == "visa+kvasir"
    assert set(plan.auxiliaries()) == {"visa", "kvasir"}
    asked = {"visa": {"mask_threshold": 9}}
    plan = make_plan(["anomalyclip"], ["br35h"], **learned_from, auxiliary_options=asked)
    assert plan.jobs()[0].auxiliary.options == {**asked, "kvasir": {}}
    with pytest.raises(UsageError, match="unknown dataset"):
        make_plan(["clip"], ["visa+kvasir"])


@pytest.mark.slow
def test_a_training_on_a_union_says_so_and_is_tested_on_neither_part(tmp_path):
    tiny = load_backbone("tiny")
    name = "synthetic+synthetic_aux"
    options = {"synthetic": {"seed": 3}}
    auxiliary = load_dataset(name, tmp_path / "drawn", **options)
    path = tmp_path / "learned.safetensors"
    config = TrainingConfig(epochs=1, batch_size=64)
    training = train("april-gan", auxiliary, tiny, path, config)
    told = training.provenance["auxiliary"]
    counts = [len(load_dataset(part, tmp_path / "drawn").samples()) for part in name.split("+")]
    assert (told["dataset"], told["images"]) == (name, sum(counts))
    checkpoint = open_checkpoint([path])
    assert checkpoint.auxiliary == checkpoint.trained_on == name
    assert auxiliary_options(training.provenance) == {
        "auxiliary_options": {"synthetic": {"seed": 3}}
    }
    for part in name.split("+"):
        with pytest.raises(UsageError, match="which cannot be tested on as well"):
            refuse_leak(checkpoint, "april-gan", load_dataset(part, tmp_path / "drawn"))
    fresh = create("april-gan", tiny, checkpoint=path)
    assert torch.equal(fresh.fc[0].weight, training.method.fc[0].weight)
    assert json.dumps(training.provenance["completeness"])
