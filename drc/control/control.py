"""Orders of operators to one site's daemon. Edge.

1. One order at a time. Each is written to the audit with who gave it and why.
2. What is wanted of a stream is kept in the checkpoint store, so it outlives the daemon. The
   store is a hint here, too: without it all streams run.
3. What changes the truth, as giving up on transactions does, is written at the target itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import structlog

from drc import config as configuration
from drc import mysql
from drc.config import Config
from drc.conflict.function import load_all
from drc.control.reload import refuse_offline
from drc.control.reposition import Plan, plan
from drc.errors import ConfigError, DataError
from drc.gtid import GtidSet
from drc.monitor.document import Desired
from drc.schema import given_up
from drc.site.site import Site
from drc.site.stream import Stream
from drc.site.watcher import Watcher
from drc.state.store import Store
from drc.worker.snapshot import Snapshot
from drc.worker.wanted import Wanted, Will

Action = Literal["pause", "resume", "stop", "start", "restart"]
ACTIONS: tuple[Action, ...] = ("pause", "resume", "stop", "start", "restart")

_WILL: dict[Action, Will] = {"pause": "paused", "stop": "stopped"}
_REST_S = 20.0  # for what is in flight to commit, before an order is answered

log = structlog.get_logger("drc.control")


class Order(NamedTuple):
    """Who wants something, and why."""

    actor: str
    reason: str


class UnknownStreamError(ConfigError):
    """No such origin."""


class Control:
    """Give orders to a running site.

    :param path: the configuration file, for :meth:`reload`.
    """

    def __init__(self, path: Path, config: Config, site: Site, store: Store) -> None:
        self._path, self._config, self._site, self.store = path, config, site, store
        self._one = threading.Lock()
        store.save_revision(site.name, *_revision(config))

    @property
    def config(self) -> Config:
        """Return the configuration that holds now."""
        return self._config

    def snapshot(self) -> Snapshot:
        """Return the site's snapshot of this moment."""
        return self._site.snapshot()

    def desired(self) -> dict[str, Desired]:
        """Return the states that operators want of the site's streams, by stream."""
        wanted = {stream.name: stream.permit.wanted for stream in self._site.streams.values()}
        return {n: Desired(desired=w.state, reason=w.reason) for n, w in wanted.items()}

    def order(self, origin: str, action: Action, order: Order) -> dict[str, Any]:
        """Pause, stop, resume, start or restart a stream; return what became of it.

        A stream that pauses commits first what is in flight. To stop differs in its meaning alone:
        nobody expects a stream that was stopped to be near.

        :raises UnknownStreamError: nothing comes from ``origin`` here.
        """
        stream = self._stream(origin)
        if action not in ACTIONS:
            raise UnknownStreamError(f"no order {action!r}", hint=f"orders: {', '.join(ACTIONS)}")
        wanted = Wanted(_WILL.get(action, "running"), order.reason)
        if wanted.state == "running":
            wanted = Wanted()
        with self._one:
            self._note(action, stream, order)
            self.store.save_wanted(origin, self._site.name, wanted)
            with contextlib.ExitStack() as held:
                if action == "restart":
                    held.enter_context(stream.permit.withheld(_REST_S))
                stream.permit.wanted = wanted
            if wanted.state == "running":
                self._site.begin(stream)
                state = "connecting"
            elif stream.permit.rest(_REST_S):
                state = wanted.state
            else:
                state = stream.progress.state
        return {"stream": stream.name, "state": state, "desired": wanted.state}

    def skip(self, origin: str, text: str, order: Order) -> dict[str, Any]:
        """Give up on transactions of ``origin``: they are read, and not applied here.

        :param text: GTIDs that the origin has executed.
        :raises DataError: they are applied already, or unknown to the origin.
        """
        stream = self._stream(origin)
        _need_reason(order)
        gtids = GtidSet.parse(text)
        if not gtids:
            raise ConfigError(
                "no GTID given", hint="such as 3e11fa47-71ca-11e1-9e33-c80aa9429562:7"
            )
        found = plan(self._config, origin, self._site.name, text, count=False)
        if found.unknown:
            raise DataError(
                f"{origin} has not executed {found.unknown}", hint="see `drc status --json`"
            )
        if done := gtids - (found.skipped | found.lost):
            raise DataError(f"decided here already: {done}", hint="there is nothing to skip")
        with self._one, stream.permit.withheld(_REST_S):
            self._give_up(stream, gtids, order, "skip")
        self._site.begin(stream)
        return {"stream": stream.name, "skipped": str(gtids)}

    def reposition(
        self, origin: str, text: str, order: Order, *, dry_run: bool, force: bool
    ) -> dict[str, Any]:
        """Have a stream go on from another place; return the report of it.

        :param text: as of :func:`~drc.control.reposition.plan`.
        :raises DataError: it would do harm, and nobody insists.
        """
        stream = self._stream(origin)
        found = plan(self._config, origin, self._site.name, text)
        if dry_run:
            return {**found.document(), "done": False}
        _refuse_harm(found, order, force=force)
        with self._one, stream.permit.withheld(_REST_S):
            # What was in flight is decided by now, and more may be purged.
            found = plan(self._config, origin, self._site.name, str(found.to), count=False)
            _refuse_harm(found, order, force=force)
            if missing := found.skipped | found.lost:
                self._give_up(stream, missing, order, "reposition")
            else:
                self._note("reposition", stream, order, to=str(found.to))
            stream.read_again(found.begin)
        self._site.begin(stream)
        return {**found.document(), "done": True}

    def reload(self, order: Order) -> dict[str, Any]:
        """Take up the configuration file as it is now; return the keys that changed.

        :raises ConfigError: the file is wrong, or a key changed that needs a restart.
        """
        with self._one:
            config = configuration.load(self._path)
            changed = refuse_offline(self._config, config)
            load_all(config.conflicts.policies())
            if changed:
                self._take_up(config)
                self.store.save_revision(self._site.name, *_revision(config))
                self.store.note(
                    order.actor, "reload", self._site.name, order.reason, {"changed": changed}
                )
                log.info("configuration reloaded", changed=changed, actor=order.actor)
        return {"changed": changed}

    # ------------------------------------------------------------ parts

    def _take_up(self, config: Config) -> None:
        """Let the streams, and the index by which they are judged, go on under ``config``."""
        watcher = self._site.watcher
        workers: list[Stream | Watcher] = [*self._site.streams.values()]
        if watcher:
            workers.append(watcher)  # last, as what is in flight needs it
        with contextlib.ExitStack() as held:
            for worker in workers:
                held.enter_context(worker.permit.withheld(_REST_S))
            for worker in workers:
                worker.config = config
            self._config = config

    def _stream(self, origin: str) -> Stream:
        if stream := self._site.streams.get(origin):
            return stream
        known = ", ".join(self._site.streams)
        raise UnknownStreamError(
            f"nothing comes from {origin!r} to {self._site.name}", hint=f"origins here: {known}"
        )

    def _give_up(self, stream: Stream, gtids: GtidSet, order: Order, action: str) -> None:
        with contextlib.closing(mysql.connect(self._config, self._site.name, "applier")) as conn:
            mysql.tag_session(conn)
            origin = stream.progress.origin
            given_up.add(conn, origin, gtids, reason=order.reason, actor=order.actor)
        self._note(action, stream, order, skipped=str(gtids))

    def _note(self, action: str, stream: Stream, order: Order, **detail: Any) -> None:
        self.store.note(order.actor, action, stream.name, order.reason, detail)
        log.info(f"order: {action}", stream=stream.name, **order._asdict(), **detail)


def _refuse_harm(found: Plan, order: Order, *, force: bool) -> None:
    """Refuse what does harm, unless an operator insists and says why."""
    if refusal := found.refusal:
        if not (force and found.forcible):
            raise refusal
        _need_reason(order)


def _need_reason(order: Order) -> None:
    if not order.reason.strip():
        raise ConfigError(
            "transactions would be given up on",
            hint="say why: --reason TEXT; it goes into the audit",
        )


def _revision(config: Config) -> tuple[str, dict[str, Any]]:
    """Return the digest of a configuration, and itself; it names secrets and holds none."""
    document: dict[str, Any] = msgspec.to_builtins(config)
    return hashlib.sha256(msgspec.json.encode(document, order="sorted")).hexdigest(), document
