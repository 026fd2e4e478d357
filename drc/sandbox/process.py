"""A server process of a sandbox: started, found again, stopped, killed, frozen. Edge.

A process is ours only if its command line holds our marker: a stale pid file never makes us
signal a stranger.
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

_START_S = 90.0  # a cold disk; the usual is three seconds
_STOP_S = 60.0
_POLL_S = 0.05
_PR_SET_PDEATHSIG = 1


class ServerProcess:
    """One server; usable whether it runs or not.

    :param folder: its own; files and logs live there.
    :param marker: an argument of its command line that no other process has.
    """

    logs: tuple[str, ...] = ("output.log",)  # where it says why it did not start, best first

    def __init__(self, name: str, folder: Path, port: int, marker: str) -> None:
        self.name = name
        self.folder = folder
        self.host = "127.0.0.1"
        self.port = port
        self._marker = marker
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Return the process id while the server runs."""
        try:
            pid = int((self.folder / "pid").read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return None
        return pid if self._marker.encode() in command.split(b"\0") else None

    def spawn(
        self, command: Sequence[str], *, die_with_parent: bool, user: int | None = None
    ) -> None:
        """Start the process without waiting for it.

        :param user: whom to run it as, and as which group, by number; None: as ourselves.
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
        """Wait until it answers.

        :raises TransientError: it ended or did not, with the end of its log.
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
            hint=f"read {self.folder / self.logs[0]}",
        )

    def answers(self) -> bool:
        """Return True once the server can be used."""
        raise NotImplementedError

    def stop(self) -> None:
        """Shut it down cleanly; by force when it does not."""
        self._signal(signal.SIGTERM)

    def kill9(self) -> None:
        """Kill it as a power cut would."""
        self._signal(signal.SIGKILL)

    def pause(self) -> None:
        """Freeze it: links stay open, nothing answers."""
        if self.pid:
            os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        if self.pid:
            os.kill(self.pid, signal.SIGCONT)

    def _signal(self, number: int) -> None:
        pid = self.pid
        if pid:
            os.kill(pid, number)
            os.kill(pid, signal.SIGCONT)  # a frozen one could not end
            deadline = time.monotonic() + _STOP_S
            while not _ended(pid):
                if time.monotonic() > deadline:
                    os.kill(pid, signal.SIGKILL)
                time.sleep(_POLL_S)
        if self._process is not None:  # our child: reap it
            self._process.wait() if self._process.pid == pid else self._process.poll()

    def _log_tail(self) -> str:
        for name in self.logs:
            path = self.folder / name
            if path.exists() and (text := path.read_text(errors="replace").strip()):
                return text[-600:]
        return "it said nothing"


def _ended(pid: int) -> bool:
    """Return True once a process has let go of everything, its sockets last.

    Its command line is gone before that, so :attr:`ServerProcess.pid` is no answer; and its first
    thread is while others still hold what they share.
    """
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        return state in "ZX" and len(os.listdir(f"/proc/{pid}/task")) <= 1
    except OSError:
        return True


def free_port() -> int:
    """Return a port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


_libc = ctypes.CDLL(None, use_errno=True)


def _die_with_parent() -> None:
    """Let the kernel kill the server when the test process dies, however it dies."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
