"""Stamps: the times at which the transactions of a read or frame reached each stage. Pure but for
the clock.
"""

from __future__ import annotations

import struct
import time
from typing import NamedTuple

_HEADER = struct.Struct("<QQ")


def now_us() -> int:
    """Return this host's time in microseconds since 1970, for example 1795449426846040."""
    return time.time_ns() // 1000


class Stamps(NamedTuple):
    """The times that all transactions of a read or frame share, in microseconds.

    ``read_us`` is by this host's clock; in a frame, by the clock of the origin's server.
    ``logged_us`` is the duration of the frame before, from read to acknowledged: no frame can
    carry a duration that ends after the frame was sent. ``received_us`` is the time at which a
    stream received the frame.
    """

    read_us: int
    logged_us: int | None = None
    received_us: int | None = None

    def header(self) -> bytes:
        """Return the stamps in the form for a frame's header: two 64-bit integers."""
        return _HEADER.pack(max(0, self.read_us), self.logged_us or 0)


def received(header: bytes | None, at_us: int) -> Stamps | None:
    """Return the stamps in a frame's header; None for a frame without stamps.

    :param at_us: the time at which the frame was received.
    """
    if header is None or len(header) != _HEADER.size:
        return None
    read_us, logged_us = _HEADER.unpack(header)
    return Stamps(read_us, logged_us, at_us)
