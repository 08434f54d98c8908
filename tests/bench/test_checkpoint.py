import pickle

import pytest
import torch
from zsad.bench.checkpoint import (
    file_sha256,
    read_header,
    read_payload,
    read_tensors,
    write_tensors,
)
from zsad.bench.errors import WeightsError


@pytest.fixture
def tensors():
    return {"ctx": torch.arange(6.0).reshape(2, 3), "bias": torch.tensor([1.5])}


def test_tensors_and_provenance_survive_writing_and_reading(tmp_path, tensors):
    path = tmp_path / "deep" / "folder" / "weights.safetensors"
    write_tensors(path, tensors, {"method": "toy", "seed": 3, "loss": [{"total": 0.5}]})
    read = read_tensors(path)
    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[name], tensors[name]) for name in tensors)
    assert read_header(path) == {"method": "toy", "seed": 3, "loss": [{"total": 0.5}]}


def test_safetensors_are_known_by_content_and_not_by_suffix(tmp_path, tensors):
    path = tmp_path / "weights"
    write_tensors(path, tensors, {})
    assert torch.equal(read_tensors(path)["ctx"], tensors["ctx"])


def test_tensors_that_are_views_are_written_as_they_look(tmp_path, tensors):
    path = tmp_path / "view.safetensors"
    write_tensors(path, {"turned": tensors["ctx"].T}, {})
    assert torch.equal(read_tensors(path)["turned"], tensors["ctx"].T)


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path, tensors, monkeypatch):
    path = tmp_path / "weights.safetensors"
    write_tensors(path, tensors, {"epoch": 1})

    def full_disk(*_args):
        raise OSError("no space left")

    monkeypatch.setattr("zsad.bench.checkpoint.os.fsync", full_disk)
    with pytest.raises(OSError, match="no space"):
        write_tensors(path, {"ctx": torch.zeros(1)}, {"epoch": 2})
    assert read_header(path) == {"epoch": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["weights.safetensors"]


def test_released_checkpoints_are_unwrapped_from_state_dict_and_module(tmp_path, tensors):
    path = tmp_path / "released.pth"
    wrapped = {f"module.{name}": tensor for name, tensor in tensors.items()}
    torch.save({"state_dict": wrapped, "epoch": 7}, path)
    assert read_tensors(path).keys() == tensors.keys()
    assert read_payload(path)["epoch"] == 7


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("the pickle was executed",))


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_pickled_objects_are_refused_and_never_run(tmp_path, writer):
    path = tmp_path / "trap.pth"
    if writer == "torch":
        torch.save({"state_dict": {"w": torch.zeros(1)}, "trap": Trap()}, path)
    else:
        path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(WeightsError, match=r"trap\.pth.*never loaded"):
        read_payload(path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_broken_files_are_named(tmp_path, suffix, tensors):
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(WeightsError, match="broken"):
        read_payload(path)
    whole = tmp_path / "whole.safetensors"
    write_tensors(whole, tensors, {})
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(whole.read_bytes()[:-4])
    with pytest.raises(WeightsError, match=r"cut\.safetensors"):
        read_tensors(cut)


def test_missing_empty_and_foreign_checkpoints_are_refused(tmp_path):
    with pytest.raises(WeightsError, match="does not exist"):
        read_payload(tmp_path / "absent.pth")
    for name, payload in {
        "list": [torch.zeros(1)],
        "plain": {"epoch": 1},
        "odd": {"state_dict": 3},
    }.items():
        path = tmp_path / f"{name}.pth"
        torch.save(payload, path)
        with pytest.raises(WeightsError, match=f"{name}.pth holds no"):
            read_tensors(path)


def test_a_safetensors_file_of_somebody_else_has_an_empty_header(tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "foreign.safetensors"
    save_file({"w": torch.zeros(2)}, path)
    assert read_header(path) == {}


def test_the_sha256_follows_a_file_that_is_replaced(tmp_path):
    import hashlib

    path = tmp_path / "file"
    path.write_bytes(b"one")
    assert file_sha256(path) == hashlib.sha256(b"one").hexdigest()
    path.write_bytes(b"three")
    assert file_sha256(path) == hashlib.sha256(b"three").hexdigest()
