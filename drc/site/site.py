"""One site: every stream into it, its watcher and publisher, and the snapshot that tells of them.

What needs a person stops; the others go on. The site ends when it is told to, or when nothing
is left; while operators can reach it, it stays, to tell them why and to begin again.
"""

from __future__ import annotations

import resource
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from drc.config import Config
from drc.conflict.live import LiveIndex
from drc.conflict.segment import FileSegment, require_folder
from drc.conflict.spill import Spill
from drc.errors import DrcError, InvariantError
from drc.monitor.alerts import Alerts
from drc.monitor.beat import Beat
from drc.monitor.observer import Observer
from drc.monitor.webhook import Webhook
from drc.site.stream import Stream
from drc.site.watcher import Watcher
from drc.state.lag_history import Bucket
from drc.worker.sessions import Worker
from drc.worker.wanted import Wanted

if TYPE_CHECKING:
    from drc.kafka.publisher import Publisher

_SNAPSHOT_S = 1.0
# A transaction passes three threads here. With Python's default of 5 ms a busy one makes the
# next wait that long: measured at 1,000 trx/s, p99 lag fell from 32 to 10 ms.
_SWITCH_S = 0.0005
_BACKLOG_BYTES = 1 << 20  # of a peer's binlog that wait here: far more than come while it keeps up


Snapshot = dict[str, Any]  # JSON-ready; docs/operations/status-json.md


class Store(Protocol):
    """Where snapshots go, and what operators want of streams: hints, deletable at any time."""

    def save_status(self, site: str, status: Snapshot) -> None: ...

    def save_lag(self, buckets: Sequence[Bucket]) -> None: ...

    def wanted(self, site: str) -> dict[str, Wanted]: ...

    def statuses(self) -> dict[str, Snapshot]: ...


class Site:
    """Apply every peer's changes at ``name``, and publish its own.

    ``streams`` are by origin; ``watcher`` is None where no conflicts are looked for.

    :param stop: set it to let what is in flight commit and end.
    :param epoch: returns that of the site's lease; no session begins while it raises.
    """

    def __init__(
        self,
        config: Config,
        name: str,
        stop: threading.Event,
        store: Store,
        epoch: Callable[[], int] = lambda: 0,
    ) -> None:
        self._config, self.name, self._stop, self._store = config, name, stop, store
        self._stays = config.listen(name) is not None
        self.watcher: Watcher | None
        index, self.watcher = _watcher(config, name, stop)
        self.streams = {
            origin: Stream(config, origin, name, stop, index)
            for origin in config.sites
            if origin != name
        }
        for origin, wanted in store.wanted(name).items():
            if origin in self.streams:
                self.streams[origin].turn.wanted = wanted
        self._publisher = _publisher(config, name, stop, self.watcher, self._behind)
        for worker in (*self.streams.values(), self.watcher, self._publisher):
            if worker:
                worker.epoch = epoch
        self._alerts = Alerts(config.alerts)
        self._threads: dict[str, threading.Thread] = {}
        self._errors: dict[str, DrcError] = {}

    def run(self) -> None:
        """Work until stopped.

        :raises DrcError: the worst of what stopped something for good, once nothing is left.
        """
        sys.setswitchinterval(_SWITCH_S)
        publisher = self._publisher
        observer = Observer(
            self._config,
            self.name,
            [s.progress for s in self.streams.values()],
            publisher.progress if publisher else None,
            self._store.statuses().get(self.name),
        )
        webhook = Webhook(self._config.alerts, self._config.name)
        beat = Beat(self._config, self.name)
        others = [worker for worker in (self.watcher, publisher) if worker]
        for worker in (*self.streams.values(), *others):
            self.begin(worker)
        while self._works() or (self._stays and not self._stop.is_set()):
            buckets = observer.tick()
            said = self.snapshot()
            if not self._stop.is_set():  # what ends by request is nobody's alarm
                for note in self._alerts.look(self.name, said, said["updated_us"]):
                    webhook.tell(note)
            self._store.save_status(self.name, {**said, "alerts": self._raised()})
            self._store.save_lag(buckets)
            self._pause()
        for other in (beat, webhook, observer):
            other.close()
        self._store.save_status(self.name, self.snapshot())
        if self._errors:
            raise max(self._errors.values(), key=lambda e: e.exit_code)

    def begin(self, worker: Worker) -> None:
        """Let a worker run, if it does not: it has not yet, or an error has stopped it."""
        thread = self._threads.get(worker.name)
        if thread is None or not thread.is_alive():
            self._errors.pop(worker.name, None)
            thread = threading.Thread(target=self._body, args=(worker,), name=worker.name)
            self._threads[worker.name] = thread
            thread.start()

    def snapshot(self) -> Snapshot:
        """Return what there is to tell of this moment."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        publisher, watcher = self._publisher, self.watcher
        return {
            "updated_us": time.time_ns() // 1000,
            "cpu_us": int((usage.ru_utime + usage.ru_stime) * 1e6),
            "rss_bytes_max": usage.ru_maxrss * 1024,
            "streams": [stream.progress.snapshot() for stream in self.streams.values()],
            "publisher": publisher.progress.snapshot() if publisher else None,
            "watcher": watcher.progress.snapshot() if watcher else None,
            "alerts": self._raised(),
        }

    def _raised(self) -> list[dict[str, Any]]:
        return [alert._asdict() for alert in self._alerts.current]

    def _body(self, worker: Worker) -> None:
        try:
            worker.run()
        except DrcError as error:
            self._errors[worker.name] = error
        except BaseException as error:
            broke = InvariantError(f"{worker.name} broke: {error!r}", site=self.name)
            worker.progress.stopped(broke)
            self._errors[worker.name] = broke
            raise

    def _behind(self) -> bool:
        return any(s.progress.intake.waiting_bytes >= _BACKLOG_BYTES for s in self.streams.values())

    def _works(self) -> bool:
        return any(thread.is_alive() for thread in self._threads.values())

    def _pause(self) -> None:
        """Wait for the next snapshot's time, or until nothing works any more."""
        deadline = time.monotonic() + _SNAPSHOT_S
        for thread in list(self._threads.values()):
            thread.join(max(0.0, deadline - time.monotonic()))
        if self._stays and not self._works() and not self._stop.is_set():
            time.sleep(max(0.0, deadline - time.monotonic()))


def _watcher(
    config: Config, site: str, stop: threading.Event
) -> tuple[LiveIndex, Watcher] | tuple[None, None]:
    if not config.conflicts.detect:
        return None, None
    settings = config.conflicts
    spill = None
    if settings.index_spill_bytes_max:
        folder = Path(settings.index_spill_folder)
        require_folder(folder)
        spill = Spill(settings.index_spill_bytes_max, lambda: FileSegment(folder))
    index = LiveIndex(site, config.sites, settings.index_slots_max, spill)
    return index, Watcher(config, site, stop, index)


def _publisher(
    config: Config,
    site: str,
    stop: threading.Event,
    watcher: Watcher | None,
    behind: Callable[[], bool],
) -> Publisher | None:
    if config.log != "kafka":
        return None
    from drc.kafka.publisher import Publisher  # its library is not loaded where it is not used

    return Publisher(config, site, stop, watcher.tee if watcher else None, behind)
