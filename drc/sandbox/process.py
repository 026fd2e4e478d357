"""A server process of a sandbox: start, find again, stop, kill, freeze. Edge.

No other program's process is ever signalled, even if the file ``pid`` is stale: a process counts
as the server only if an argument of its command line is the server's marker.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from drc.errors import TransientError

_START_S = 90.0  # for a cold disk; a start usually takes 3 s
_STOP_S = 60.0
_POLL_S = 0.05
_PR_SET_PDEATHSIG = 1


class ServerProcess:
    """A server, running or not.

    :param folder: a folder of this server alone, for files and logs.
    :param marker: an argument of the server's command line that no other process has, for example
        ``--datadir=/tmp/box/a/data``.
    """

    logs: tuple[str, ...] = ("output.log",)  # files with the reason of a failed start, best first

    def __init__(self, name: str, folder: Path, port: int, marker: str) -> None:
        self.name = name
        self.folder = folder
        self.host = "127.0.0.1"
        self.port = port
        self._marker = marker
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Return the process id while the server runs, else None."""
        try:
            pid = int((self.folder / "pid").read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return None
        return pid if self._marker.encode() in command.split(b"\0") else None

    def spawn(
        self, command: Sequence[str], *, die_with_parent: bool, user: int | None = None
    ) -> None:
        """Start the process; do not wait until the server answers.

        :param user: number of the user and group to run as; None: as this process.
        """
        with open(self.folder / "output.log", "ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_die_with_parent if die_with_parent else None,
                user=user,
                group=user,
            )
        (self.folder / "pid").write_text(str(process.pid))
        self._process = process

    def wait_ready(self, timeout_s: float = _START_S) -> None:
        """Wait until the server answers.

        :raises TransientError: the process ended, or the server did not answer in time; the message
            has the end of the server's log.
        """
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self._process is not None and self._process.poll() is not None:
                break
            if self.answers():
                return
            time.sleep(_POLL_S)
        raise TransientError(
            f"server {self.name} did not start: {self._log_tail()}",
            hint=f"check {self.folder / self.logs[0]}",
        )

    def answers(self) -> bool:
        """Return True once the server can be used."""
        raise NotImplementedError

    def stop(self) -> None:
        """Shut the server down cleanly; kill the process if the server does not end in time."""
        self._signal(signal.SIGTERM)

    def kill9(self) -> None:
        """Kill the process without warning (SIGKILL), as a power cut would."""
        self._signal(signal.SIGKILL)

    def pause(self) -> None:
        """Freeze the process: connections stay open, but nothing answers."""
        if self.pid:
            os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen process go on."""
        if self.pid:
            os.kill(self.pid, signal.SIGCONT)

    def _signal(self, number: int) -> None:
        pid = self.pid
        if pid:
            os.kill(pid, number)
            os.kill(pid, signal.SIGCONT)  # a frozen process could not end
            deadline = time.monotonic() + _STOP_S
            while not _ended(pid):
                if time.monotonic() > deadline:
                    os.kill(pid, signal.SIGKILL)
                time.sleep(_POLL_S)
        if self._process is not None:  # a child of this process: reap the child
            self._process.wait() if self._process.pid == pid else self._process.poll()

    def _log_tail(self) -> str:
        for name in self.logs:
            path = self.folder / name
            if path.exists() and (text := path.read_text(errors="replace").strip()):
                return text[-600:]
        return "the logs are empty"


def _ended(pid: int) -> bool:
    """Return True once a process has released all resources; sockets are released last.

    Two earlier signs are not enough: the command line (:attr:`ServerProcess.pid`) is gone before,
    and so is the first thread, while other threads still hold the shared resources.
    """
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        return state in "ZX" and len(os.listdir(f"/proc/{pid}/task")) <= 1
    except OSError:
        return True


def free_port() -> int:
    """Return the number of a port on which nobody listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


_libc = ctypes.CDLL(None, use_errno=True)


def _die_with_parent() -> None:
    """Let the kernel kill the server when the parent process dies, even by SIGKILL."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
