"""Pass a site's snapshots on to the checkpoint store, and log what changed in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import structlog

from drc.control.wanted import Wanted
from drc.monitor.history import Bucket

log = structlog.get_logger("drc.site")


class _Store(Protocol):
    def save_status(self, site: str, status: dict[str, Any]) -> None: ...

    def save_position(self, origin: str, target: str, *, read_set: str, applied: str) -> None: ...

    def save_lag(self, buckets: Sequence[Bucket]) -> None: ...

    def wanted(self, site: str) -> dict[str, Wanted]: ...


class Reporter:
    """A store whose writes are also watched: each change of a stream's state is logged once."""

    def __init__(self, store: _Store) -> None:
        self._store = store
        self._seen: dict[str, tuple[str, str]] = {}

    def save_status(self, site: str, status: dict[str, Any]) -> None:
        """Log what changed, then save."""
        for stream in status.get("streams", ()):
            self._watch(stream)
            applied = str(stream.get("applied_set", ""))
            read = str(stream.get("read_set") or applied)
            self._store.save_position(stream["origin"], site, read_set=read, applied=applied)
        self._store.save_status(site, status)

    def save_lag(self, buckets: Sequence[Bucket]) -> None:
        """Save."""
        self._store.save_lag(buckets)

    def wanted(self, site: str) -> dict[str, Wanted]:
        """Ask."""
        return self._store.wanted(site)

    def _watch(self, stream: dict[str, Any]) -> None:
        name = f"{stream['origin']}->{stream['target']}"
        error = stream.get("error") or {}
        now = (str(stream["state"]), str(error.get("message", "")))
        if self._seen.get(name) == now:
            return
        self._seen[name] = now
        fields = {"stream": name, **{k: v for k, v in error.items() if k != "message"}}
        if stream["state"] == "running":
            log.info("stream is running", **fields)
        elif not error:
            log.info(f"stream is {stream['state']}", reason=stream.get("reason"), **fields)
        elif stream["state"] == "stopped":
            log.error("stream stopped", error=error["message"], **fields)
        else:
            log.warning("stream interrupted, trying again", error=error["message"], **fields)
