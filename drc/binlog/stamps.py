"""Where a transaction was when, until it reaches the target: stamps of a read or frame. Pure but
for the clock.
"""

from __future__ import annotations

import struct
import time
from typing import NamedTuple

_HEADER = struct.Struct("<QQ")


def now_us() -> int:
    """Return this host's time."""
    return time.time_ns() // 1000


class Stamps(NamedTuple):
    """When what came with one read or frame was where.

    ``read_us`` is by our clock; in a frame, by that of the origin's server. ``logged_us`` is how
    long the frame before took from read to acknowledged: a frame cannot carry its own.
    """

    read_us: int
    logged_us: int | None = None
    received_us: int | None = None

    def header(self) -> bytes:
        """Return what a frame carries."""
        return _HEADER.pack(max(0, self.read_us), self.logged_us or 0)


def received(header: bytes | None, at_us: int) -> Stamps | None:
    """Return the stamps of a frame; None if its publisher wrote none."""
    if header is None or len(header) != _HEADER.size:
        return None
    read_us, logged_us = _HEADER.unpack(header)
    return Stamps(read_us, logged_us, at_us)
