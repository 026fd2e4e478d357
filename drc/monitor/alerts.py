"""What a person should hear of: snapshots of a site in, alerts out. Pure.

1. A condition is an alert once it has held for its time, and is over once it was away for
   ``clear_s``: what comes and goes is one alert, not many.
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
CANARIES_MISSED = 3  # one may wait for a lock, and one for a daemon that starts again

Event = Literal["raised", "repeated", "resolved", "test"]


class Note(NamedTuple):
    """Something to tell of an alert."""

    event: Event
    alert: Alert


class _Condition(NamedTuple):
    """Something that is wrong now; it is an alert after ``hold_s``."""

    alert: Alert
    hold_s: float


@dataclass
class _Known:
    """A condition that was seen; ``told_us`` is 0 until it is an alert."""

    alert: Alert
    seen_us: int
    told_us: int = 0


class Alerts:
    """The alerts of one site, from one second to the next."""

    def __init__(self, config: AlertsConfig) -> None:
        self._config = config
        self._known: dict[str, _Known] = {}

    @property
    def current(self) -> list[Alert]:
        """Return what is raised and not resolved."""
        return [known.alert for known in self._known.values() if known.told_us]

    def look(self, site: str, snapshot: Snapshot, now_us: int) -> list[Note]:
        """Take a snapshot in; return what is to be told."""
        out: list[Note] = []
        raised = {id_ for id_, known in self._known.items() if known.told_us}
        for alert, hold_s in _conditions(self._config, site, snapshot, raised, now_us):
            known = self._known.setdefault(alert.id, _Known(alert, now_us))
            since_us = min(known.alert.since_us, alert.since_us)
            known.alert, known.seen_us = replace(alert, since_us=since_us), now_us
            if not known.told_us and now_us - since_us >= hold_s * _SECOND_US:
                known.told_us = now_us
                out.append(Note("raised", known.alert))
            elif known.told_us and now_us - known.told_us >= self._config.repeat_s * _SECOND_US:
                known.told_us = now_us
                out.append(Note("repeated", known.alert))
        for id_, known in list(self._known.items()):
            # What was never told is forgotten at once: its time begins anew.
            clear_us = self._config.clear_s * _SECOND_US if known.told_us else 1
            if now_us - known.seen_us >= clear_us:
                del self._known[id_]
                if known.told_us:
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
    """Yield what is wrong with the index of concurrent writes."""
    late, forgotten = said.late_conflicts, said.forgotten
    if late > config.late_conflicts_max:
        sentence = (
            f"{late} rows were written at {site} between their certificate and its commit: the"
            " server's binlog does not follow its locks"
        )
        yield _Condition(
            Alert(f"{site}/late", "page", site, "", now_us, sentence, "drc conflicts list"), 0
        )
    if forgotten or said.spill_error:
        why = said.spill_error or "conflicts.index_spill_bytes_max is reached"
        sentence = (
            f"the index of {site} cannot hold more on disk ({why}) and has forgotten"
            f" {forgotten:,} transactions: a stream that comes back without having seen them stops"
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
        # One id whatever holds it: a server that goes away turns one reason into another. Without
        # an error an operator has stopped the stream: that is a long pause.
        if what in _ENDED and one.error:
            kind = "stopped"
        else:
            kind = "paused" if what == "paused" or what in _ENDED else "blocked"
        hold_s = {"stopped": 0.0, "paused": config.paused_s, "blocked": config.blocked_s}[kind]
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
        yield _Condition(alert, hold_s)
    yield from _canary(config, site, one, now_us)
    behind = one.behind.seconds or 0.0
    id_ = f"{name}/behind"
    # Once raised it stays until the backlog is half the limit.
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
            f"{origin} → {target}: a change of {target} came back to it from {origin}: what came by"
            " replication is not held back"
        )
        command = f"drc pause {origin} {target}"
        yield _Condition(Alert(f"{name}/bounced", "page", site, name, now_us, sentence, command), 0)
    landed_us, every_s = canary.landed_us, canary.every_s
    late_s = CANARIES_MISSED * every_s
    # What holds the stream is told as such.
    if one.blocked or (landed_us and now_us - landed_us < late_s * _SECOND_US):
        return
    sentence = (
        f"{origin} → {target}: the canary that {origin} sends each {every_s:.0f} s does not land"
    )
    command = f"drc run --site {origin}"
    alert = Alert(f"{name}/canary", "warn", site, name, landed_us or now_us, sentence, command)
    yield _Condition(alert, config.behind_s + late_s)
