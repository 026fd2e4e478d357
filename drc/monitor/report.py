"""Reporter: passes a site's snapshots on to the checkpoint store, and logs changes of state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import structlog

from drc.state.lag_history import Bucket
from drc.worker.snapshot import SavedSnapshot, Snapshot, WatcherSnapshot, WorkerSnapshot
from drc.worker.wanted import Wanted

log = structlog.get_logger("drc.site")


class _Store(Protocol):
    def save_status(self, site: str, status: Snapshot) -> None: ...

    def save_lag(self, buckets: Sequence[Bucket]) -> None: ...

    def wanted(self, site: str) -> dict[str, Wanted]: ...

    def statuses(self) -> dict[str, SavedSnapshot]: ...


class Reporter:
    """A checkpoint store that also logs each change of a worker's state once."""

    def __init__(self, store: _Store) -> None:
        self._store = store
        self._logged: dict[tuple[str, str], tuple[str, str]] = {}
        self._unspilled: dict[str, str] = {}  # the error of the spill, by site

    def save_status(self, site: str, status: Snapshot) -> None:
        """Log the changes since the last snapshot, then save the snapshot."""
        if status.watcher:
            self._watch("watcher", site, status.watcher)
            self._watch_spill(site, status.watcher)
        if status.publisher:
            self._watch("publisher", site, status.publisher)
        for stream in status.streams:
            self._watch("stream", f"{stream.origin}->{stream.target}", stream)
        self._store.save_status(site, status)

    def save_lag(self, buckets: Sequence[Bucket]) -> None:
        """Save buckets of the history of lag."""
        self._store.save_lag(buckets)

    def wanted(self, site: str) -> dict[str, Wanted]:
        """Return the states that operators want of a site's streams, by origin."""
        return self._store.wanted(site)

    def statuses(self) -> dict[str, SavedSnapshot]:
        """Return the saved snapshots by site."""
        return self._store.statuses()

    def _watch(self, kind: str, name: str, said: WorkerSnapshot) -> None:
        error = said.error
        now = said.state, error.message if error else ""
        if self._logged.get((kind, name)) == now:
            return
        self._logged[kind, name] = now
        fields = {kind: name, **(error.fields() if error else {})}
        if said.state == "running":
            log.info(f"{kind} is running", **fields)
        elif not error:
            log.info(f"{kind} is {said.state}", reason=said.reason, **fields)
        elif said.state == "stopped":
            log.error(f"{kind} stopped", error=error.message, **fields)
        else:
            log.warning(f"{kind} interrupted, trying again", error=error.message, **fields)

    def _watch_spill(self, site: str, said: WatcherSnapshot) -> None:
        """Log once the error because of which the index forgets writes instead of spilling."""
        error = said.spill_error
        if error and error != self._unspilled.get(site):
            log.warning(
                "the index of concurrent writes cannot spill to disk",
                site=site,
                error=error,
                forgotten=said.forgotten,
            )
        self._unspilled[site] = error
