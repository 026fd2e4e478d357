"""A daemon's process: waits until the sites are ready, runs a site under the lease, ends in time.

On SIGTERM or SIGINT the daemon commits the work in flight and ends within a deadline. A second
signal ends the process at once, which is safe: uncommitted work is rolled back and read again.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import structlog

from drc.config import Config
from drc.daemon.lease import Lease
from drc.errors import DrcError, InvariantError
from drc.monitor.report import Reporter
from drc.preflight import require_ready
from drc.worker.sessions import Halt

if TYPE_CHECKING:
    from drc.control.control import Control

DRAIN_S = 30.0  # conf/drc@.service allows more time before systemd kills

log = structlog.get_logger("drc.run")


def run_one(path: Path, config: Config, site: str, stop: threading.Event, *, checked: bool) -> None:
    # Imported late: the parent of --all needs none of these, which cost half a second of CPU.
    from drc.control.control import Control
    from drc.site.site import Site
    from drc.state.store import Store

    store = Store(config.state_url, config.state_password())
    with _web(config, site) as show:
        if not checked and not wait_ready(config, (site,), stop):
            return
        lease = Lease(config, site, stop)
        with _crashes() as crashed, contextlib.closing(lease):
            lease.start()
            while not (crashed or (halt := lease.wait()).is_set()):
                log.info("daemon started")
                running = Site(config, site, halt, Reporter(store), lease.epoch)
                show(Control(path, config, running, store))
                with _bounded(halt):
                    try:
                        running.run()
                    except DrcError as error:
                        if stop.is_set() or not halt.is_set():
                            raise
                        log.warning(error.message, **error.fields())  # another has the lease
                show(None)
                log.info("daemon stopped")
                if not halt.is_set():
                    break
    if crashed:
        raise InvariantError(
            f"a thread ended by {crashed[0]!r}", site=site, hint="report this bug with the log"
        )


@contextlib.contextmanager
def _web(config: Config, site: str) -> Iterator[Callable[[Control | None], None]]:
    """Serve HTTP if configured; yield a function that takes the running site, or None."""
    if not config.listen(site):
        yield lambda _: None
        return
    from drc.web.serve import serving  # not loaded while HTTP is switched off

    with serving(config, site) as show:
        yield show


def wait_ready(config: Config, sites: tuple[str, ...], stop: threading.Event) -> bool:
    """Wait until a daemon can work for ``sites``; return False if stopped before.

    A site that is away does not hold up the others: the wait is only for sites without which
    no work is possible. With Kafka, a reachable site is enough, because a daemon can publish and
    apply with the site's own server alone.
    """
    wanted = 1 if config.log == "kafka" else 2
    backoff, said = 1.0, set[tuple[str, str]]()
    while not stop.is_set():
        found = require_ready(config, sites)
        away = {f.site for f in found if f.kind == "reach" and f.setting != "Kafka"}
        for finding in found:
            if (finding.site, finding.found) not in said:
                said.add((finding.site, finding.found))
                log.warning(
                    "preflight",
                    site=finding.site,
                    setting=finding.setting,
                    found=finding.found,
                    wanted=finding.wanted,
                    hint=finding.fix,
                )
        if len(set(config.sites) - away) >= wanted and set(sites) - away:
            return True
        log.warning("waiting for sites to come back", away=sorted(away), retry_s=backoff)
        stop.wait(backoff)
        backoff = min(backoff * 2, config.source.reconnect_backoff_max_s)
    return False


@contextlib.contextmanager
def _crashes() -> Iterator[list[BaseException]]:
    """Collect exceptions that end threads, which Python would only print."""
    crashed: list[BaseException] = []
    before = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        crashed.append(args.exc_value or RuntimeError("unknown"))
        log.error(
            "a thread crashed",
            thread=args.thread.name if args.thread else "",
            exc_info=(args.exc_type, args.exc_value, args.exc_traceback),
        )

    threading.excepthook = hook
    try:
        yield crashed
    finally:
        threading.excepthook = before


@contextlib.contextmanager
def _bounded(halt: Halt) -> Iterator[None]:
    """End the process if the block does not end in time after ``halt``, as a link may hang."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(1.0):
            if halt.is_set() and not done.wait(DRAIN_S + 10):
                _overdue()

    threading.Thread(target=watch, name="overdue", daemon=True).start()
    try:
        yield
    finally:
        done.set()


def stop_on_signals(stop: threading.Event) -> None:
    def handle(number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()
        deadline = threading.Timer(DRAIN_S + 10, _overdue)
        deadline.daemon = True
        deadline.start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)


def _overdue() -> Any:
    log.error("the daemon did not end in time, exiting; uncommitted changes are rolled back")
    os._exit(1)
