"""The snapshot: the state of one site's daemon at one moment, as typed values. Pure.

A daemon makes a snapshot each second. The checkpoint store keeps the newest snapshot, the HTTP
API and ``drc status --json`` show that snapshot, metrics and alerts are computed from the same.
The field names are the keys of the JSON; docs/operations/status-json.md has the tables.

1. A snapshot of another release of drc can be read: unknown keys are ignored, and a missing key
   has the field's default. Only the names and the state of a stream have no default.
2. An unknown word is not an error either, because states and severities are ``str``.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from drc.errors import DrcError


def about(text: str) -> Meta:
    """Describe a field in a line, with the unit; the OpenAPI document shows the line."""
    return Meta(description=text)


class ErrorFields(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An error: message, remedy, and the place if known."""

    message: Annotated[str, about("the error in a sentence")]
    site: Annotated[str, about("the site where the error happened")] = ""
    stage: Annotated[str, about("the part of the work that failed, such as `read`")] = ""
    gtid: Annotated[str, about("the transaction")] = ""
    table: Annotated[str, about("the table, as `schema.table`")] = ""
    key: Annotated[str, about("the key of the row")] = ""
    hint: Annotated[str, about("a remedy for an operator")] = ""

    @classmethod
    def of(cls, error: DrcError | None) -> ErrorFields | None:
        """Return the fields of an error; None if there is no error."""
        return cls(message=error.message, **error.fields()) if error else None

    def fields(self) -> dict[str, str]:
        """Return the non-empty fields without the message, for logs."""
        names = self.__struct_fields__[1:]
        return {name: value for name in names if (value := getattr(self, name))}


# ------------------------------------------------------------ parts of a stream


class Spread(Struct, frozen=True, kw_only=True):
    """Percentiles of a duration; each is null if nothing was measured."""

    p50: Annotated[int | None, about("the median, in microseconds")] = None
    p99: Annotated[int | None, about("99 % took at most this long, in microseconds")] = None
    p999: Annotated[int | None, about("99.9 % took at most this long, in microseconds")] = None


class Stages(Struct, frozen=True, kw_only=True):
    """The time spent in each stage, of the last 4,096 batches."""

    read_us: Annotated[Spread, about("commit at the origin until read")] = Spread()
    logged_us: Annotated[Spread, about("with Kafka: read until acknowledged")] = Spread()
    received_us: Annotated[Spread, about("with Kafka: acknowledged until received")] = Spread()
    dispatched_us: Annotated[Spread, about("here until taken into a batch")] = Spread()
    committed_us: Annotated[Spread, about("in a batch until visible")] = Spread()


class Behind(Struct, frozen=True):
    """The backlog of a stream; null while not known."""

    seconds: Annotated[float | None, about("age of the oldest undecided transaction, in s")] = None
    transactions: Annotated[int | None, about("number of undecided transactions")] = None
    bytes: Annotated[int | None, about("size of these transactions, estimated")] = None


class Rates(Struct, frozen=True, kw_only=True):
    """The throughput of a stream."""

    transactions: Annotated[float, about("transactions a second")] = 0
    rows: Annotated[float, about("row changes a second")] = 0
    bytes: Annotated[float, about("bytes read a second")] = 0


class Hold(Struct, frozen=True, kw_only=True):
    """The holder that keeps a stream from applying."""

    since_us: Annotated[int, about("begin of the hold, in microseconds since 1970")] = 0
    what: Annotated[str, about("the holder in one word, such as `lock` or `paused`")] = ""
    sentence: Annotated[str, about("the holder in a sentence")] = ""
    command: Annotated[str, about("a command that helps")] = ""


class CanarySnapshot(Struct, frozen=True, kw_only=True):
    """The canaries of a stream's origin."""

    every_s: Annotated[float, about("the origin sends a canary this often, in seconds")] = 0.0
    sent_us: Annotated[
        int | None, about("when the newest that landed was sent, by the daemon's clock")
    ] = None
    landed_us: Annotated[int | None, about("when the newest landed, by the daemon's clock")] = None
    bounced: Annotated[int, about("canaries of another site than the origin")] = 0


# ------------------------------------------------------------ workers


class WorkerSnapshot(Struct, frozen=True, kw_only=True):
    """A worker's state."""

    state: Annotated[str, about("`running`, `connecting`, `paused`, `stopped` or `need_reseed`")]
    reason: Annotated[str, about("why the worker does not run; empty while it runs")] = ""
    error: Annotated[ErrorFields | None, about("the error that ended the last session")] = None
    sessions: Annotated[int, about("sessions since the daemon started")] = 0
    transactions: Annotated[int, about("native transactions applied, published or watched")] = 0


class SessionSnapshot(WorkerSnapshot, frozen=True, kw_only=True):
    """The state of a worker that reads transactions into a queue: a stream or publisher."""

    updated_us: Annotated[int, about("when a batch or frame was last finished; 0: never")] = 0
    skipped_tagged: Annotated[int, about("skipped transactions of this session")] = 0
    read_bytes: Annotated[int, about("bytes read in this session")] = 0
    lag_us_p50: Annotated[int, about("median lag of the last 4,096, in microseconds")] = 0
    lag_us_p99: Annotated[int, about("99 % of lags are at most this, in microseconds")] = 0
    queue_bytes: Annotated[int, about("bytes read that wait")] = 0


class StreamSnapshot(SessionSnapshot, frozen=True, kw_only=True):
    """A stream."""

    origin: Annotated[str, about("the site where the transactions were committed")]
    target: Annotated[str, about("the site where the stream applies them")]
    rows_in: Annotated[int, about("row changes received")] = 0
    rows_applied: Annotated[int, about("row changes written, after merging those of one row")] = 0
    batches: Annotated[int, about("batches committed")] = 0
    lock_failures: Annotated[int, about("batches rolled back by a deadlock or lock wait")] = 0
    awaited: Annotated[
        int, about("batches longer than `apply.batch_target_ms` that a local user waited for")
    ] = 0
    taken_apart: Annotated[
        int, about("batches whose transactions were applied separately after a failure")
    ] = 0
    concurrent: Annotated[int, about("batches rolled back because a row had a rival")] = 0
    repeated: Annotated[int, about("decided transactions read again in this session")] = 0
    conflicts: Annotated[dict[str, int], about("conflicts by kind")] = {}
    frames: Annotated[dict[str, int], about("with Kafka: messages of this session by fate")] = {}
    queue_transactions: Annotated[int, about("transactions read that wait")] = 0
    applied_set: Annotated[str, about("the decided GTID set; empty while not known")] = ""
    lag_us: Annotated[Spread, about("commit at the origin until visible")] = Spread()
    stages: Annotated[Stages, about("the lag by stage")] = Stages()
    canary: Annotated[CanarySnapshot | None, about("null without `monitor.canary_s`")] = None
    behind: Annotated[Behind, about("the backlog")] = Behind()
    rates: Annotated[Rates, about("the throughput")] = Rates()
    blocked: Annotated[Hold | None, about("the holder; null if nothing holds the stream")] = None
    observed_us: Annotated[int, about("when the origin was last asked; 0: never")] = 0


class PublisherSnapshot(SessionSnapshot, frozen=True, kw_only=True):
    """A site's publisher; lag is from commit until acknowledged by Kafka."""

    site: Annotated[str, about("the site whose transactions are published")] = ""
    epoch: Annotated[int, about("the publisher's epoch; the highest counts")] = 0
    frames: Annotated[int, about("frames acknowledged")] = 0
    covered_set: Annotated[str, about("the GTID set that the topic covers")] = ""


class WatcherSnapshot(WorkerSnapshot, frozen=True, kw_only=True):
    """The watcher of a site, and the index."""

    site: Annotated[str, about("the site whose binlog is watched")] = ""
    replicated: Annotated[int, about("replicated transactions seen in the binlog")] = 0
    unwatched: Annotated[int, about("native transactions whose keys cannot be determined")] = 0
    slots: Annotated[int, about("keys that a peer may not have seen yet")] = 0
    spilled_slots: Annotated[int, about("keys of `slots` that are on disk")] = 0
    spilled_bytes: Annotated[int, about("bytes of these keys on disk")] = 0
    spill_error: Annotated[str, about("why the disk failed; empty if the disk works")] = ""
    forgotten: Annotated[int, about("transactions that the index no longer holds")] = 0
    late_conflicts: Annotated[
        int, about("writes between a certificate and its commit; always 0")
    ] = 0


# ------------------------------------------------------------ the site


class Alert(Struct, frozen=True):
    """A condition that an operator must know."""

    id: Annotated[str, about("name of the condition, the same each time")]
    severity: Annotated[str, about("`page` or `warn`")] = ""
    site: Annotated[str, about("the site whose daemon raised the alert")] = ""
    stream: Annotated[str, about("the stream, as `a->b`; empty for a whole site")] = ""
    since_us: Annotated[int, about("begin of the condition, in microseconds since 1970")] = 0
    sentence: Annotated[str, about("the condition in a sentence")] = ""
    command: Annotated[str, about("a command that helps")] = ""


class Workers(Struct, frozen=True, kw_only=True):
    """The workers of a site."""

    streams: Annotated[list[StreamSnapshot], about("the streams into the site")] = []
    publisher: Annotated[PublisherSnapshot | None, about("null without Kafka")] = None
    watcher: Annotated[WatcherSnapshot | None, about("null without conflict detection")] = None


class Snapshot(Workers, frozen=True, kw_only=True):
    """The state of a site's daemon at one moment."""

    updated_us: Annotated[int, about("time of the snapshot, in microseconds since 1970")] = 0
    cpu_us: Annotated[int, about("CPU time of the process, in microseconds")] = 0
    rss_bytes_max: Annotated[int, about("the most memory that the process ever had, in bytes")] = 0
    alerts: Annotated[list[Alert], about("the raised alerts")] = []


class SavedSnapshot(Snapshot, frozen=True, kw_only=True):
    """A snapshot from the checkpoint store."""

    saved_us: Annotated[int, about("when the snapshot was saved, in microseconds since 1970")] = 0
