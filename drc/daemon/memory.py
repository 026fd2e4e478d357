"""Memory settings of the process: Python and glibc, set up for whole batches.

A batch allocates some megabytes of row images, in tens of thousands of objects without cycles, and
frees all objects together. The defaults of Python and glibc suit programs that allocate a little
here and there.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc

# mallopt(3) of glibc. By default the top of each thread's heap goes back to the kernel when a
# batch is freed, and comes again page by page for the next batch: measured on a backlog of wide
# rows, that took a fifth of the daemon's CPU. The mmap threshold is above the size of network
# reads. All threads share a heap, as only a single thread runs Python at any time.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_MALLOPT = {_TRIM_THRESHOLD: 128 << 20, _MMAP_THRESHOLD: 4 << 20, _ARENA_MAX: 1}

# Python looks for cycles after every 700 allocations by default, several times in each batch:
# a tenth of the CPU on the same backlog. A batch has some 5,000 lists and tuples at once.
_GC_THRESHOLDS = (50_000, 20, 50)


def prepare() -> None:
    """Apply the settings; call before the first thread starts, which fixes the number of heaps."""
    gc.set_threshold(*_GC_THRESHOLDS)
    with contextlib.suppress(OSError, AttributeError):  # another C library
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        for option, value in _MALLOPT.items():
            mallopt(option, value)
