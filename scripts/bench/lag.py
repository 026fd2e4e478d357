"""Lag: commit-to-visible lag at a steady rate, measured the same way for native and ``drc``.

A writer commits a numbered row to a canary table at the source, about 100 a second at uneven
intervals, and notes the time after each commit has returned. An observer in another process
queries the target for the highest number while a row is on the way, and sends no query otherwise.
Between two queries the observer rests for 0.2 ms, or 5 % of the time that the row has taken so far
if that is longer. Without rests, the observer and its session would take a whole core from the
measured processes, and the more so the later rows come.

1. Slow moments are not left out: the writer keeps the schedule even if rows arrive late.
2. Commit and observation are timed by the same clock, the machine's monotonic clock.
3. An observation is late by at most a rest and a query: about 0.4 ms, or 5 % of a lag above 4 ms,
   for native and ``drc`` alike.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import pymysql

from bench.daemon import Daemon
from bench.meter import Meter, Usage, milliseconds
from bench.servers import Servers
from bench.workload import Sysbench, finish

TABLE = "bench.canary"
RATE = 1000
_CANARIES = 100  # per second, part of the rate
_REST_S = 0.0002
_REST_SHARE = 0.05
_WARM_SHARE = 0.5  # of the time measured, before; Java compiles the code in use in that time
_DAEMONS = ("daemon", "publisher")
_PATIENCE_S = 30.0  # later rows count as lost


@dataclass(frozen=True)
class Lag:
    """Lag in milliseconds, and CPU in microseconds per transaction (0 where nothing runs)."""

    wanted_per_s: int
    samples: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    transactions_per_s: float
    target_us: float
    python_us: float
    others_share: float


def measure_native(servers: Servers, load: Sysbench, rate: int, seconds: float) -> Lag:
    """Measure the lag of the native replica."""
    with servers.alone(servers.r):
        servers.start_replica()
        servers.wait_replica()
        try:
            return _measure(servers, load, rate, seconds, servers.r, {})
        finally:
            servers.wait_replica()
            servers.stop_replica()


def measure_drc(servers: Servers, load: Sysbench, rate: int, seconds: float) -> Lag:
    """Measure the lag of ``drc``; with Kafka the source's daemon publishes at the same time."""
    with contextlib.ExitStack() as running:
        running.enter_context(servers.alone(servers.t))
        pids = {}
        if servers.kafka:
            source = running.enter_context(Daemon(servers, "s"))
            pids["publisher"] = source.pid
        daemon = running.enter_context(Daemon(servers))
        daemon.wait_applied()
        if servers.kafka:
            source.wait_noted()
            daemon.wait_noted()
        pids["daemon"] = daemon.pid
        lag = _measure(servers, load, rate, seconds, servers.t, pids)
        daemon.wait_applied()
        return lag


def _measure(
    servers: Servers, load: Sysbench, rate: int, seconds: float, target: Any, pids: dict[str, int]
) -> Lag:
    steady = load.at_rate(rate - _CANARIES)
    try:
        time.sleep(seconds * _WARM_SHARE)  # samples of the start would not be of a steady rate
        before = len(servers.executed(servers.s))
        meter = Meter(target=target.pid, sysbench=steady.pid, source=servers.s.pid or 0, **pids)
        lags = _canaries(servers, target, seconds)
        usage = meter.read()
        transactions = len(servers.executed(servers.s)) - before
        if steady.poll() is not None:
            finish(steady)  # sysbench must not end before the measurement
    finally:
        steady.terminate()
        steady.communicate()
    return _summed(rate, sorted(lags), transactions, usage)


def _summed(rate: int, lags: list[int], transactions: int, usage: Usage) -> Lag:
    python_s = sum(usage.cpu_s.get(name, 0.0) for name in _DAEMONS)
    return Lag(
        wanted_per_s=rate,
        samples=len(lags),
        p50_ms=milliseconds(lags, 0.5),
        p90_ms=milliseconds(lags, 0.9),
        p99_ms=milliseconds(lags, 0.99),
        max_ms=milliseconds(lags, 1),
        transactions_per_s=transactions / usage.wall_s,
        target_us=usage.cpu_s["target"] / transactions * 1e6,
        python_us=python_s / transactions * 1e6,
        others_share=usage.others_share,
    )


# ------------------------------------------------------------ writer and observer


def _canaries(servers: Servers, target: Any, seconds: float) -> list[int]:
    """Write canaries for ``seconds``; return the lag of each canary in nanoseconds.

    :raises RuntimeError: canaries did not arrive.
    """
    context = multiprocessing.get_context("spawn")
    committed_in, committed_out = context.Pipe(duplex=False)
    lags_in, lags_out = context.Pipe(duplex=False)
    first = servers.s.query(f"SELECT COALESCE(MAX(id), 0) FROM {TABLE}")[0][0] + 1

    def start(body: Callable[..., None], site: Any, *more: Any) -> Any:
        login = {"unix_socket": site.socket, "user": "root", "password": site.password("root")}
        process = context.Process(target=body, args=(login, *more), daemon=True)
        process.start()
        return process

    observer = start(_observe, target, committed_in, lags_out)
    assert lags_in.recv() == "ready"
    writer = start(_write, servers.s, committed_out, first, seconds)
    try:
        if not lags_in.poll(seconds + 2 * _PATIENCE_S):
            raise RuntimeError(
                f"canaries did not arrive at {target.name} in {seconds + 2 * _PATIENCE_S:.0f} s"
            )
        lags: list[int] = lags_in.recv()
        return lags
    finally:
        for process in (writer, observer):
            process.kill()
            process.join()


def _write(login: dict[str, str], committed: Connection, first: int, seconds: float) -> None:
    """Commit a row about every 10 ms; send (number, time of commit in monotonic nanoseconds).

    None is sent after the last row.
    """
    rng = random.Random(1)
    conn = pymysql.connect(autocommit=True, **login)  # type: ignore[call-overload]
    cursor = conn.cursor()
    number, due = first, time.monotonic()
    end = due + seconds
    while due < end:
        time.sleep(max(0.0, due - time.monotonic()))
        cursor.execute(f"INSERT INTO {TABLE} VALUES ({number})")
        committed.send((number, time.monotonic_ns()))
        number += 1
        due += rng.uniform(0.5, 1.5) / _CANARIES
    committed.send(None)
    time.sleep(_PATIENCE_S)  # an exit would close the pipe; the parent kills this process later


def _observe(login: dict[str, str], committed: Connection, lags_out: Connection) -> None:
    """Observe when each row becomes visible; send all lags in nanoseconds at the end."""
    conn = pymysql.connect(autocommit=True, **login)  # type: ignore[call-overload]
    cursor = conn.cursor()
    cursor.execute(f"SELECT MAX(id) FROM {TABLE}")
    lags_out.send("ready")
    waiting: deque[tuple[int, int]] = deque()
    lags: list[int] = []
    more = True
    while more or waiting:
        while more and (not waiting or committed.poll()):
            if (told := committed.recv()) is None:
                more = False
            else:
                waiting.append(told)
        if not waiting:
            break
        cursor.execute(f"SELECT MAX(id) FROM {TABLE}")
        highest = cursor.fetchall()[0][0] or 0
        now = time.monotonic_ns()
        while waiting and waiting[0][0] <= highest:
            lags.append(now - waiting.popleft()[1])
        age_s = (time.monotonic_ns() - waiting[0][1]) / 1e9 if waiting else 0.0
        time.sleep(max(_REST_S, age_s * _REST_SHARE))
    lags_out.send(lags)
