"""Memory that is free but stays with the process."""

from __future__ import annotations

import ctypes
import os


def give_back_gaps() -> None:
    """Give the system back what the C library holds of freed memory, where it is glibc.

    A small piece that is kept of each batch lies between large ones that come and go. Once those
    are free no other one may fit into the gap, so that gaps grow with the images, to hundreds of MB
    within some thousand. A call takes some milliseconds.
    """
    if os.name == "posix":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
