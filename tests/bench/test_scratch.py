"""Tensors lie in memory up to a budget and in files beyond it, and are alike for who uses them."""

import pytest
import torch
from zsad.bench.errors import ZsadError
from zsad.bench.scratch import Scratch


def test_what_exceeds_the_budget_lies_in_a_file_without_a_name(tmp_path):
    scratch = Scratch(budget_bytes=4 * 10, folder=tmp_path)
    inside, outside = scratch.zeros((2, 5)), scratch.zeros((3, 4), torch.float64)
    assert scratch.spilled == 8 * 12
    assert not list(tmp_path.iterdir())
    for tensor in (inside, outside):
        assert not tensor.any()
        tensor += torch.arange(tensor.shape[1])
        assert tensor[-1].tolist() == list(range(tensor.shape[1]))
    assert (outside.shape, outside.dtype) == ((3, 4), torch.float64)
    assert scratch.zeros((1, 1)).dtype == torch.float32


def test_a_disk_without_room_is_named(tmp_path):
    with pytest.raises(ZsadError, match=r"cannot be kept in .*TMPDIR"):
        Scratch(budget_bytes=0, folder=tmp_path).zeros((1 << 44,))
    with pytest.raises(ZsadError, match="absent"):
        Scratch(budget_bytes=0, folder=tmp_path / "absent").zeros((4,))
