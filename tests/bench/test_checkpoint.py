import pickle
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from zsad.bench.checkpoint import (
    file_sha256,
    read_header,
    read_payload,
    read_tensors,
    write_tensors,
)
from zsad.bench.errors import FileError, WeightsError


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

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(FileError, match=r"weights.safetensors cannot be written \(no space"):
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


def test_pickled_objects_are_refused_and_never_run(tmp_path):
    path = tmp_path / "trap.pth"
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(WeightsError, match=r"trap\.pth.*never loaded; if you trust .*plain\.pth"):
        read_payload(path)
    torch.save(Trap(), path)
    with pytest.raises(WeightsError, match=r"trap\.pth holds no state dict but an object"):
        read_payload(path)


def test_objects_beside_the_tensors_are_left_out_and_never_run(tmp_path):
    path = tmp_path / "trap.pth"
    state = OrderedDict(w=torch.ones(2), trap=Trap())
    torch.save({"state_dict": state, "trap": Trap(), "more": [Trap()]}, path)
    payload = read_payload(path)
    assert "trap" not in payload
    assert payload["state_dict"].keys() == {"w"}
    assert torch.equal(payload["state_dict"]["w"], torch.ones(2))


class WarmUp(torch.optim.lr_scheduler.LRScheduler):
    """As Dassl's ConstantWarmupScheduler: it keeps the scheduler that takes over."""

    def __init__(self, optimizer, successor):
        self.successor = successor
        super().__init__(optimizer)

    def get_lr(self):
        return [1e-5 for _ in self.base_lrs]


def test_a_file_that_dassl_saves_is_read_without_its_scheduler(tmp_path):
    context = torch.nn.Parameter(torch.arange(6.0).reshape(2, 3))
    optimizer = torch.optim.SGD([context], lr=0.002, momentum=0.9)
    context.sum().backward()
    optimizer.step()
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 50.0)
    scheduler = WarmUp(optimizer, cosine)
    path = tmp_path / "model.pth.tar-50"
    content = {
        "state_dict": OrderedDict(ctx=context.data, token_prefix=torch.zeros(2, 1, 3)),
        "epoch": 50,
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "val_result": np.float64(91.5),
    }
    assert any(value is cosine for value in content["scheduler"].values())
    torch.save(content, path)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    tensors = read_tensors(path)
    assert tensors.keys() == {"ctx", "token_prefix"}
    assert torch.equal(tensors["ctx"], context.data)
    assert read_payload(path)["epoch"] == 50


def test_an_archive_that_would_unpack_beyond_the_bound_is_refused(tmp_path, tensors):
    plain, bomb = tmp_path / "plain.pth", tmp_path / "bomb.pth"
    torch.save({"state_dict": {"w": torch.zeros(500_000)}}, plain)
    assert read_payload(plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(bomb, "w") as packed:
        for name in source.namelist():
            packed.writestr(name, source.read(name), zipfile.ZIP_DEFLATED)
    with pytest.raises(WeightsError, match=r"bomb\.pth .*would unpack to \d+, more than 4 times"):
        read_payload(bomb)


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
