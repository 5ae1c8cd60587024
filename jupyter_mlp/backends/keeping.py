"""Memory that a step has freed is kept for the next one, in huge pages.

GNU's malloc gives the end of its heap back to the system when some MB of it are free. A step frees all its activations, so
the next one gets its pages anew, zeroed, one fault each: 5 % of the time of a small model's step. And pages of 4 kB are
looked up often enough that huge ones save 3 to 8 % more of it.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from typing import Any

_TRIM, _PAD, _MMAP = -1, -2, -3  # mallopt's M_TRIM_THRESHOLD, M_TOP_PAD and M_MMAP_THRESHOLD
_GROWN = 2**28  # bytes that the heap grows by at once, at first; they take room when they are used
_PADDED = 2**17  # bytes that it grows by later, as malloc has it: more would fail early where a process' addresses are counted
_KEPT = 2 * _GROWN  # bytes at the end of the heap that may be free: what it has just grown by is not to be given back
_APART = 2**25  # bytes from which a block is mapped by itself; the most that malloc takes
_SAID = ("MALLOC_", "GLIBC_TUNABLES")


def keep_freed_memory() -> None:
    """Let malloc keep up to 512 MiB that are free; does nothing where the user has said otherwise, or has another malloc."""
    libc = ctypes.CDLL(None)
    tune = getattr(libc, "mallopt", None)
    if tune is None or any(name.startswith(_SAID) for name in os.environ):
        return
    tune(_MMAP, _APART)  # first: a trim threshold alone would keep this one at 128 KiB
    tune(_TRIM, _KEPT)
    tune(_PAD, _GROWN)
    _use_huge_pages(libc)
    tune(_PAD, _PADDED)


def _use_huge_pages(libc: Any) -> None:
    """Let the heap grow at once, and ask for huge pages where it grew."""
    libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    block = libc.malloc(_APART // 2)  # the heap has seldom so much free in one place
    if block is not None:
        libc.madvise(-(-block // mmap.PAGESIZE) * mmap.PAGESIZE, _GROWN, mmap.MADV_HUGEPAGE)  # refused: its pages stay as they are
        libc.free(block)
