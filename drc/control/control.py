"""Control: carries out the commands of operators at one site's daemon. Edge.

1. One command runs at a time, and each command is in the audit with its author and reason.
2. The wanted state of a stream is in the checkpoint store and so outlives the daemon. The store
   is a hint here, too: without the store all streams run.
3. A command that changes the truth, such as giving up transactions, writes at the target itself.
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
_REST_S = 20.0  # for transactions in flight to commit, before a command is answered

log = structlog.get_logger("drc.control")


class Author(NamedTuple):
    """The author of a command, and the reason; both go into the audit."""

    actor: str
    reason: str


class UnknownStreamError(ConfigError):
    """The command names an origin, or an action, that does not exist here."""


class Control:
    """The commands to a running site.

    :param path: the configuration file, which :meth:`reload` reads again.
    """

    def __init__(self, path: Path, config: Config, site: Site, store: Store) -> None:
        self._path, self._config, self._site, self.store = path, config, site, store
        self._one = threading.Lock()
        store.save_revision(site.name, *_revision(config))

    @property
    def config(self) -> Config:
        """Return the configuration in force."""
        return self._config

    def snapshot(self) -> Snapshot:
        """Return the present snapshot of the site."""
        return self._site.snapshot()

    def desired(self) -> dict[str, Desired]:
        """Return the state that operators want, for each stream of the site, such as ``a->b``."""
        wanted = {stream.name: stream.permit.wanted for stream in self._site.streams.values()}
        return {n: Desired(desired=w.state, reason=w.reason) for n, w in wanted.items()}

    def command(self, origin: str, action: Action, author: Author) -> dict[str, Any]:
        """Pause, stop, resume, start or restart a stream; return the state that it reached.

        A stream first commits its transactions in flight, then pauses. ``stop`` does the same as
        ``pause`` and says that the stream will be away for longer.

        :return: such as ``{"stream": "a->b", "state": "paused", "desired": "paused"}``.
        :raises UnknownStreamError: no stream comes from ``origin``, or ``action`` is unknown.
        """
        stream = self._stream(origin)
        if action not in ACTIONS:
            raise UnknownStreamError(
                f"no command {action!r}", hint=f"commands: {', '.join(ACTIONS)}"
            )
        wanted = Wanted(_WILL.get(action, "running"), author.reason)
        if wanted.state == "running":
            wanted = Wanted()
        with self._one:
            self._note(action, stream, author)
            self.store.save_wanted(origin, self._site.name, wanted)
            with contextlib.ExitStack() as withheld:
                if action == "restart":
                    withheld.enter_context(stream.permit.withheld(_REST_S))
                stream.permit.wanted = wanted
            if wanted.state == "running":
                self._site.begin(stream)
                state = "connecting"
            elif stream.permit.rest(_REST_S):
                state = wanted.state
            else:
                state = stream.progress.state
        return {"stream": stream.name, "state": state, "desired": wanted.state}

    def skip(self, origin: str, text: str, author: Author) -> dict[str, Any]:
        """Give up transactions of ``origin``: the stream reads and never applies these here.

        :param text: GTIDs that the origin has executed, such as
            ``3e11fa47-71ca-11e1-9e33-c80aa9429562:7``.
        :raises DataError: a GTID is decided here already, or the origin never executed that GTID.
        """
        stream = self._stream(origin)
        _need_reason(author)
        gtids = GtidSet.parse(text)
        if not gtids:
            raise ConfigError(
                "no GTID is given",
                hint="name a GTID, such as 3e11fa47-71ca-11e1-9e33-c80aa9429562:7",
            )
        found = plan(self._config, origin, self._site.name, text, count=False)
        if found.unknown:
            raise DataError(
                f"{origin} has not executed {found.unknown}",
                hint="run `drc status --json`: `behind_set` has the undecided GTIDs",
            )
        if done := gtids - (found.skipped | found.lost):
            raise DataError(
                f"{done} is decided at {self._site.name} already",
                hint="name only the other GTIDs: a decided transaction needs no skip",
            )
        with self._one, stream.permit.withheld(_REST_S):
            self._give_up(stream, gtids, author, "skip")
        self._site.begin(stream)
        return {"stream": stream.name, "skipped": str(gtids)}

    def reposition(
        self, origin: str, text: str, author: Author, *, dry_run: bool, force: bool
    ) -> dict[str, Any]:
        """Let a stream go on from another place; return the report.

        :param text: the place, as of :func:`~drc.control.reposition.plan`.
        :param dry_run: report only.
        :param force: give up the transactions that the new place leaves out; needs a reason.
        :raises DataError: the new place would do harm, and ``force`` does not cover the harm.
        """
        stream = self._stream(origin)
        found = plan(self._config, origin, self._site.name, text)
        if dry_run:
            return {**found.document(), "done": False}
        _refuse_harm(found, author, force=force)
        with self._one, stream.permit.withheld(_REST_S):
            # Transactions in flight are decided by now, and the origin may have purged more.
            found = plan(self._config, origin, self._site.name, str(found.to), count=False)
            _refuse_harm(found, author, force=force)
            if missing := found.skipped | found.lost:
                self._give_up(stream, missing, author, "reposition")
            else:
                self._note("reposition", stream, author, to=str(found.to))
            stream.read_again(found.already_read)
        self._site.begin(stream)
        return {**found.document(), "done": True}

    def reload(self, author: Author) -> dict[str, Any]:
        """Read the configuration file again; return the keys that changed.

        :raises ConfigError: the file is not valid, or a changed key needs a restart.
        """
        with self._one:
            config = configuration.load(self._path)
            changed = refuse_offline(self._config, config)
            load_all(config.conflicts.policies())
            if changed:
                self._take_up(config)
                self.store.save_revision(self._site.name, *_revision(config))
                self.store.note(
                    author.actor, "reload", self._site.name, author.reason, {"changed": changed}
                )
                log.info("configuration reloaded", changed=changed, actor=author.actor)
        return {"changed": changed}

    # ------------------------------------------------------------ parts

    def _take_up(self, config: Config) -> None:
        """Let the streams, and the index that certifies their batches, go on under ``config``."""
        watcher = self._site.watcher
        workers: list[Stream | Watcher] = [*self._site.streams.values()]
        if watcher:
            workers.append(watcher)  # last: transactions in flight need the watcher
        with contextlib.ExitStack() as withheld:
            for worker in workers:
                withheld.enter_context(worker.permit.withheld(_REST_S))
            for worker in workers:
                worker.config = config
            self._config = config

    def _stream(self, origin: str) -> Stream:
        if stream := self._site.streams.get(origin):
            return stream
        known = ", ".join(self._site.streams)
        raise UnknownStreamError(
            f"no stream comes from {origin!r} to {self._site.name}",
            hint=f"name one of the origins here: {known}",
        )

    def _give_up(self, stream: Stream, gtids: GtidSet, author: Author, action: str) -> None:
        with contextlib.closing(mysql.connect(self._config, self._site.name, "applier")) as conn:
            mysql.tag_session(conn)
            origin = stream.progress.origin
            given_up.add(conn, origin, gtids, reason=author.reason, actor=author.actor)
        self._note(action, stream, author, skipped=str(gtids))

    def _note(self, action: str, stream: Stream, author: Author, **detail: Any) -> None:
        self.store.note(author.actor, action, stream.name, author.reason, detail)
        log.info(f"command: {action}", stream=stream.name, **author._asdict(), **detail)


def _refuse_harm(found: Plan, author: Author, *, force: bool) -> None:
    """Raise the refusal of a plan, unless an operator forces the plan and gives a reason.

    :raises DataError: the plan does harm, and is not forced or cannot be forced.
    :raises ConfigError: the plan is forced without a reason.
    """
    if refusal := found.refusal:
        if not (force and found.forcible):
            raise refusal
        _need_reason(author)


def _need_reason(author: Author) -> None:
    if not author.reason.strip():
        raise ConfigError(
            "cannot give up transactions without a reason",
            hint="add --reason TEXT; the reason goes into the audit",
        )


def _revision(config: Config) -> tuple[str, dict[str, Any]]:
    """Return the digest of a configuration, and the configuration as a document.

    The document names files and variables of secrets, and holds no secret.
    """
    document: dict[str, Any] = msgspec.to_builtins(config)
    return hashlib.sha256(msgspec.json.encode(document, order="sorted")).hexdigest(), document
