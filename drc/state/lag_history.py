"""The history of lag: samples of a second, later joined to longer buckets, then dropped. Pure.

A joined bucket has the worst value of the parts, so that a short peak is still visible in an old
bucket; rates are averaged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from msgspec.structs import asdict

from drc.worker.progress import Observed
from drc.worker.stages import Passage, spreads

# Length of a bucket and time until deletion, in s: 600 + 2,160 + 8,640 rows for a stream.
LEVELS = ((1, 600), (10, 6 * 3600), (300, 30 * 86400))

Sample = dict[str, Any]


class Bucket(NamedTuple):
    """A finished bucket of a stream: length in seconds, begin in µs since 1970, joined sample."""

    origin: str
    target: str
    bucket_s: int
    at_us: int
    sample: Sample


def sample(state: str, observed: Observed, passages: Sequence[Passage]) -> Sample:
    """Return the sample of a stream for a second, with the lag of that second alone."""
    lag, stages = spreads(passages)
    blocked = observed.blocked
    return {
        "state": state,
        "lag_us": asdict(lag),
        "stages": {name: {"p99": spread.p99} for name, spread in asdict(stages).items()},
        "behind": asdict(observed.behind),
        "rates": asdict(observed.rates),
        "blocked": blocked.what if blocked else None,
    }


def worst(samples: Sequence[Sample]) -> Sample:
    """Join samples of neighbouring times."""
    out: Sample = {}
    for key, last in samples[-1].items():
        values = [s[key] for s in samples if s.get(key) is not None]
        if isinstance(last, dict) and key == "rates":
            out[key] = {k: round(sum(v[k] for v in values) / len(values), 1) for k in last}
        elif isinstance(last, dict):
            out[key] = worst(values)
        elif values and not isinstance(values[-1], str):
            out[key] = max(values)
        elif key == "state":
            out[key] = next((v for v in values if v != "running"), last)
        else:
            out[key] = values[-1] if values else None
    return out


class History:
    """Join the samples of a stream, level by level."""

    def __init__(self, origin: str, target: str) -> None:
        self._origin, self._target = origin, target
        self._open: list[tuple[int, list[Sample]]] = [(0, []) for _ in LEVELS]

    def add(self, at_us: int, new: Sample) -> list[Bucket]:
        """Add the sample of a second; return the buckets that this second finishes."""
        out = []
        for level, (bucket_s, _) in enumerate(LEVELS):
            begin = at_us // (bucket_s * 1_000_000) * bucket_s * 1_000_000
            start, held = self._open[level]
            if held and begin != start:
                out.append(Bucket(self._origin, self._target, bucket_s, start, worst(held)))
                self._open[level] = begin, [new]
            else:
                self._open[level] = begin, [*held, new]
        return out
