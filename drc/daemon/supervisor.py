"""The supervisor: a child process for each site, started again when the child dies. A loop.

1. A child is started again only after trouble that passes without help: death by a signal, and
   exit code TEMPORARY. Any other end waits for an operator, while the other sites go on.
2. Children never outlive this process, even if this process is killed, because the kernel ends
   each child with the thread that started the child (``child.py``).
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import structlog

from drc.daemon.child import child_command

TEMPORARY = 75  # EX_TEMPFAIL of sysexits.h: trouble of a child that passes without help
_BACKOFF_FIRST_S, _BACKOFF_MAX_S = 1.0, 30.0
_STEADY_S = 60.0  # a child that lived this long starts with the first backoff again

log = structlog.get_logger("drc.supervisor")


class Supervisor:
    """Run ``drc run --site NAME`` for each name until stopped.

    :param stop: an event; once set, all children commit the work in flight and end.
    :param drain_s: seconds that the children may take to end.
    """

    def __init__(
        self, config_path: Path, sites: Sequence[str], stop: threading.Event, drain_s: float
    ) -> None:
        self._config_path = config_path
        self._sites = sites
        self._stop = stop
        self._drain_s = drain_s
        self._lock = threading.Lock()
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._codes: dict[str, int] = {}

    def run(self) -> int:
        """Run the children; return the worst exit code once no child is left."""
        threads = [
            threading.Thread(target=self._keep, args=(site,), name=f"keep-{site}", daemon=True)
            for site in self._sites
        ]
        for thread in threads:
            thread.start()
        while not self._stop.is_set() and any(t.is_alive() for t in threads):
            self._stop.wait(0.2)  # no join, as a signal must be able to interrupt
        self._stop.set()
        self._end(threads)
        return max(self._codes.values(), default=0)

    def _keep(self, site: str) -> None:
        backoff, first = _BACKOFF_FIRST_S, True
        while True:
            begun = time.monotonic()
            with self._lock:
                if self._stop.is_set():
                    return
                child = self._children[site] = self._spawn(site, checked=first)
            code, first = child.wait(), False
            temporary = code < 0 or code == TEMPORARY
            self._codes[site] = 1 if temporary else code
            if self._stop.is_set() or not temporary:
                self._note_end(site, code)
                return
            if time.monotonic() - begun > _STEADY_S:
                backoff = _BACKOFF_FIRST_S
            log.warning("daemon of a site died, starting again", site=site, code=code)
            self._stop.wait(backoff)
            backoff = min(backoff * 2, _BACKOFF_MAX_S)

    def _note_end(self, site: str, code: int) -> None:
        if code:
            hint = "fix the error in its log, then start `drc run` again; other sites go on"
            log.error("daemon of a site ended", site=site, code=code, hint=hint)
        else:
            log.info("daemon of a site ended", site=site, code=code)

    def _spawn(self, site: str, *, checked: bool) -> subprocess.Popen[bytes]:
        command = child_command("run", "-c", str(self._config_path), "--site", site, "--supervised")
        if checked:
            command.append("--checked")
        # In a session of its own no child gets Ctrl-C: the signal reaches only this process, which
        # ends each child exactly once.
        return subprocess.Popen(command, start_new_session=True)

    def _end(self, threads: list[threading.Thread]) -> None:
        with self._lock:
            for child in self._children.values():
                if child.poll() is None:
                    child.terminate()
        deadline = time.monotonic() + self._drain_s
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        for site, child in self._children.items():
            if child.poll() is None:
                log.error("daemon of a site did not end in time, killed", site=site)
                child.kill()
        for thread in threads:
            thread.join()
