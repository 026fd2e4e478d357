"""The daemon under demonstration: ``drc run --all`` as a user would start it. Edge."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from drc.config import Config, load
from drc.errors import DataError, DrcError, TransientError
from drc.monitor.child import child_command
from drc.state.store import Store

_STOP_S = 45.0  # its own deadline for draining, and some
_LOG_LINES = 3


class Daemon:
    """``drc run --all`` over one configuration; ends when the thread that starts it does.

    ``log`` is the file that it writes to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config: Config = load(path)
        self.log = path.parent / "daemon.log"
        self._store = Store(self.config.state_url, self.config.state_password())
        self._process: subprocess.Popen[bytes] | None = None

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
        with open(self.log, "wb") as log:
            self._process = subprocess.Popen(
                child_command("run", "--all", "-c", str(self.path)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # ^C is ours: we stop it when all is counted
            )

    def streams(self) -> dict[tuple[str, str], dict[str, Any]]:
        """Return what each stream last said of itself, by (origin, target)."""
        return {
            (stream["origin"], stream["target"]): {**stream, "saved_us": status["saved_us"]}
            for status in self._store.statuses().values()
            for stream in status["streams"]
        }

    def check(self) -> None:
        """Raise if it has ended, or one of its streams has stopped for good.

        :raises DrcError: what stopped it.
        """
        assert self._process is not None
        for stream in self.streams().values():
            error = stream["error"]
            if stream["state"] == "stopped" and error:
                raise DataError(
                    f"{stream['origin']} → {stream['target']} stopped: {error['message']}",
                    gtid=error.get("gtid", ""),
                    table=error.get("table", ""),
                    hint=f"the log is {self.log}; `drc demo --fresh` starts over",
                )
        if self._process.poll() is not None:
            raise _ended(self._process.returncode, self.log)

    def stop(self) -> int:
        """Let it drain and end; return its exit code, 0 when it never ran."""
        process, self._process = self._process, None
        if process is None:
            return 0
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        return code


def _ended(code: int, log: Path) -> DrcError:
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_LINES:])
    return TransientError(
        f"the daemon ended with code {code}, last it said:\n{tail}\n",
        stage="demo",
        hint=f"the log is {log}; `drc demo --fresh` starts over",
    )
