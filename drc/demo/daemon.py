"""The daemons under demonstration, as a user would start them. Edge.

With the direct log one ``drc run --all``, with Kafka one ``drc run --site`` for each datacenter.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from drc.config import Config, load
from drc.daemon.child import child_command
from drc.errors import DataError, DrcError, TransientError
from drc.state.store import Store
from drc.worker.snapshot import StreamSnapshot

_STOP_S = 45.0  # its own deadline for draining, and some
_LOG_LINES = 3


class SavedStream(NamedTuple):
    """A stream's snapshot, and when the daemon saved it."""

    said: StreamSnapshot
    saved_us: int


class Daemon:
    """What replicates by one configuration; ends when the thread that starts it does.

    ``log`` is the file that it writes to; ``command`` what a user would type.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config: Config = load(path)
        self.log = path.parent / "daemon.log"
        self._store = Store(self.config.state_url, self.config.state_password())
        kafka = self.config.log == "kafka"
        self._runs = [("--site", name) for name in self.config.sites] if kafka else [("--all",)]
        self.command = " and ".join(" ".join(("drc run", *run)) for run in self._runs)
        self._processes: list[subprocess.Popen[bytes]] = []

    def migrate(self) -> None:
        """Run ``drc migrate``, with a new checkpoint store.

        :raises TransientError: it failed, with what it said.
        """
        for file in self.path.parent.glob("*.state.db*"):
            file.unlink()  # hints of an earlier run would be taken for this one's
        command = [sys.executable, "-m", "drc.cli", "migrate", "-c", str(self.path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise TransientError(f"drc migrate: {(done.stdout + done.stderr).strip()}")

    def start(self) -> None:
        """Start it; its log begins anew."""
        self.log.unlink(missing_ok=True)
        with open(self.log, "ab") as log:
            self._processes = [
                subprocess.Popen(
                    child_command("run", *run, "-c", str(self.path)),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # ^C is ours: we stop it when all is counted
                )
                for run in self._runs
            ]

    def streams(self) -> dict[tuple[str, str], SavedStream]:
        """Return the newest snapshot of each stream, by (origin, target)."""
        return {
            (stream.origin, stream.target): SavedStream(stream, status.saved_us)
            for status in self._store.statuses().values()
            for stream in status.streams
        }

    def check(self) -> None:
        """Raise if it has ended, or one of its streams has stopped for good.

        :raises DrcError: what stopped it.
        """
        for stream, _ in self.streams().values():
            error = stream.error
            if stream.state == "stopped" and error:
                raise DataError(
                    f"{stream.origin} → {stream.target} stopped: {error.message}",
                    gtid=error.gtid,
                    table=error.table,
                    hint=f"the log is {self.log}; `drc demo --fresh` starts over",
                )
        for process in self._processes:
            if process.poll() is not None:
                raise _ended(process.returncode, self.log)

    def stop(self) -> int:
        """Let it drain and end; return its worst exit code, 0 when it never ran."""
        processes, self._processes = self._processes, []
        for process in processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        return max((_wait(process) for process in processes), key=abs, default=0)


def _wait(process: subprocess.Popen[bytes]) -> int:
    try:
        return process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _ended(code: int, log: Path) -> DrcError:
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_LINES:])
    return TransientError(
        f"the daemon ended with code {code}, last it said:\n{tail}\n",
        stage="demo",
        hint=f"the log is {log}; `drc demo --fresh` starts over",
    )
