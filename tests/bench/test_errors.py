"""What errors say."""

from __future__ import annotations

import pytest
import torch
from zsad.bench.errors import message_of


class Mute(Exception):
    def __str__(self):
        raise SystemExit(0)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 80 GiB"),
        RuntimeError(
            "[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate"
        ),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_out_of_memory_is_called_that_with_the_fix(error):
    assert message_of(error).startswith("out of memory, let nothing else use it, or take fewer")


def test_other_errors_say_what_they_say():
    assert message_of(RuntimeError("shapes differ")) == "shapes differ"
    assert message_of(ValueError("a\udcff.png")) == "a\\udcff.png"


def test_an_error_without_a_printable_text_is_named_by_its_type():
    assert message_of(Mute()) == "Mute, whose message cannot be printed"
