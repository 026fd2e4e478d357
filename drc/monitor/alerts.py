"""Alerts: snapshots of a site in, notes for an operator out. Pure.

1. A condition that comes and goes is a single alert, not many: a condition becomes an alert after
   a time of its own, and is over after ``clear_s`` without the condition.
2. Each alert is raised once, repeated every ``repeat_s``, and resolved once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from msgspec.structs import replace

from drc.config import AlertsConfig
from drc.worker.snapshot import Alert, Snapshot, StreamSnapshot, WatcherSnapshot

_SECOND_US = 1_000_000
_ENDED = ("stopped", "need_reseed")
CANARIES_MISSED = 3  # a canary may wait for a lock, and the next for a daemon that restarts

Event = Literal["raised", "repeated", "resolved", "test"]


class Note(NamedTuple):
    """An alert and the event to post, such as ``raised``."""

    event: Event
    alert: Alert


class _Condition(NamedTuple):
    """A condition that is wrong now, and becomes an alert after ``after_s`` seconds."""

    alert: Alert
    after_s: float


@dataclass
class _Known:
    """A known condition.

    :param last_us: when the condition was wrong last.
    :param posted_us: when the newest note was posted; 0 until the condition becomes an alert.
    """

    alert: Alert
    last_us: int
    posted_us: int = 0


class Alerts:
    """The alerts of a site, from one second to the next."""

    def __init__(self, config: AlertsConfig) -> None:
        self._config = config
        self._known: dict[str, _Known] = {}

    @property
    def current(self) -> list[Alert]:
        """Return the alerts that are raised and not resolved."""
        return [known.alert for known in self._known.values() if known.posted_us]

    def look(self, site: str, snapshot: Snapshot, now_us: int) -> list[Note]:
        """Take in a snapshot; return the notes to post."""
        out: list[Note] = []
        raised = {id_ for id_, known in self._known.items() if known.posted_us}
        for alert, after_s in _conditions(self._config, site, snapshot, raised, now_us):
            known = self._known.setdefault(alert.id, _Known(alert, now_us))
            since_us = min(known.alert.since_us, alert.since_us)
            known.alert, known.last_us = replace(alert, since_us=since_us), now_us
            if not known.posted_us and now_us - since_us >= after_s * _SECOND_US:
                known.posted_us = now_us
                out.append(Note("raised", known.alert))
            elif known.posted_us and now_us - known.posted_us >= self._config.repeat_s * _SECOND_US:
                known.posted_us = now_us
                out.append(Note("repeated", known.alert))
        for id_, known in list(self._known.items()):
            # A condition that never became an alert is forgotten at once: its time begins again.
            clear_us = self._config.clear_s * _SECOND_US if known.posted_us else 1
            if now_us - known.last_us >= clear_us:
                del self._known[id_]
                if known.posted_us:
                    out.append(Note("resolved", known.alert))
        return out


def _conditions(
    config: AlertsConfig, site: str, said: Snapshot, raised: set[str], now_us: int
) -> Iterator[_Condition]:
    for one in said.streams:
        yield from _stream(config, site, one, raised, now_us)
    for kind, other in (("publisher", said.publisher), ("watcher", said.watcher)):
        if other and other.state in _ENDED:
            hint = f"; {other.error.hint}" if other.error and other.error.hint else ""
            sentence = f"the {kind} of {site} is {other.state}: {other.reason}{hint}"
            command = f"drc run --site {site}"
            yield _Condition(
                Alert(f"{site}/{kind}", "page", site, "", now_us, sentence, command), 0
            )
    if said.watcher:
        yield from _index(config, site, said.watcher, now_us)


def _index(
    config: AlertsConfig, site: str, said: WatcherSnapshot, now_us: int
) -> Iterator[_Condition]:
    """Yield the conditions of the index of concurrent writes."""
    late, forgotten = said.late_conflicts, said.forgotten
    if late > config.late_conflicts_max:
        sentence = (
            f"{late} rows were written at {site} between a certificate and the commit of the"
            " certified batch: the server's binlog does not follow its locks"
        )
        yield _Condition(
            Alert(f"{site}/late", "page", site, "", now_us, sentence, "drc conflicts list"), 0
        )
    if forgotten or said.spill_error:
        why = said.spill_error or "conflicts.index_spill_bytes_max is reached"
        sentence = (
            f"the index of {site} cannot hold more on disk ({why}) and has forgotten"
            f" {forgotten:,} transactions: a stream of a peer that has not seen these stops"
        )
        yield _Condition(
            Alert(f"{site}/index", "warn", site, "", now_us, sentence, "drc status"), 0
        )


def _stream(
    config: AlertsConfig, site: str, one: StreamSnapshot, raised: set[str], now_us: int
) -> Iterator[_Condition]:
    origin, target = one.origin, one.target
    name, held = f"{origin}->{target}", one.blocked
    if held:
        what = held.what
        # The id does not name the holder, because a server that goes away changes the holder.
        # A stream that stopped without an error was stopped by an operator, like a long pause.
        if what in _ENDED and one.error:
            kind = "stopped"
        else:
            kind = "paused" if what == "paused" or what in _ENDED else "blocked"
        after_s = {"stopped": 0.0, "paused": config.paused_s, "blocked": config.blocked_s}[kind]
        sentence = f"{origin} → {target}: {held.sentence}"
        alert = Alert(
            f"{name}/{kind}",
            "warn" if kind == "paused" else "page",
            site,
            name,
            held.since_us,
            sentence,
            held.command,
        )
        yield _Condition(alert, after_s)
    yield from _canary(config, site, one, now_us)
    behind = one.behind.seconds or 0.0
    id_ = f"{name}/behind"
    # A raised alert stays until the backlog is half the limit.
    if behind > config.behind_s / (2 if id_ in raised else 1):
        sentence = f"{origin} → {target} is {behind:.0f} s behind"
        yield _Condition(Alert(id_, "warn", site, name, now_us, sentence, "drc status"), 0)


def _canary(
    config: AlertsConfig, site: str, one: StreamSnapshot, now_us: int
) -> Iterator[_Condition]:
    canary = one.canary
    if not canary:
        return
    origin, target = one.origin, one.target
    name = f"{origin}->{target}"
    if canary.bounced:
        sentence = (
            f"{origin} → {target}: a change of {target} came back from {origin} to {target}:"
            " replicated transactions are shipped again"
        )
        command = f"drc pause {origin} {target}"
        yield _Condition(Alert(f"{name}/bounced", "page", site, name, now_us, sentence, command), 0)
    landed_us, every_s = canary.landed_us, canary.every_s
    late_s = CANARIES_MISSED * every_s
    # The hold of a stream is an alert of its own.
    if one.blocked or (landed_us and now_us - landed_us < late_s * _SECOND_US):
        return
    sentence = (
        f"{origin} → {target}: the canary that {origin} sends each {every_s:.0f} s does not land"
    )
    command = f"drc run --site {origin}"
    alert = Alert(f"{name}/canary", "warn", site, name, landed_us or now_us, sentence, command)
    yield _Condition(alert, config.behind_s + late_s)
