"""Freed memory goes back to the system although pieces between it are kept."""

import ctypes
import os
from pathlib import Path

import pytest
from zsad.bench.free_memory import give_back_gaps

PIECE = 64 << 10  # too small for memory of its own, which would be given back at once


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="not the GNU C library")
def test_gaps_between_pieces_that_are_kept_are_given_back():
    large = [bytearray(b"1") * PIECE for _ in range(1000)]
    kept = large[::8]
    before = resident()
    large.clear()
    give_back_gaps()
    assert resident() < before - 600 * PIECE
    assert len(kept) == 125
