"""Documents, typed, of ``drc status --json`` and ``/api/v1/snapshot``. Pure.

The field names are the keys of the JSON; docs/operations/status-json.md has the tables. As with
:mod:`drc.worker.snapshot`, a reader ignores unknown keys and has a default for missing keys.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Struct, UnsetType, field

from drc.worker.snapshot import (
    Alert,
    ErrorFields,
    PublisherSnapshot,
    StreamSnapshot,
    WatcherSnapshot,
    Workers,
    about,
)

# ------------------------------------------------------------ of a daemon's API


class Desired(Struct, frozen=True, kw_only=True):
    """The state that an operator wants of a stream."""

    desired: Annotated[str, about("`running`, `paused` or `stopped`")] = "running"
    reason: Annotated[str, about("the operator's reason")] = ""


class DaemonSnapshot(Workers, frozen=True, kw_only=True):
    """The answer of ``/api/v1/snapshot``: a snapshot, and the name of the daemon.

    A daemon that does not replicate yet leaves out the fields that can be unset.
    """

    pair: Annotated[str, about("the pair's name")] = ""
    site: Annotated[str, about("the daemon's site")] = ""
    version: Annotated[str, about("the daemon's release of drc")] = ""
    now_us: Annotated[int, about("time of the answer, in microseconds since 1970")] = 0
    controls: Annotated[
        dict[str, Desired], about("the states that operators want, by stream, as `a->b`")
    ] = field(default_factory=dict)
    updated_us: Annotated[
        int | UnsetType, about("time of the snapshot, in microseconds since 1970")
    ] = UNSET
    cpu_us: Annotated[int | UnsetType, about("CPU time of the process, in microseconds")] = UNSET
    rss_bytes_max: Annotated[
        int | UnsetType, about("the most memory that the process ever had, in bytes")
    ] = UNSET
    alerts: Annotated[list[Alert] | UnsetType, about("the raised alerts")] = UNSET


# ------------------------------------------------------------ of drc status


class DaemonReport(Struct, frozen=True, kw_only=True):
    """A site's daemon, by the newest snapshot in the checkpoint store; null: no snapshot."""

    fresh: Annotated[bool, about("saved within the last 5 s")] = False
    saved_us: Annotated[
        int | None, about("when the snapshot was saved, in microseconds since 1970")
    ] = None
    cpu_us: Annotated[int | None, about("CPU time of the process, in microseconds")] = None
    rss_bytes_max: Annotated[
        int | None, about("the most memory that the process ever had, in bytes")
    ] = None
    publisher: Annotated[PublisherSnapshot | None, about("null without Kafka")] = None
    watcher: Annotated[WatcherSnapshot | None, about("null without conflict detection")] = None
    alerts: Annotated[list[Alert], about("the raised alerts")] = []


class SiteReport(Struct, frozen=True, kw_only=True):
    """A site, by the answer of its server."""

    reachable: Annotated[bool, about("whether the server answered")] = False
    error: Annotated[ErrorFields | None, about("why the server did not answer")] = None
    version: Annotated[str | None, about("the server's version")] = None
    server_uuid: Annotated[str | None, about("the server's UUID")] = None
    read_only: Annotated[bool | None, about("the server's `read_only`")] = None
    gtid_executed: Annotated[str | None, about("the server's `gtid_executed`")] = None
    daemon: Annotated[DaemonReport, about("the site's daemon")] = DaemonReport()


class StreamReport(Struct, frozen=True, kw_only=True):
    """A stream: the answers of both servers, and the snapshot of the daemon at the target."""

    origin: Annotated[str, about("the site where the transactions were committed")]
    target: Annotated[str, about("the site where the stream applies them")]
    state: Annotated[str, about("the state in a fresh snapshot, else `unknown`")] = "unknown"
    reason: Annotated[str, about("why the stream does not run, or its state is unknown")] = ""
    error: Annotated[ErrorFields | None, about("the error in a fresh snapshot")] = None
    transactions_behind: Annotated[
        int | None, about("undecided transactions of the origin; null: not known")
    ] = None
    behind_set: Annotated[str | None, about("their GTID set")] = None
    exact: Annotated[bool, about("whether the number is exact, not an upper bound")] = False
    ledger_applied: Annotated[str | None, about("the decided set in the target's ledger")] = None
    ledger_seq: Annotated[int | None, about("the number of the newest batch in the ledger")] = None
    snapshot: Annotated[
        StreamSnapshot | None, about("the stream's newest snapshot; null: no snapshot")
    ] = None
    snapshot_fresh: Annotated[bool, about("saved within the last 5 s")] = False


class Status(Struct, frozen=True, kw_only=True):
    """The document of ``drc status --json``."""

    name: Annotated[str, about("the pair's name")] = ""
    at_us: Annotated[int, about("when the servers were asked, in microseconds since 1970")] = 0
    ok: Annotated[bool, about("every stream runs and its backlog is known")] = False
    sites: Annotated[dict[str, SiteReport], about("the sites by name")] = {}
    streams: Annotated[list[StreamReport], about("the streams")] = []
