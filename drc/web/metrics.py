"""A site's snapshot as Prometheus metrics; docs/reference/metrics.md lists them.

Pure: a snapshot in, metric families out. Error texts, GTIDs and keys of rows never become
metrics: who may read these need not be allowed to read data.
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
    """A number of a snapshot: its key there, its metric, and what one of it is in base units."""

    key: str
    name: str
    text: str
    unit: float = 1


_Streams = Mapping[tuple[str, ...], StreamSnapshot]  # by the values of their labels
_Sessions = Mapping[tuple[str, ...], SessionSnapshot]
_Workers = Mapping[tuple[str, ...], WorkerSnapshot]

_US = 1e-6
_LAGS = (("lag_us_p50", "0.5"), ("lag_us_p99", "0.99"))
_BEHIND = (
    _Number("seconds", "behind_seconds", "Age of the oldest transaction not decided here."),
    _Number("transactions", "behind_transactions", "Transactions not decided here."),
    _Number("bytes", "behind_bytes", "About how large they are."),
)

_RUN_COUNTERS = (
    _Number("sessions", "sessions", "How often it began anew."),
    _Number("transactions", "transactions", "Transactions that it finished."),
)
_SESSION_COUNTERS = (
    *_RUN_COUNTERS,
    _Number("read_bytes", "read_bytes", "Bytes read since the session began."),
    _Number("skipped_tagged", "transactions_skipped", "Read, and not ours to ship: replicated."),
)
_SESSION_GAUGES = (
    _Number("queue_bytes", "queue_bytes", "Read and not yet taken."),
    _Number("updated_us", "progress_timestamp_seconds", "When it last finished something.", _US),
)
_STREAM_COUNTERS = (
    *_SESSION_COUNTERS,
    _Number("rows_in", "rows_received", "Row changes that came."),
    _Number("rows_applied", "rows_applied", "Row changes written: fewer where some were merged."),
    _Number("batches", "batches", "Transactions at the target."),
    _Number("lock_failures", "lock_failures", "Batches rolled back by a deadlock or lock wait."),
    _Number("awaited", "batches_awaited", "Long batches that a local user waited for."),
    _Number("taken_apart", "batches_taken_apart", "Batches applied one by one after a failure."),
    _Number("repeated", "transactions_repeated", "Read again since the session began."),
    _Number("concurrent", "transactions_concurrent", "Settled row by row: others wrote meanwhile."),
)
_STREAM_GAUGES = (
    *_SESSION_GAUGES,
    _Number("observed_us", "observed_timestamp_seconds", "When the origin was asked last.", _US),
    _Number("queue_transactions", "queue_transactions", "Transactions read and not yet taken."),
)
_CANARY = (
    _Number("sent_us", "canary_sent_timestamp_seconds", "When the newest to land was sent.", _US),
    _Number("landed_us", "canary_landed_timestamp_seconds", "When the newest has landed.", _US),
)
_COUNTS = (
    (
        "frames",
        "drc_stream_messages",
        "fate",
        "With Kafka: messages by fate, and transactions replayed, since the session began.",
    ),
    ("conflicts", "drc_stream_conflicts", "kind", "Rows that several sites had written at once."),
)
_PUBLISHER_COUNTERS = (*_SESSION_COUNTERS, _Number("frames", "frames", "Frames acknowledged."))
_PUBLISHER_GAUGES = (
    *_SESSION_GAUGES,
    _Number("epoch", "epoch", "The publisher with the highest epoch is the one that counts."),
)
_WATCHER_COUNTERS = (
    *_RUN_COUNTERS,
    _Number("replicated", "transactions_replicated", "Watched, and not native here."),
    _Number("unwatched", "transactions_unwatched", "Native, with keys that cannot be told."),
    _Number("late_conflicts", "late_conflicts", "Writes between a certificate and its commit."),
)
_WATCHER_GAUGES = (
    _Number("slots", "slots", "Keys written here that some peer has not seen."),
    _Number("spilled_slots", "spilled_slots", "Those of them that are on disk."),
    _Number("spilled_bytes", "spilled_bytes", "What they take there."),
    _Number("forgotten", "transactions_forgotten", "Held no more, and not all peers saw them."),
)


class SiteCollector:
    """Metrics of one site's daemon.

    :param snapshot: returns the daemon's snapshot of this moment, None before there is one.
    """

    def __init__(self, pair: str, site: str, snapshot: Callable[[], Snapshot | None]) -> None:
        self._pair, self._site, self._snapshot = pair, site, snapshot

    def describe(self) -> Iterable[Metric]:
        """Return nothing: registering must not ask for a snapshot."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield what the present snapshot holds; each scrape calls it once."""
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
    """Return what a scrape reads: the site's metrics, and CPU, memory and files of the process."""
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
        f"{prefix}_state", "1 for the state it is in, 0 for the others.", labels=(*labels, "state")
    )
    for values, one in said.items():
        for state in STATES:
            states.add_metric((*values, state), one.state == state)
    yield states
    text = "1 while stopped on an error; 0 while an operator has stopped it, too."
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
    family = Metric(name, text + " Of the last 4,096.", "summary")  # no sum or count is kept
    for values, one in said.items():
        for key, quantile in _LAGS:
            place = dict(zip(labels, values, strict=True))
            family.add_sample(name, {**place, "quantile": quantile}, getattr(one, key) * _US)
    return family


def _stages(labels: tuple[str, ...], streams: _Streams) -> Metric:
    """Return the time spent in each stage; ``lag`` is that of all together."""
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
    """Yield how far behind streams are, where that is known, and what holds them."""
    for number in _BEHIND:
        family = GaugeMetricFamily(f"drc_stream_{number.name}", number.text, labels=labels)
        for values, one in streams.items():
            if (value := getattr(one.behind, number.key)) is not None:
                family.add_metric(values, value)
        yield family
    text = "1 while something holds the stream, by what it is."
    blocked = GaugeMetricFamily("drc_stream_blocked", text, labels=(*labels, "what"))
    for values, one in streams.items():
        if one.blocked:
            blocked.add_metric((*values, one.blocked.what), 1)
    yield blocked


def _canaries(labels: tuple[str, ...], streams: _Streams) -> Iterator[Metric]:
    """Yield what became of canaries, where there are any."""
    said = {values: one.canary for values, one in streams.items() if one.canary}
    for number in _CANARY:
        family = GaugeMetricFamily(f"drc_stream_{number.name}", number.text, labels=labels)
        for values, canary in said.items():
            if (value := getattr(canary, number.key)) is not None:
                family.add_metric(values, value * number.unit)
        yield family
    text = "Canaries of another site than the origin: they came back."
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
