"""Backlog: the same backlog, applied by the native replica and by ``drc``.

1. The comparison is fair: the native replica and ``drc`` start from equal tables, are stopped
   before, and apply the same binlog of the same source.
2. The native replica is timed from ``START REPLICA`` until its ``gtid_executed`` contains the
   backlog. ``drc`` is timed until the target's ledger contains the backlog, from two starts: the
   start of the process, and the first connection.
3. A case may switch conflict detection off, or let the target's own users write during the run, or
   let users lock rows that the backlog writes.
4. With Kafka the source's daemon first publishes the whole backlog and is stopped. So ``drc`` reads
   frames that are already in the topic.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from bench.daemon import Daemon
from bench.meter import Meter
from bench.servers import Servers
from bench.waits import Users, Waits, users_of
from drc.gtid import GtidSet
from drc.sandbox import SandboxSite

_US = 1_000_000


@dataclass(frozen=True)
class Backlog:
    """The figures of a case.

    Names that end in ``_s`` are seconds, in ``_us`` microseconds of CPU per transaction, in
    ``_share`` shares of 1. ``native_s`` begins at START REPLICA, with the server up; ``drc_s``
    begins at the daemon's first connection; ``drc_process_s`` begins at the start of the daemon's
    process, and so includes the start of Python.
    """

    case: str
    transactions: int
    native_s: float
    drc_s: float
    drc_process_s: float
    python_us: float
    python_startup_ms: float
    native_target_us: float
    drc_target_us: float
    native_source_us: float
    drc_source_us: float
    rows_in: int
    rows_applied: int
    batches: int
    native_others_share: float
    drc_others_share: float
    native_waits: Waits | None = None
    drc_waits: Waits | None = None
    publish_s: float | None = None
    publish_python_us: float | None = None

    @property
    def ratio(self) -> float:
        """Return how many times as fast as native ``drc`` is, from the first connection on."""
        return self.native_s / self.drc_s

    @property
    def ratio_process(self) -> float:
        """Return how many times as fast as native ``drc`` is, from the start of the process on."""
        return self.native_s / self.drc_process_s

    @property
    def target_share(self) -> float:
        """Return the CPU of the target as a share of the CPU of the native replica."""
        return self.drc_target_us / self.native_target_us

    @property
    def netted_share(self) -> float:
        """Return the share of rows that netting removed."""
        return 1 - self.rows_applied / self.rows_in if self.rows_in else 0.0


def measure(
    servers: Servers,
    case: str,
    load: Callable[[], None],
    say: Callable[[str], None],
    *,
    detect: bool = True,
    local_rate: int = 0,
    shared: bool = False,
) -> Backlog:
    """Write a backlog, then let the native replica and ``drc`` apply the backlog.

    :param load: writes the backlog.
    :param say: called with a line of text at the start of each step.
    :param detect: whether ``drc`` detects conflicts.
    :param local_rate: transactions per second that the target's own users write during the run.
    :param shared: let users lock rows that the backlog writes, and measure the users' waits.
    :raises RuntimeError: the native replica or ``drc`` failed.
    """
    with_users = partial(_with_users, servers, local_rate, shared=shared)
    say(f"{case}: writing the backlog")
    before = servers.executed(servers.s)
    load()
    transactions = len(servers.executed(servers.s)) - len(before)
    wanted = servers.native(servers.s)
    figures: dict[str, Any] = {}
    if servers.kafka:
        say(f"{case}: publishing {transactions:,} transactions")
        figures |= _publish(servers)(transactions)
    say(f"{case}: the native replica applies {transactions:,} transactions")
    figures |= _native(servers, with_users)(transactions)
    say(f"{case}: drc applies {transactions:,} transactions")
    figures |= _drc(servers, with_users, wanted, detect=detect)(transactions)
    return Backlog(case, transactions, **figures)


_Figures = Callable[[int], dict[str, Any]]
_WithUsers = Callable[[SandboxSite], AbstractContextManager[Users | None]]


@contextmanager
def _with_users(
    servers: Servers, local_rate: int, site: SandboxSite, *, shared: bool
) -> Iterator[Users | None]:
    """Let a target run undisturbed except by the users that the case wants."""
    with (
        servers.alone(site),
        servers.written(site, local_rate),
        users_of(site, wanted=shared) as users,
    ):
        yield users


def _publish(servers: Servers) -> _Figures:
    with servers.alone(servers.t):
        meter = Meter()
        with Daemon(servers, "s") as daemon:
            daemon.wait_published()
            ended = time.monotonic()
            usage = meter.read(daemon=(daemon.pid, 0.0))
    return lambda n: {
        "publish_s": ended - daemon.started_at,
        "publish_python_us": (usage.cpu_s["daemon"] - daemon.startup_cpu_s) / n * _US,
    }


def _native(servers: Servers, with_users: _WithUsers) -> _Figures:
    assert servers.s.pid
    assert servers.r.pid
    with with_users(servers.r) as users:
        meter = Meter(source=servers.s.pid, target=servers.r.pid)
        servers.start_replica()
        servers.wait_replica()
        usage = meter.read()
        ended = time.monotonic()
        servers.stop_replica()
    return lambda n: {
        "native_s": usage.wall_s,
        "native_target_us": usage.cpu_s["target"] / n * _US,
        "native_source_us": usage.cpu_s["source"] / n * _US,
        "native_others_share": usage.others_share,
        "native_waits": users and users.waits(meter.started, ended),
    }


def _drc(servers: Servers, with_users: _WithUsers, wanted: GtidSet, *, detect: bool) -> _Figures:
    assert servers.s.pid
    assert servers.t.pid
    with with_users(servers.t) as users:
        meter = Meter(source=servers.s.pid, target=servers.t.pid)
        with Daemon(servers, detect=detect) as daemon:
            daemon.wait_applied(wanted)
            ended = time.monotonic()
            usage = meter.read(daemon=(daemon.pid, 0.0))
            said = daemon.stop()
    return lambda n: {
        "drc_s": ended - daemon.started_at,
        "drc_process_s": ended - meter.started,
        "python_us": (usage.cpu_s["daemon"] - daemon.startup_cpu_s) / n * _US,
        "python_startup_ms": daemon.startup_cpu_s * 1000,
        "drc_target_us": usage.cpu_s["target"] / n * _US,
        "drc_source_us": usage.cpu_s["source"] / n * _US,
        "rows_in": said.rows_in if said else 0,
        "rows_applied": said.rows_applied if said else 0,
        "batches": said.batches if said else 0,
        "drc_others_share": usage.others_share,
        "drc_waits": users and users.waits(daemon.started_at, ended),
    }
