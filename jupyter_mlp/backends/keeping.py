"""Memory that a step has freed is kept for the next one.

GNU's malloc gives the end of its heap back to the system when some MB of it are free. A step frees all its activations, so
the next one gets its pages anew, zeroed, one fault each: 5 % of the time of a small model's step.
"""

from __future__ import annotations

import ctypes
import os

_TRIM, _MMAP = -1, -3  # mallopt's M_TRIM_THRESHOLD and M_MMAP_THRESHOLD
_KEPT = 2**28  # bytes at the end of the heap
_APART = 2**25  # bytes from which a block is mapped by itself; the most that malloc takes
_SAID = ("MALLOC_", "GLIBC_TUNABLES")


def keep_freed_memory() -> None:
    """Let malloc keep up to 256 MiB that are free; does nothing where the user has said otherwise, or has another malloc."""
    tune = getattr(ctypes.CDLL(None), "mallopt", None)
    if tune is not None and not any(name.startswith(_SAID) for name in os.environ):
        tune(_MMAP, _APART)  # first: a trim threshold alone would keep this one at 128 KiB
        tune(_TRIM, _KEPT)
