"""Pass a site's snapshots on to the checkpoint store, and log what changed in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import structlog

from drc.state.lag_history import Bucket
from drc.worker.wanted import Wanted

log = structlog.get_logger("drc.site")


class _Store(Protocol):
    def save_status(self, site: str, status: dict[str, Any]) -> None: ...

    def save_lag(self, buckets: Sequence[Bucket]) -> None: ...

    def wanted(self, site: str) -> dict[str, Wanted]: ...

    def statuses(self) -> dict[str, dict[str, Any]]: ...


class Reporter:
    """A store whose writes are also watched: each change of a state is logged once."""

    def __init__(self, store: _Store) -> None:
        self._store = store
        self._seen: dict[tuple[str, str], tuple[str, str]] = {}
        self._unspilled: dict[str, str] = {}  # by site, why

    def save_status(self, site: str, status: dict[str, Any]) -> None:
        """Log what changed, then save."""
        for kind in ("watcher", "publisher"):
            if other := status.get(kind):
                self._watch(kind, site, other)
        if watcher := status.get("watcher"):
            self._watch_spill(site, watcher)
        for stream in status.get("streams", ()):
            self._watch("stream", f"{stream['origin']}->{stream['target']}", stream)
        self._store.save_status(site, status)

    def save_lag(self, buckets: Sequence[Bucket]) -> None:
        """Save."""
        self._store.save_lag(buckets)

    def wanted(self, site: str) -> dict[str, Wanted]:
        """Ask."""
        return self._store.wanted(site)

    def statuses(self) -> dict[str, dict[str, Any]]:
        """Ask."""
        return self._store.statuses()

    def _watch(self, kind: str, name: str, said: dict[str, Any]) -> None:
        error = said.get("error") or {}
        now = (str(said["state"]), str(error.get("message", "")))
        if self._seen.get((kind, name)) == now:
            return
        self._seen[kind, name] = now
        fields = {kind: name, **{k: v for k, v in error.items() if k != "message"}}
        if said["state"] == "running":
            log.info(f"{kind} is running", **fields)
        elif not error:
            log.info(f"{kind} is {said['state']}", reason=said.get("reason"), **fields)
        elif said["state"] == "stopped":
            log.error(f"{kind} stopped", error=error["message"], **fields)
        else:
            log.warning(f"{kind} interrupted, trying again", error=error["message"], **fields)

    def _watch_spill(self, site: str, said: dict[str, Any]) -> None:
        """Log once why writes that memory has no room for are forgotten instead of spilled."""
        error = said.get("spill_error", "")
        if error and error != self._unspilled.get(site):
            log.warning(
                "the index of concurrent writes cannot spill to disk",
                site=site,
                error=error,
                forgotten=said["forgotten"],
            )
        self._unspilled[site] = error
