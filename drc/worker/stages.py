"""Where the time between an origin's commit and its effect here goes, stage by stage. Pure.

    commit ─read─▶ in a daemon ─logged─▶ in Kafka ─received─▶ here ─dispatched─▶ begun ─committed─▶

1. Stamps belong to a network read or to a frame, never to a row; one transaction of each batch,
   the oldest, is measured.
2. The origin's clock and ours are compared through :class:`ClockOffset`, and the stages of one
   transaction add up to its lag.
3. Without Kafka what is read is here at once: ``logged`` and ``received`` do not exist.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from drc.binlog.stamps import Stamps

STAGES = ("read", "logged", "received", "dispatched", "committed")
QUANTILES = {"p50": 0.5, "p99": 0.99, "p999": 0.999}
_KEPT = 4096
_FRESH_MAX = 4096  # of one second; more are thinned by chance of their time, not of their lag
_OFFSETS_KEPT = 60  # as many seconds: clocks drift by microseconds in that time

Spread = dict[str, int | None]


def percentile(ordered: Sequence[int], share: float) -> int:
    """Return the value that ``share`` (0 to 1) of ``ordered`` does not exceed; 0 if empty."""
    if not ordered:
        return 0
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


class Passage(NamedTuple):
    """The lag of one transaction and the time spent in each stage."""

    lag: int
    read: int | None = None
    logged: int | None = None
    received: int | None = None
    dispatched: int | None = None
    committed: int | None = None


def passage(
    commit_us: int, stamps: Stamps | None, dispatched_us: int, done_us: int, offset_us: int
) -> Passage:
    """Measure one transaction.

    :param commit_us: by the origin's clock, which is ``offset_us`` ahead of ours.
    """
    commit_us -= offset_us
    lag = max(0, done_us - commit_us)
    if stamps is None:
        return Passage(lag)
    here = stamps.read_us
    logged = arrived = None
    read_us = stamps.read_us
    if stamps.received_us is not None:
        here, read_us = stamps.received_us, read_us - offset_us
        logged = min(stamps.logged_us or 0, max(0, here - read_us))
        arrived = max(0, here - read_us - logged)
    begun = dispatched_us or done_us
    return Passage(
        lag, max(0, read_us - commit_us), logged, arrived, max(0, begun - here), done_us - begun
    )


def spread(values: Iterable[int | None]) -> Spread:
    """Return the quantiles of what is known; each is None if nothing is."""
    ordered = sorted(v for v in values if v is not None)
    return {name: percentile(ordered, q) if ordered else None for name, q in QUANTILES.items()}


class Spreads(NamedTuple):
    """The spread of the lag, and of each stage by its name as ``NAME_us``."""

    lag: Spread
    stages: dict[str, Spread]


class Passages:
    """The newest passages of a stream; one thread adds, others read."""

    def __init__(self) -> None:
        self._kept: deque[Passage] = deque(maxlen=_KEPT)
        self._fresh: deque[Passage] = deque(maxlen=_FRESH_MAX)

    def add(self, one: Passage) -> None:
        """Remember one."""
        self._kept.append(one)
        self._fresh.append(one)

    def drain(self) -> list[Passage]:
        """Return those that came since the last call."""
        fresh, self._fresh = self._fresh, deque(maxlen=_FRESH_MAX)
        return list(fresh)

    def snapshot(self) -> Spreads:
        """Return the spreads of those that are kept."""
        return spreads(list(self._kept))


def spreads(passages: Sequence[Passage]) -> Spreads:
    """Return the spreads of ``passages``."""
    columns = list(zip(*passages, strict=True)) or [()] * len(Passage._fields)
    lag, *stages = (spread(column) for column in columns)
    named = {f"{name}_us": each for name, each in zip(STAGES, stages, strict=True)}
    return Spreads(lag, named)


class ClockOffset:
    """How far a server's clock is ahead of ours, from questions and their answers.

    The answer was given at some time between question and reply, so the quickest of the last
    minute bounds the error by half its round trip. An offset that is smaller than that is taken
    for none: time servers keep clocks nearer than a long line can tell.
    """

    def __init__(self) -> None:
        self._samples: deque[tuple[int, int]] = deque(maxlen=_OFFSETS_KEPT)

    def answered(self, asked_us: int, theirs_us: int, answered_us: int) -> None:
        """Learn from one answer."""
        if (took := answered_us - asked_us) >= 0:  # else our own clock was set back meanwhile
            self._samples.append((took, theirs_us - (asked_us + answered_us) // 2))

    @property
    def us(self) -> int:
        """Return the offset in microseconds; positive: the server is ahead."""
        if not self._samples:
            return 0
        took, offset = min(self._samples)
        return offset if abs(offset) > took // 2 else 0
