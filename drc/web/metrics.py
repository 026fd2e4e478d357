"""Metrics: turn a site's snapshot into Prometheus metrics; docs/reference/metrics.md has the list.

Pure: a snapshot in, metric families out. Error texts, GTIDs and keys of rows never become metrics,
because a reader of metrics may have no right to read data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from msgspec.structs import asdict
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from drc import __version__
from drc.worker.snapshot import SessionSnapshot, Snapshot, StreamSnapshot, WorkerSnapshot
from drc.worker.stages import QUANTILES

STATES = ("running", "connecting", "paused", "stopped", "need_reseed")
_ENDED = ("stopped", "need_reseed")


class _Number(NamedTuple):
    """A number of a snapshot: key, metric name, help text, and the factor to the base unit.

    For example ``1e-6`` for microseconds, as the base unit is the second.
    """

    key: str
    name: str
    text: str
    unit: float = 1


_Streams = Mapping[tuple[str, ...], StreamSnapshot]  # by label values
_Sessions = Mapping[tuple[str, ...], SessionSnapshot]
_Workers = Mapping[tuple[str, ...], WorkerSnapshot]

_US = 1e-6
_LAGS = (("lag_us_p50", "0.5"), ("lag_us_p99", "0.99"))
_BEHIND = (
    _Number("seconds", "behind_seconds", "Age of the oldest transaction not decided here."),
    _Number("transactions", "behind_transactions", "Transactions not decided here."),
    _Number("bytes", "behind_bytes", "Estimated bytes of the transactions not decided here."),
)

_RUN_COUNTERS = (
    _Number("sessions", "sessions", "Sessions begun."),
    _Number("transactions", "transactions", "Transactions finished."),
)
_SESSION_COUNTERS = (
    *_RUN_COUNTERS,
    _Number("read_bytes", "read_bytes", "Bytes read since the session began."),
    _Number("skipped_tagged", "transactions_skipped", "Read and skipped: replicated or silenced."),
)
_SESSION_GAUGES = (
    _Number("queue_bytes", "queue_bytes", "Bytes read and not yet taken."),
    _Number(
        "updated_us", "progress_timestamp_seconds", "When a batch or frame was last done.", _US
    ),
)
_STREAM_COUNTERS = (
    *_SESSION_COUNTERS,
    _Number("rows_in", "rows_received", "Row changes received."),
    _Number(
        "rows_applied", "rows_applied", "Row changes written: fewer where changes were merged."
    ),
    _Number("batches", "batches", "Batches committed at the target."),
    _Number("lock_failures", "lock_failures", "Batches rolled back by a deadlock or lock wait."),
    _Number("awaited", "batches_awaited", "Long batches that a local user waited for."),
    _Number(
        "taken_apart",
        "batches_taken_apart",
        "Batches whose transactions were applied separately after a failure.",
    ),
    _Number(
        "repeated", "transactions_repeated", "Decided, and read again since the session began."
    ),
    _Number(
        "concurrent",
        "transactions_concurrent",
        "Batches rolled back because a transaction had a rival.",
    ),
)
_STREAM_GAUGES = (
    *_SESSION_GAUGES,
    _Number("observed_us", "observed_timestamp_seconds", "When the origin was asked last.", _US),
    _Number("queue_transactions", "queue_transactions", "Transactions read and not yet taken."),
)
_CANARY = (
    _Number(
        "sent_us",
        "canary_sent_timestamp_seconds",
        "When the newest canary that landed was sent.",
        _US,
    ),
    _Number("landed_us", "canary_landed_timestamp_seconds", "When the newest canary landed.", _US),
)
_COUNTS = (
    (
        "frames",
        "drc_stream_messages",
        "fate",
        "With Kafka: messages by fate, and transactions replayed, since the session began.",
    ),
    ("conflicts", "drc_stream_conflicts", "kind", "Conflicts of rows that were settled."),
)
_PUBLISHER_COUNTERS = (*_SESSION_COUNTERS, _Number("frames", "frames", "Frames acknowledged."))
_PUBLISHER_GAUGES = (
    *_SESSION_GAUGES,
    _Number("epoch", "epoch", "The publisher with the highest epoch counts."),
)
_WATCHER_COUNTERS = (
    *_RUN_COUNTERS,
    _Number("replicated", "transactions_replicated", "Replicated transactions watched."),
    _Number(
        "unwatched",
        "transactions_unwatched",
        "Native transactions whose keys cannot be determined.",
    ),
    _Number("late_conflicts", "late_conflicts", "Writes between a certificate and its commit."),
)
_WATCHER_GAUGES = (
    _Number("slots", "slots", "Keys written here that some peer has not seen."),
    _Number("spilled_slots", "spilled_slots", "Keys of the index that are on disk."),
    _Number("spilled_bytes", "spilled_bytes", "Bytes of these keys on disk."),
    _Number(
        "forgotten",
        "transactions_forgotten",
        "Transactions that the index no longer holds, though a peer may not have seen these.",
    ),
)


class SiteCollector:
    """Metrics of one site's daemon.

    :param snapshot: returns the daemon's present snapshot, None before the site runs.
    """

    def __init__(self, pair: str, site: str, snapshot: Callable[[], Snapshot | None]) -> None:
        self._pair, self._site, self._snapshot = pair, site, snapshot

    def describe(self) -> Iterable[Metric]:
        """Return nothing: registering must not ask for a snapshot."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of the present snapshot; each scrape calls this once."""
        labels = ("pair", "site", "version")
        info = GaugeMetricFamily("drc_build_info", "The daemon's version; always 1.", labels=labels)
        info.add_metric((self._pair, self._site, __version__), 1)
        yield info
        said = self._snapshot()
        if said is None:
            return
        streams: _Streams = {(self._pair, s.origin, s.target): s for s in said.streams}
        places = ("pair", "origin", "target")
        yield from _sessions("drc_stream", places, streams, _STREAM_COUNTERS, _STREAM_GAUGES)
        yield _lag("drc_stream_lag_seconds", "The origin's commit until visible.", places, streams)
        yield _stages(places, streams)
        yield from _behind(places, streams)
        yield from _canaries(places, streams)
        for key, name, label, text in _COUNTS:
            yield _counts(name, text, (*places, label), streams, key)
        place, here = ("pair", "site"), (self._pair, self._site)
        if said.publisher:
            published: _Sessions = {here: said.publisher}
            yield from _sessions(
                "drc_publisher", place, published, _PUBLISHER_COUNTERS, _PUBLISHER_GAUGES
            )
            yield _lag("drc_publisher_lag_seconds", "Commit until acknowledged.", place, published)
        if said.watcher:
            watched: _Workers = {here: said.watcher}
            yield from _sessions("drc_watcher", place, watched, _WATCHER_COUNTERS, _WATCHER_GAUGES)


def registry(collector: SiteCollector) -> CollectorRegistry:
    """Return the registry for a scrape: the site's metrics; CPU, memory, files of the process."""
    out = CollectorRegistry(auto_describe=False)
    out.register(collector)
    ProcessCollector(registry=out)
    return out


def _sessions(
    prefix: str,
    labels: tuple[str, ...],
    said: _Workers,
    counters: tuple[_Number, ...],
    gauges: tuple[_Number, ...],
) -> Iterator[Metric]:
    """Yield state and numbers of streams or a publisher."""
    states = GaugeMetricFamily(
        f"{prefix}_state", "1 for the present state, 0 for other states.", labels=(*labels, "state")
    )
    for values, one in said.items():
        for state in STATES:
            states.add_metric((*values, state), one.state == state)
    yield states
    text = "1 while stopped on an error, else 0; 0 also after a stop by an operator."
    failed = GaugeMetricFamily(f"{prefix}_failed", text, labels=labels)
    for values, one in said.items():
        failed.add_metric(values, one.state in _ENDED and one.error is not None)
    yield failed
    for kind, numbers in ((CounterMetricFamily, counters), (GaugeMetricFamily, gauges)):
        for number in numbers:
            family = kind(f"{prefix}_{number.name}", number.text, labels=labels)
            for values, one in said.items():
                family.add_metric(values, getattr(one, number.key) * number.unit)
            yield family


def _lag(name: str, text: str, labels: tuple[str, ...], said: _Sessions) -> Metric:
    text += " Of the last 4,096 values."
    family = Metric(name, text, "summary")  # the daemon keeps no sum and no count
    for values, one in said.items():
        for key, quantile in _LAGS:
            place = dict(zip(labels, values, strict=True))
            family.add_sample(name, {**place, "quantile": quantile}, getattr(one, key) * _US)
    return family


def _stages(labels: tuple[str, ...], streams: _Streams) -> Metric:
    """Return the time spent in each stage; ``lag`` is the time of all stages together."""
    text = "Time spent in each stage, of the last 4,096 batches."
    family = Metric("drc_stream_stage_seconds", text, "summary")
    for values, one in streams.items():
        place = dict(zip(labels, values, strict=True))
        for stage, spread in (("lag_us", one.lag_us), *asdict(one.stages).items()):
            for key, quantile in QUANTILES.items():
                if (took := getattr(spread, key)) is not None:
                    where = {**place, "stage": stage[:-3], "quantile": str(quantile)}
                    family.add_sample(family.name, where, took * _US)
    return family


def _behind(labels: tuple[str, ...], streams: _Streams) -> Iterator[Metric]:
    """Yield the backlog of each stream, where known, and the holder of each blocked stream."""
    for number in _BEHIND:
        family = GaugeMetricFamily(f"drc_stream_{number.name}", number.text, labels=labels)
        for values, one in streams.items():
            if (value := getattr(one.behind, number.key)) is not None:
                family.add_metric(values, value)
        yield family
    text = "1 while the stream is held, by the kind of holder."
    blocked = GaugeMetricFamily("drc_stream_blocked", text, labels=(*labels, "what"))
    for values, one in streams.items():
        if one.blocked:
            blocked.add_metric((*values, one.blocked.what), 1)
    yield blocked


def _canaries(labels: tuple[str, ...], streams: _Streams) -> Iterator[Metric]:
    """Yield when canaries were sent and landed, for streams with canaries."""
    said = {values: one.canary for values, one in streams.items() if one.canary}
    for number in _CANARY:
        family = GaugeMetricFamily(f"drc_stream_{number.name}", number.text, labels=labels)
        for values, canary in said.items():
            if (value := getattr(canary, number.key)) is not None:
                family.add_metric(values, value * number.unit)
        yield family
    text = "Canaries of another site than the origin, which therefore came back."
    bounced = CounterMetricFamily("drc_stream_canaries_bounced", text, labels=labels)
    for values, canary in said.items():
        bounced.add_metric(values, canary.bounced)
    yield bounced


def _counts(name: str, text: str, labels: tuple[str, ...], streams: _Streams, key: str) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for values, one in streams.items():
        for which, count in getattr(one, key).items():
            family.add_metric((*values, which), count)
    return family
