"""Work for which memory runs out is done again in smaller parts."""

from __future__ import annotations

import pytest
import torch
from zsad.bench.at_once import AtOnce, images_stated
from zsad.bench.errors import ZsadError

HOST, GPU = torch.device("cpu"), torch.device("cuda:0")
FULL = "CUDA out of memory. Tried to allocate 2.00 GiB"


class Memory:
    """Holds so many images; counts what was done at once."""

    def __init__(self, holds, error=None):
        self.holds, self.done, self.error = holds, [], error or torch.OutOfMemoryError(FULL)

    def __call__(self, images):
        if len(images) > self.holds:
            raise self.error
        self.done.append(images)
        return len(images)


def test_a_part_that_memory_does_not_hold_is_done_again_in_halves(caplog):
    memory, limit = Memory(3), AtOnce(HOST, 8)
    parts = [part for part, _ in limit.each("abcdefgh", memory)]
    assert parts == memory.done == ["ab", "cd", "ef", "gh"]
    assert [part for part, _ in limit.each("ijk", memory)] == ["ij", "k"]  # no further attempt
    assert "with 4 images at once: going on with 2" in caplog.text
    assert "--batch-size 2 spares" in limit.remarks()[0]
    assert images_stated([AtOnce(HOST, 8), limit]) == {"batch_size": 2}


def test_nothing_is_said_where_memory_suffices():
    memory, limit = Memory(8), AtOnce(HOST, 8)
    assert list(limit.each("abcdefgh", memory)) == [("abcdefgh", 8)]
    assert limit.remarks() == []
    assert images_stated([limit]) == {}
    assert images_stated([AtOnce(GPU, 32)]) == {"batch_size": 32}


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError(FULL),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 8 bytes"),
    ],
)
def test_memory_that_does_not_hold_one_image_is_said_with_the_fix(error):
    with pytest.raises(ZsadError, match=r"memory of cpu ran out with one image.*--precision bf16"):
        list(AtOnce(HOST, 8).each("abcd", Memory(0, error)))


def test_other_errors_are_not_tried_again():
    memory = Memory(0, ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        list(AtOnce(HOST, 8).each("abcd", memory))


def test_work_that_takes_all_parts_begins_again_with_smaller_ones(caplog):
    memory, limit = Memory(3), AtOnce(HOST, what="while it learned", option="")

    def work(parts):
        return [memory(part) for part in parts]

    assert limit.together("abcdefgh", work) == [2, 2, 2, 2]
    assert limit.together("abc", work) == [2, 1]  # no further attempt
    assert "with 4 images at once while it learned: going on with 2" in caplog.text
    (remark,) = limit.remarks()
    assert "did not hold 8 images at once while it learned: the run went on with 2" in remark
    assert "--batch-size" not in remark


def test_what_may_not_be_cut_is_an_error_with_its_reason():
    limit = AtOnce(HOST, least=8, what="while it learned", fix="lower its batch_size")
    reason = "with 5 images at once while it learned .*: let nothing else use it, or lower its"
    with pytest.raises(ZsadError, match=reason):
        list(limit.each("abcde", Memory(3)))
    with pytest.raises(ZsadError, match=reason):
        limit.together("abcde", lambda parts: [*map(Memory(3), parts)])
