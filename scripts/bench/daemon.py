"""A daemon under test: ``drc run --site`` in a separate process, as in production. Edge.

1. The CPU of the process is the CPU of the daemon alone, as no part of the daemon runs in the
   bench's process. The daemon ends with the bench's process.
2. The daemon counts as started at the log line "daemon started". At that moment Python has loaded
   all modules, the servers are checked, and the stream is about to connect for the first time.
"""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from bench.meter import cpu_s
from bench.servers import Servers
from drc.daemon.child import child_command
from drc.gtid import GtidSet
from drc.schema import ledger
from drc.schema.clock_note import clock_note
from drc.state.store import Store
from drc.worker.snapshot import StreamSnapshot

ROOT = Path(__file__).resolve().parents[2]
_POLL_S = 0.05  # more queries would take CPU from the target; the native replica gets none
_CATCH_UP_S = 1800.0
_STOP_S = 60.0


class Daemon:
    """A running daemon; as a context manager, ends the daemon at the end.

    :param site: the site of the daemon, ``s`` or ``t``.
    :param detect: whether the daemon detects conflicts.
    """

    def __init__(self, servers: Servers, site: str = "t", *, detect: bool = True) -> None:
        self._servers = servers
        self._site = site
        self._said: deque[str] = deque(maxlen=30)
        self._started = threading.Event()
        self.started_at = self.startup_cpu_s = 0.0
        self.process = subprocess.Popen(
            child_command(
                *("run", "--site", site, "-c"),
                str(servers.config_path if detect else servers.undetected_path),
            ),
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def __enter__(self) -> Daemon:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Return the process id."""
        return self.process.pid

    def _listen(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            if not self._started.is_set() and "daemon started" in line:
                self.started_at = time.monotonic()
                with contextlib.suppress(OSError):
                    self.startup_cpu_s = cpu_s(self.pid)
                self._started.set()
            self._said.append(line.rstrip())

    def wait_applied(self, wanted: GtidSet | None = None) -> None:
        """Wait until the target's ledger contains all native transactions of the source.

        :param wanted: GTIDs to wait for in place of all. With Kafka, a source whose daemon has
            stopped may have written more than the daemon has published.
        :raises RuntimeError: the daemon ended, or the wait took too long; the message has the end
            of the daemon's log.
        """
        needed = wanted or self._servers.native(self._servers.s)
        with self._servers.t.connect("root") as conn:

            def applied() -> bool:
                state = ledger.read(conn, "s")
                return state is not None and needed <= state.decided

            self._wait(applied)

    def wait_published(self) -> None:
        """Wait until the source's topic covers all native transactions of the source.

        :raises RuntimeError: as :meth:`wait_applied`.
        """
        from drc.kafka.frames import decode_chunk, decode_covered  # needed with Kafka only
        from drc.kafka.topic import open_topic

        needed = self._servers.native(self._servers.s)
        with contextlib.closing(open_topic(self._servers.config, "s")) as topic:
            begin, end = topic.ends()
            topic.seek(max(begin, end - 1))
            covered = GtidSet()

            def published() -> bool:
                nonlocal covered
                for message in topic.poll(_POLL_S):
                    covered = decode_covered(decode_chunk(message.value)) or covered
                return needed <= covered

            self._wait(published)

    def wait_noted(self) -> None:
        """Wait until the site's clock note contains all transactions of the site.

        A transaction gets into the note once the peer has decided the transaction, so the peer's
        daemon has to run. The next start of the site's daemon reads the binlog from the note on,
        not from further back.
        """
        site = self._servers.s if self._site == "s" else self._servers.t
        with site.connect("drc_source") as conn:

            def noted() -> bool:
                left = self._servers.executed(site) - clock_note(conn, self._site)[0]
                return len(left) <= 1  # the transaction that writes the note

            self._wait(noted)

    def _wait(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _CATCH_UP_S
        while not done():
            if self.process.poll() is not None:
                self._listener.join(1)
                raise RuntimeError("the daemon ended, end of its log:\n" + "\n".join(self._said))
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"drc did not catch up in {_CATCH_UP_S:.0f} s, end of its log:\n"
                    + "\n".join(self._said)
                )
            time.sleep(_POLL_S)

    def stop(self) -> StreamSnapshot | None:
        """End the daemon; return the last snapshot of its stream, or None if no snapshot exists."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._listener.join(1)
        said = Store(self._servers.config.state_url).statuses().get(self._site)
        return said.streams[0] if said and said.streams else None
