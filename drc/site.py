"""One site: every stream into it, its watcher and publisher, and the snapshot that tells of them.

What needs a person stops; the others go on. The site ends when it is told to, or when nothing
is left.
"""

from __future__ import annotations

import resource
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from drc.config import Config
from drc.conflict.live import LiveIndex
from drc.conflict.watcher import Watcher
from drc.errors import DrcError, InvariantError
from drc.monitor.history import Bucket
from drc.monitor.observer import Observer
from drc.sessions import Worker
from drc.stream import Stream

if TYPE_CHECKING:
    from drc.log.publisher import Publisher

_SNAPSHOT_S = 1.0
# A transaction passes three threads here. With Python's default of 5 ms a busy one makes the
# next wait that long: measured at 1,000 trx/s, p99 lag fell from 32 to 10 ms.
_SWITCH_S = 0.0005


Snapshot = dict[str, Any]  # JSON-ready; docs/operations/status-json.md


class Store(Protocol):
    """Where snapshots go: hints for people, never asked for what is applied."""

    def save_status(self, site: str, status: Snapshot) -> None: ...

    def save_lag(self, buckets: Sequence[Bucket]) -> None: ...


def run_site(
    config: Config,
    site: str,
    stop: threading.Event,
    store: Store,
    show: Callable[[Callable[[], Snapshot]], None] = lambda _: None,
) -> None:
    """Apply every peer's changes at ``site``, and publish its own, until stopped.

    :param show: is given a function that anybody may call at any time for a fresh snapshot.
    :raises DrcError: the worst of what stopped something for good, once nothing is left.
    """
    sys.setswitchinterval(_SWITCH_S)
    index, watcher = _watcher(config, site, stop)
    streams = [
        Stream(config, origin, site, stop, index) for origin in config.sites if origin != site
    ]
    publisher = _publisher(config, site, stop)
    errors: list[DrcError] = []
    show(lambda: _snapshot(streams, publisher, watcher))

    def body(worker: Worker) -> None:
        try:
            worker.run()
        except DrcError as error:
            errors.append(error)
        except BaseException as error:
            broke = InvariantError(f"{worker.name} broke: {error!r}", site=site)
            worker.progress.stopped(broke)
            errors.append(broke)
            raise

    others = [worker for worker in (watcher, publisher) if worker]
    workers: list[Worker] = [*streams, *others]
    threads = [threading.Thread(target=body, args=(w,), name=w.name) for w in workers]
    observer = Observer(
        config, site, [s.progress for s in streams], publisher.progress if publisher else None
    )
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        buckets = observer.tick()
        store.save_status(site, _snapshot(streams, publisher, watcher))
        store.save_lag(buckets)
        deadline = time.monotonic() + _SNAPSHOT_S
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
    observer.close()
    store.save_status(site, _snapshot(streams, publisher, watcher))
    if errors:
        raise max(errors, key=lambda e: e.exit_code)


def _watcher(
    config: Config, site: str, stop: threading.Event
) -> tuple[LiveIndex, Watcher] | tuple[None, None]:
    if not config.conflicts.detect:
        return None, None
    index = LiveIndex(site, config.sites, config.conflicts.index_slots_max)
    return index, Watcher(config, site, stop, index)


def _publisher(config: Config, site: str, stop: threading.Event) -> Publisher | None:
    if config.log != "kafka":
        return None
    from drc.log.publisher import Publisher  # its library is not loaded where it is not used

    return Publisher(config, site, stop)


def _snapshot(
    streams: list[Stream], publisher: Publisher | None, watcher: Watcher | None
) -> Snapshot:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "updated_us": time.time_ns() // 1000,
        "cpu_us": int((usage.ru_utime + usage.ru_stime) * 1e6),
        "rss_bytes_max": usage.ru_maxrss * 1024,
        "streams": [stream.progress.snapshot() for stream in streams],
        "publisher": publisher.progress.snapshot() if publisher else None,
        "watcher": watcher.progress.snapshot() if watcher else None,
    }
