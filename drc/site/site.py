"""A site: the streams into the site, the watcher, the publisher, and the snapshot of all.

A worker that needs an operator stops alone; the other workers go on. The site ends on a stop, or
when no worker is left. A site that serves HTTP stays up without workers, so that operators can
read why each worker stopped and start the worker again.
"""

from __future__ import annotations

import resource
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from msgspec.structs import replace

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
from drc.worker.snapshot import SavedSnapshot, Snapshot
from drc.worker.wanted import Wanted

if TYPE_CHECKING:
    from drc.kafka.publisher import Publisher

_SNAPSHOT_S = 1.0
# A transaction passes three threads here. With Python's default of 5 ms a busy thread makes the
# next thread wait that long: at 1,000 transactions/s, measured, p99 lag fell from 32 to 10 ms.
_SWITCH_S = 0.0005
_BACKLOG_BYTES = 1 << 20  # waiting here of a peer: far more than while the stream keeps up


class Store(Protocol):
    """The checkpoint store, as a site uses the store: snapshots, lags and wanted states.

    All of these are hints and may be deleted at any time.
    """

    def save_status(self, site: str, status: Snapshot) -> None: ...

    def save_lag(self, buckets: Sequence[Bucket]) -> None: ...

    def wanted(self, site: str) -> dict[str, Wanted]: ...

    def statuses(self) -> dict[str, SavedSnapshot]: ...


class Site:
    """Apply every peer's changes at ``name``, and publish the changes of ``name``.

    ``streams`` are by origin. ``watcher`` is None if conflict detection is switched off.

    :param stop: an event; once set, all workers commit the work in flight and end.
    :param epoch: returns the epoch of the site's lease; no session begins while the call raises.
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
                self.streams[origin].permit.wanted = wanted
        self._publisher = _publisher(config, name, stop, self.watcher, self._behind)
        for worker in (*self.streams.values(), self.watcher, self._publisher):
            if worker:
                worker.epoch = epoch
        self._alerts = Alerts(config.alerts)
        self._threads: dict[str, threading.Thread] = {}
        self._errors: dict[str, DrcError] = {}

    def run(self) -> None:
        """Work until stopped.

        :raises DrcError: the worst error that ended a worker, once no worker is left.
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
            if not self._stop.is_set():  # no alerts about an end by request
                for note in self._alerts.look(self.name, said, said.updated_us):
                    webhook.tell(note)
            self._store.save_status(self.name, replace(said, alerts=self._alerts.current))
            self._store.save_lag(buckets)
            self._pause()
        for other in (beat, webhook, observer):
            other.close()
        self._store.save_status(self.name, self.snapshot())
        if self._errors:
            raise max(self._errors.values(), key=lambda e: e.exit_code)

    def begin(self, worker: Worker) -> None:
        """Start a worker that does not run: at the first start, or after an error."""
        thread = self._threads.get(worker.name)
        if thread is None or not thread.is_alive():
            self._errors.pop(worker.name, None)
            thread = threading.Thread(target=self._body, args=(worker,), name=worker.name)
            self._threads[worker.name] = thread
            thread.start()

    def snapshot(self) -> Snapshot:
        """Return the state of the site at this moment."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        publisher, watcher = self._publisher, self.watcher
        return Snapshot(
            updated_us=time.time_ns() // 1000,
            cpu_us=int((usage.ru_utime + usage.ru_stime) * 1e6),
            rss_bytes_max=usage.ru_maxrss * 1024,
            streams=[stream.progress.snapshot() for stream in self.streams.values()],
            publisher=publisher.progress.snapshot() if publisher else None,
            watcher=watcher.progress.snapshot() if watcher else None,
            alerts=self._alerts.current,
        )

    def _body(self, worker: Worker) -> None:
        try:
            worker.run()
        except DrcError as error:
            self._errors[worker.name] = error
        except BaseException as error:
            broke = InvariantError(f"{worker.name} cannot go on: {error!r}", site=self.name)
            worker.progress.stopped(broke)
            self._errors[worker.name] = broke
            raise

    def _behind(self) -> bool:
        return any(s.progress.intake.waiting_bytes >= _BACKLOG_BYTES for s in self.streams.values())

    def _works(self) -> bool:
        return any(thread.is_alive() for thread in self._threads.values())

    def _pause(self) -> None:
        """Wait until the next snapshot is due, or until no worker runs any more."""
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
    from drc.kafka.publisher import Publisher  # load the Kafka library only for Kafka

    return Publisher(config, site, stop, watcher.tee if watcher else None, behind)
