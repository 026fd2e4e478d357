"""What holds a stream, in one sentence, and the command that helps. Pure: facts in, words out.

The first rule that fits is the one to say: a server that is away explains everything behind it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from drc.errors import DrcError

PATIENCE_S = 1.0  # a batch that waits longer than this is asked after
SLOW_S = 3.0  # one that works longer is worth a word
_DIAL_S = 3.0
_STAGES = {"read": "source", "fetch": "broker", "log": "broker"}


class Holder(NamedTuple):
    """The session that holds what we wait for; ``table`` is '' for a lock of the whole server."""

    table: str
    connection: int
    user: str
    seconds: float  # that its transaction has been open
    statement: str  # '' while it is idle


class Blocked(NamedTuple):
    """``what`` is one word for programs; ``sentence`` and ``command`` are for people."""

    what: str
    sentence: str
    command: str


@dataclass(frozen=True)
class Facts:
    """What is known of one stream; times are in seconds.

    ``places`` has host and port of each site; ``away`` why a server does not answer, by site;
    ``silent_s`` since the log brought anything; ``waited_s`` since anything was committed while
    there was something to commit; ``phase``, ``tables``, ``gtids`` and ``statement`` of what is
    under way at the target.
    """

    origin: str
    target: str
    places: dict[str, tuple[str, int]]
    state: str = "running"
    reason: str = ""
    error: DrcError | None = None
    away: dict[str, str] | None = None
    broker_away: str = ""
    silent_s: float = 0.0
    silence_max_s: float = 0.0  # 0: no log that ought to be heard
    waited_s: float = 0.0
    phase: str = ""
    table: str = ""
    transactions: int = 0
    gtids: str = ""
    statement: str = ""
    holder: Holder | None = None
    untold: bool = False  # the account may not ask who holds locks


def explain(facts: Facts) -> Blocked | None:
    """Return what holds the stream; None if nothing does."""
    return _ended(facts) or _away(facts) or _interrupted(facts) or _waiting(facts) or _silent(facts)


def _ended(facts: Facts) -> Blocked | None:
    origin, target, error = facts.origin, facts.target, facts.error
    if facts.state == "paused":
        why = f": {facts.reason}" if facts.reason else ""
        return Blocked("paused", f"paused by an operator{why}", f"drc resume {origin} {target}")
    if facts.state not in ("stopped", "need_reseed"):
        return None
    if error is None:
        why = facts.reason or "stopped by request"
        return Blocked("stopped", f"not running: {why}", f"drc start {origin} {target}")
    hint = error.hint or "`drc check` looks for the reason"
    where = f" of {error.table}" if error.table else f" in {error.gtid}" if error.gtid else ""
    sentence = f"stopped on an error{where}: {error.message}; {hint}"
    return Blocked(facts.state, sentence, f"drc start {origin} {target}")


def _away(facts: Facts) -> Blocked | None:
    away = facts.away or {}
    for what, site in (("target", facts.target), ("source", facts.origin)):
        if why := away.get(site):
            return Blocked(
                what, f"the server of {site} does not answer: {why}", _start(facts, site)
            )
    if facts.broker_away:
        sentence = f"no broker of {facts.origin}'s log answers: {facts.broker_away}"
        return Blocked("broker", sentence, f"systemctl start kafka  # at {facts.broker_away}")
    return None


def _interrupted(facts: Facts) -> Blocked | None:
    """Explain a session that ended, or does not begin."""
    error = facts.error
    if facts.state != "connecting" or (error is None and facts.waited_s < _DIAL_S):
        return None
    if error is None:
        why = facts.reason or "dialling"
        return Blocked("connecting", f"connecting for {facts.waited_s:.0f} s: {why}", "drc check")
    at = error.site or (facts.target if error.stage == "apply" else facts.origin)
    what = _STAGES.get(error.stage, "target" if at == facts.target else "source")
    hint = f"; {error.hint}" if error.hint else ""
    return Blocked(what, f"interrupted, and tried again: {error.message}{hint}", "drc check")


def _waiting(facts: Facts) -> Blocked | None:
    """Explain work that takes long."""
    waited = facts.waited_s
    if waited < PATIENCE_S:
        return None
    if held := facts.holder:
        busy = f"runs {held.statement!r}" if held.statement else "is idle"
        where = f"a lock on {held.table}" if held.table else "a lock on the whole server"
        sentence = (
            f"waits for {where}, which {held.user} has held for up to {held.seconds:.0f} s in"
            f" connection {held.connection} of {facts.target}, which {busy}"
        )
        return Blocked("lock", sentence, _client(facts, facts.target, f"KILL {held.connection}"))
    if waited < SLOW_S or not facts.phase:
        return None
    if facts.phase == "certify":
        sentence = f"the binlog of {facts.target} itself is read too slowly to certify a batch"
        return Blocked("watcher", f"{sentence}, for {waited:.0f} s", "drc status")
    if facts.untold:
        sentence = (
            f"a batch on {facts.table} has waited for {waited:.0f} s; who holds a lock cannot be"
            " told without SELECT on performance_schema"
        )
        grant = "GRANT SELECT ON performance_schema.* TO the applier account"
        return Blocked("table", sentence, _client(facts, facts.target, grant))
    if facts.statement:
        work = f"a schema change has run for {waited:.0f} s: {facts.statement}"
    else:
        kind = "transaction" if facts.transactions == 1 else "transactions"
        work = (
            f"{facts.transactions} {kind} ({facts.gtids}) have been at work on {facts.table or '?'}"
            f" for {waited:.0f} s"
        )
    command = _client(facts, facts.target, "SHOW FULL PROCESSLIST")
    return Blocked("table", f"{work} at {facts.target}", command)


def _silent(facts: Facts) -> Blocked | None:
    """Explain a log that brings nothing, though an idle site has frames, too."""
    if not facts.silence_max_s or facts.silent_s < facts.silence_max_s:
        return None
    sentence = (
        f"{facts.origin} has published nothing for {facts.silent_s:.0f} s, not even that it is"
        " idle: its daemon does not run, or cannot reach its log"
    )
    return Blocked("publisher", sentence, f"drc run --site {facts.origin}")


def _start(facts: Facts, site: str) -> str:
    host, port = facts.places[site]
    return f"systemctl start mysqld  # at {host}:{port}"


def _client(facts: Facts, site: str, sql: str) -> str:
    host, port = facts.places[site]
    return f'mysql -h {host} -P {port} -e "{sql}"'
