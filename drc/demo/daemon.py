"""The daemons of a demo, as a user would start them. Edge.

With transport ``direct`` ``drc run --all``; with Kafka a ``drc run --site`` per site.
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

_STOP_S = 45.0  # longer than the daemon's own deadline for draining
_LOG_LINES = 3


class SavedStream(NamedTuple):
    """A stream's snapshot, and the time of saving in microseconds since 1970."""

    said: StreamSnapshot
    saved_us: int


class Daemon:
    """The processes ``drc run`` of a configuration.

    The processes end when the thread that starts the processes ends.

    :ivar log: the file that the processes write to.
    :ivar command: the command line that a user would type.
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

        :raises TransientError: the command failed; the message has the command's output.
        """
        for file in self.path.parent.glob("*.state.db*"):
            file.unlink()  # the hints in the store are of an earlier run
        command = [sys.executable, "-m", "drc.cli", "migrate", "-c", str(self.path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise TransientError(f"`drc migrate` failed: {(done.stdout + done.stderr).strip()}")

    def start(self) -> None:
        """Start the processes, with an empty log file."""
        self.log.unlink(missing_ok=True)
        with open(self.log, "ab") as log:
            self._processes = [
                subprocess.Popen(
                    child_command("run", *run, "-c", str(self.path)),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # ^C reaches the demo alone, which stops the daemon
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
        """Raise if a process has ended or a stream has stopped on an error.

        :raises DrcError: the process ended, or the stream stopped; with the cause.
        """
        for stream, _ in self.streams().values():
            error = stream.error
            if stream.state == "stopped" and error:
                raise DataError(
                    f"{stream.origin} → {stream.target} stopped: {error.message}",
                    gtid=error.gtid,
                    table=error.table,
                    hint=f"check the log {self.log}; run `drc demo --fresh` to start over",
                )
        for process in self._processes:
            if process.poll() is not None:
                raise _ended(process.returncode, self.log)

    def stop(self) -> int:
        """Let the processes drain and end; return the worst exit code, or 0 if none was started."""
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
        f"the daemon ended with code {code}; the end of the log:\n{tail}\n",
        stage="demo",
        hint=f"check the log {log}; run `drc demo --fresh` to start over",
    )
