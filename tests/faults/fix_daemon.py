"""The daemon as users run daemons: a separate process that can be killed, drained and asked."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest

from drc import mysql
from drc.cli import invoke as drc_command
from drc.config import Config, load
from drc.gtid import GtidSet
from drc.kafka.topic import open_topic
from drc.sandbox import ConfigSpec, Sandbox, fetch_tool
from drc.sandbox.servers import SandboxSite
from drc.verify import Audit, audit, compare

FULL = os.environ.get("DRC_FULL") == "1"
LONG = pytest.mark.skipif(not FULL, reason="takes minutes: `make proof`")
_PATIENCE_S = 300.0 if FULL else 90.0
_POLL_S = 0.05


class Daemon:
    """``drc run --all``, or the daemon of a single site."""

    def __init__(self, box: Sandbox, config: Path, site: str = "") -> None:
        self.box = box
        self.path = config
        self.config: Config = load(config)
        self.log = config.parent / f"daemon{site}.log"
        self._which = ["--site", site] if site else ["--all"]
        self._process: subprocess.Popen[bytes] | None = None

    # ------------------------------------------------------------ life

    def start(self) -> Daemon:
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "drc.cli", "run", *self._which, "-c", str(self.path)],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        return self

    def processes(self) -> list[psutil.Process]:
        """Return the process of the supervisor, then a process for each site."""
        assert self._process is not None
        top = psutil.Process(self._process.pid)
        return [top, *top.children(recursive=True)]

    def kill9(self) -> None:
        """Kill every process of the daemon at once, as a power cut would."""
        assert self._process is not None
        victims = self.processes()
        for process in victims:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()
        psutil.wait_procs(victims, timeout=10)
        self._process = None

    def end(self) -> None:
        """Kill a daemon that still runs when a test ends, with any result of the test."""
        if self._process is not None and self._process.poll() is None:
            self.kill9()

    def stop(self) -> int:
        """Ask the daemon to stop; return the exit code."""
        if self._process is None:
            return 0
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(60)
        self._process = None
        return code

    @property
    def has_ended(self) -> bool:
        """Whether the process has ended by itself; :meth:`wait_exit` returns the exit code."""
        assert self._process is not None
        return self._process.poll() is not None

    def wait_exit(self) -> int:
        assert self._process is not None
        code = self._process.wait(60)
        self._process = None
        return code

    def forget_store(self) -> None:
        """Delete the checkpoint store, which holds only hints."""
        for path in self.path.parent.glob("*.state.db*"):
            path.unlink()

    def rss_bytes_max(self) -> int:
        """Return the largest peak of memory of any process, in bytes."""
        return max(map(self.rss_peak, self.processes()))

    @staticmethod
    def rss_peak(process: psutil.Process) -> int:
        """Return the most bytes that a process ever had resident, as the kernel counts."""
        text = Path(f"/proc/{process.pid}/status").read_text()
        line = next(x for x in text.splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) * 1024

    # ------------------------------------------------------------ truth, from the servers

    def executed(self) -> dict[str, GtidSet]:
        out = {}
        for name, site in self.box.sites.items():
            with site.connect("root") as conn:
                out[name] = mysql.server_facts(conn).gtid_executed
        return out

    def assert_accounted(self, since: dict[str, GtidSet]) -> Audit:
        """Audit both binlogs: nothing missing, nothing twice, nothing bounced."""
        found = audit(self.config, since)
        assert found.ok, found.document()
        return found

    def applied(self, origin: str, target: str) -> GtidSet:
        rows = self.box.sites[target].query(
            "SELECT applied FROM drc.ledger WHERE origin = %s ORDER BY seq DESC LIMIT 1", (origin,)
        )
        return GtidSet.parse(rows[0][0]) if rows else GtidSet()

    def await_published(self, site: str) -> None:
        """Wait until the topic of a site covers everything that the server has executed."""
        deadline = time.monotonic() + _PATIENCE_S
        with self.box.sites[site].connect("root") as conn:
            wanted = mysql.server_facts(conn).gtid_executed
        with contextlib.closing(open_topic(self.config, site)) as topic:
            while not wanted <= topic.covered():
                assert time.monotonic() < deadline, f"{wanted - topic.covered()}: {self.tail()}"
                time.sleep(_POLL_S)

    def _batches(self) -> list[int]:
        """Return for each site and origin the number of batches in the ledger."""
        query = "SELECT origin, MAX(seq) FROM drc.ledger GROUP BY origin ORDER BY origin"
        return [seq for site in self.box.sites.values() for _, seq in site.query(query)]

    def longest_stall(self, until: Callable[[], bool]) -> float:
        """Return the longest time in which some stream committed nothing, until ``until`` holds."""
        seen, longest = self._batches(), 0.0
        since = [time.monotonic()] * len(seen)
        deadline = time.monotonic() + _PATIENCE_S
        while not until() or time.monotonic() - min(since) > 1:
            assert time.monotonic() < deadline, self.tail()
            time.sleep(_POLL_S)
            now = self._batches()
            for i, (before, after) in enumerate(zip(seen, now, strict=True)):
                longest = max(longest, time.monotonic() - since[i])
                if after > before:
                    since[i] = time.monotonic()
            seen = now
        return longest

    def await_commits(self) -> None:
        """Wait until every stream has committed from now on; this needs load."""
        before, deadline = self._batches(), time.monotonic() + _PATIENCE_S
        while any(b >= n for b, n in zip(before, self._batches(), strict=True)):
            assert time.monotonic() < deadline, self.tail()
            time.sleep(_POLL_S)

    def drain(self, schema: str) -> float:
        """Wait until each site has everything of the other sites; return the seconds of the wait.

        A marker row at each site comes after everything written so far, as binlogs are in order.
        """
        begun = time.monotonic()
        for origin, site in self.box.sites.items():
            marker = str(uuid4())
            site.query(f"REPLACE INTO `{schema}`.marker VALUES (%s, %s)", (origin, marker), "app")
            for target in self.box.sites:
                self._wait(schema, origin, target, marker)
        return time.monotonic() - begun

    def _wait(self, schema: str, origin: str, target: str, marker: str) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        select = f"SELECT v FROM `{schema}`.marker WHERE site = %s"
        with self.box.sites[target].connect("root") as conn, conn.cursor() as cursor:
            while not cursor.execute(select, (origin,)) or cursor.fetchall() != ((marker,),):
                if self._process is not None and self._process.poll() is not None:
                    raise AssertionError(f"the daemon ended: {self.tail()}")
                if time.monotonic() > deadline:
                    raise AssertionError(f"{origin} to {target} hangs: {self.tail()}")
                time.sleep(_POLL_S)

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-3000:] if self.log.exists() else ""


def forget_streams(box: Sandbox) -> None:
    """Delete the streams that earlier tests left at shared servers."""
    for site in box.sites.values():
        for table in ("ledger", "site_uuid", "skip"):
            site.query(f"DELETE FROM drc.{table}")


def make_marker(box: Sandbox, schema: str) -> None:
    """Create the schema and the marker table everywhere, outside the binlogs."""
    for site in box.sites.values():
        with site.connect("root") as conn, conn.cursor() as cursor:
            cursor.execute("SET SESSION sql_log_bin = 0")
            cursor.execute(f"CREATE DATABASE `{schema}`")
            cursor.execute(
                f"CREATE TABLE `{schema}`.marker (site VARCHAR(9) PRIMARY KEY, v CHAR(36))"
            )


StartDaemon = Callable[..., Daemon]


@pytest.fixture
def daemon(tmp_path: Path, schema: str) -> Iterator[StartDaemon]:
    """Return a function that starts a daemon over a pair, from now on, for the test's schema."""
    started: list[Daemon] = []

    def start(box: Sandbox, **options: Any) -> Daemon:
        path = box.write_config(
            tmp_path / "pair.toml", ConfigSpec(schemas=[schema], start="now", **options)
        )
        assert drc_command(["migrate", "-c", str(path)]) == 0
        forget_streams(box)
        make_marker(box, schema)
        one = Daemon(box, path).start()
        started.append(one)
        deadline = time.monotonic() + _PATIENCE_S
        names = list(box.sites)
        while any(
            not box.sites[t].query("SELECT 1 FROM drc.ledger WHERE origin = %s LIMIT 1", (o,))
            for t in names
            for o in names
            if o != t
        ):
            assert time.monotonic() < deadline, one.tail()
            time.sleep(_POLL_S)
        return one

    yield start
    for one in started:
        one.end()


StartDaemons = Callable[..., dict[str, Daemon]]


@pytest.fixture
def daemons(daemon: StartDaemon) -> Iterator[StartDaemons]:
    """Return a function that starts a separate daemon for each site, as operators do with Kafka."""
    started: list[Daemon] = []

    def start(box: Sandbox, **options: object) -> dict[str, Daemon]:
        together = daemon(box, **options)  # runs until every stream has begun
        assert together.stop() == 0, together.tail()
        out = {site: Daemon(box, together.path, site).start() for site in box.sites}
        started.extend(out.values())
        return out

    yield start
    for one in started:
        one.end()


# ------------------------------------------------------------ load


class Sysbench:
    """sysbench against a site, in the background."""

    def __init__(
        self,
        site: SandboxSite,
        schema: str,
        *,
        rows: int,
        tables: int = 2,
        compress: bool = False,
    ) -> None:
        self._site = site
        script = Path(__file__).with_name("oltp_range.lua")
        self._command = [
            *fetch_tool("sysbench"),
            str(script),
            f"--mysql-socket={site.socket}",
            "--mysql-user=app",
            f"--mysql-password={site.password('app')}",
            f"--mysql-db={schema}",
            f"--tables={tables}",
            f"--table-size={rows}",
            "--mysql-ignore-errors=1213,1205",
            f"--compress={'on' if compress else 'off'}",
        ]
        self._process: subprocess.Popen[str] | None = None

    def prepare(self) -> None:
        done = subprocess.run([*self._command, "prepare"], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self, seconds: float, *, offset: int = 0, threads: int = 8, rate: int = 0) -> None:
        self._process = subprocess.Popen(
            [
                *self._command,
                f"--threads={threads}",
                f"--time={int(seconds)}",
                f"--id-offset={offset}",
                f"--rate={rate}",
                "run",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def running(self) -> bool:
        assert self._process is not None
        return self._process.poll() is None

    def finish(self) -> dict[str, int]:
        """Wait for the end; return the transactions and deadlocks that the clients saw."""
        assert self._process is not None
        out, _ = self._process.communicate()
        assert self._process.returncode == 0, out
        numbers = {}
        for name, key in (("transactions:", "transactions"), ("ignored errors:", "deadlocks")):
            line = next(x for x in out.splitlines() if name in x)
            numbers[key] = int(line.split(name)[1].split()[0])
        return numbers


class Unending:
    """A load that runs until told to end, however slow the machine is."""

    def __init__(self, load: Sysbench, offset: int, *, rate: int = 0) -> None:
        self._load, self._offset, self._rate = load, offset, rate
        self._end = threading.Event()
        self._told = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._end.is_set():
            self._load.start(3, offset=self._offset, rate=self._rate)
            self._told += self._load.finish()["transactions"]

    def finish(self) -> int:
        """Return how many transactions the server acknowledged to the clients."""
        self._end.set()
        self._thread.join()
        return self._told


def assert_identical(box: Sandbox, schema: str) -> None:
    """Compare every row, and the checksum of every table."""
    first, *others = box.sites.values()
    for other in others:
        with first.connect("app") as a, other.connect("app") as b:
            found = compare(a, b, schemas=[schema])
        assert found
        wrong = [c for c in found if not (c.identical and c.checksums_equal)]
        assert not wrong, wrong


def wait_until(condition: Callable[[], object], *shown: Daemon, wait_s: float) -> None:
    """Wait until a condition holds; on failure show the ends of the daemons' logs."""
    deadline = time.monotonic() + wait_s
    while not condition():
        assert time.monotonic() < deadline, "\n".join(daemon.tail() for daemon in shown)
        time.sleep(_POLL_S)
