"""Stages: the parts of the time from a commit at the origin until the change is visible. Pure.

    commit ─read─▶ in a daemon ─logged─▶ in Kafka ─received─▶ here ─dispatched─▶ begun ─committed─▶

1. Measuring costs nothing per row: a network read or a frame has stamps, and only the oldest
   transaction of each batch is measured.
2. The stages of a transaction add up to the transaction's lag, because :class:`ClockOffset`
   gives the difference between the origin's clock and the daemon's.
3. ``logged`` and ``received`` do not exist without Kafka, because the daemon that reads a
   transaction also applies the transaction.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from drc.binlog.stamps import Stamps
from drc.worker.snapshot import Spread, Stages

STAGES = ("read", "logged", "received", "dispatched", "committed")
QUANTILES = {"p50": 0.5, "p99": 0.99, "p999": 0.999}
_KEPT = 4096
_FRESH_MAX = 4096  # per second; of more, the newest stay: a choice by time, not by lag
_OFFSETS_KEPT = 60  # a minute of answers, in which clocks drift by microseconds


def percentile(ordered: Sequence[int], share: float) -> int:
    """Return the value that ``share`` (0 to 1) of ``ordered`` does not exceed; 0 if empty."""
    if not ordered:
        return 0
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


class Passage(NamedTuple):
    """The lag of a transaction and the time spent in each stage, in microseconds."""

    lag: int
    read: int | None = None
    logged: int | None = None
    received: int | None = None
    dispatched: int | None = None
    committed: int | None = None


def passage(
    commit_us: int, stamps: Stamps | None, dispatched_us: int, done_us: int, offset_us: int
) -> Passage:
    """Return the lag and the stages of a transaction.

    :param commit_us: time of the commit by the origin's clock, ``offset_us`` ahead of the daemon's.
    :param dispatched_us: when the batch was begun; 0: not known.
    :param done_us: when the batch was visible.
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
    """Return the quantiles of all ``values`` but None; without values each quantile is None."""
    ordered = sorted(v for v in values if v is not None)
    if not ordered:
        return Spread()
    return Spread(**{name: percentile(ordered, q) for name, q in QUANTILES.items()})


class Spreads(NamedTuple):
    """The spread of the lag, and of each stage."""

    lag: Spread
    stages: Stages


class Passages:
    """The newest passages of a stream; one thread adds, others read."""

    def __init__(self) -> None:
        self._kept: deque[Passage] = deque(maxlen=_KEPT)
        self._fresh: deque[Passage] = deque(maxlen=_FRESH_MAX)

    def add(self, passed: Passage) -> None:
        """Keep a passage."""
        self._kept.append(passed)
        self._fresh.append(passed)

    def drain(self) -> list[Passage]:
        """Return the passages since the last call."""
        fresh, self._fresh = self._fresh, deque(maxlen=_FRESH_MAX)
        return list(fresh)

    def snapshot(self) -> Spreads:
        """Return the spreads of the newest 4,096 passages."""
        return spreads(list(self._kept))


def spreads(passages: Sequence[Passage]) -> Spreads:
    """Return the spreads of ``passages``."""
    columns = list(zip(*passages, strict=True)) or [()] * len(Passage._fields)
    lag, *stages = (spread(column) for column in columns)
    named = {f"{name}_us": each for name, each in zip(STAGES, stages, strict=True)}
    return Spreads(lag, Stages(**named))


class ClockOffset:
    """The time by which a server's clock is ahead of the daemon's, measured with questions.

    The server reads the clock at some time between question and answer, so the error is at most
    half the round trip of the quickest answer of the last minute. A smaller offset than that
    error counts as 0, because time servers keep clocks closer than a long line can measure.
    """

    def __init__(self) -> None:
        self._samples: deque[tuple[int, int]] = deque(maxlen=_OFFSETS_KEPT)

    def answered(self, asked_us: int, theirs_us: int, answered_us: int) -> None:
        """Take an answer into account.

        :param theirs_us: the server's clock in the answer, in microseconds since 1970.
        """
        if (took := answered_us - asked_us) >= 0:  # else our own clock was set back in between
            self._samples.append((took, theirs_us - (asked_us + answered_us) // 2))

    @property
    def us(self) -> int:
        """Return the offset in microseconds; positive: the server is ahead."""
        if not self._samples:
            return 0
        took, offset = min(self._samples)
        return offset if abs(offset) > took // 2 else 0
