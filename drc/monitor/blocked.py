"""Holds: explain why a stream does not apply, and name the command that helps. Pure.

The first rule that fits gives the explanation: a server that does not answer explains every
symptom that follows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from drc.errors import DrcError

PATIENCE_S = 1.0  # after which the server is asked for the lock that a batch waits for
SLOW_S = 3.0  # after which a batch that works without waiting is a hold
_DIAL_S = 3.0
_STAGES = {"read": "source", "fetch": "broker", "log": "broker"}


class Holder(NamedTuple):
    """The server session that holds the lock; ``table`` is '' for a lock of the whole server."""

    table: str
    connection: int
    user: str
    seconds: float  # age of the session's open transaction
    statement: str  # '' while the session is idle


class Blocked(NamedTuple):
    """A hold: ``what`` is a word for programs, ``sentence`` and ``command`` are for operators."""

    what: str
    sentence: str
    command: str


@dataclass(frozen=True)
class Facts:
    """The facts about a stream; times are in seconds.

    :param places: host and port of each site.
    :param away: for each server that does not answer, by site: the reason.
    :param broker_away: the brokers, such as ``k1:9092``, if none of the brokers answers.
    :param silent_s: time since the topic last brought a message.
    :param silence_max_s: the longest silence of an idle topic; 0 without a topic.
    :param waited_s: time since the last commit, while there was work to commit.
    :param phase: the phase of the batch in work, such as ``certify``.
    :param table: the table that the batch waits for or works on.
    :param gtids: the transactions of the batch, such as ``3e11fa47-…:7-9``.
    :param statement: the schema change in work.
    :param locks_hidden: whether the account lacks the right to ask who holds locks.
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
    silence_max_s: float = 0.0
    waited_s: float = 0.0
    phase: str = ""
    table: str = ""
    transactions: int = 0
    gtids: str = ""
    statement: str = ""
    holder: Holder | None = None
    locks_hidden: bool = False


def explain(facts: Facts) -> Blocked | None:
    """Return the hold of a stream; None if the stream applies."""
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
    hint = error.hint or "run `drc check` to look for the reason"
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
        sentence = f"no broker of {facts.origin}'s topic answers: {facts.broker_away}"
        return Blocked("broker", sentence, f"systemctl start kafka  # at {facts.broker_away}")
    return None


def _interrupted(facts: Facts) -> Blocked | None:
    """Return the hold of a stream whose session ended, or does not begin."""
    error = facts.error
    if facts.state != "connecting" or (error is None and facts.waited_s < _DIAL_S):
        return None
    if error is None:
        why = facts.reason or "dialling"
        return Blocked("connecting", f"connecting for {facts.waited_s:.0f} s: {why}", "drc check")
    at = error.site or (facts.target if error.stage == "apply" else facts.origin)
    what = _STAGES.get(error.stage, "target" if at == facts.target else "source")
    hint = f"; {error.hint}" if error.hint else ""
    return Blocked(what, f"interrupted, trying again: {error.message}{hint}", "drc check")


def _waiting(facts: Facts) -> Blocked | None:
    """Return the hold of a stream whose work takes long."""
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
    if facts.locks_hidden:
        sentence = (
            f"a batch on {facts.table} has waited for {waited:.0f} s; the holder of the lock is not"
            " known without SELECT on performance_schema"
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
    """Return the hold of a stream whose topic is silent: an idle site publishes frames, too."""
    if not facts.silence_max_s or facts.silent_s < facts.silence_max_s:
        return None
    sentence = (
        f"{facts.origin} has published nothing for {facts.silent_s:.0f} s, not even an idle frame:"
        f" the daemon of {facts.origin} does not run, or cannot reach Kafka"
    )
    return Blocked("publisher", sentence, f"drc run --site {facts.origin}")


def _start(facts: Facts, site: str) -> str:
    host, port = facts.places[site]
    return f"systemctl start mysqld  # at {host}:{port}"


def _client(facts: Facts, site: str, sql: str) -> str:
    host, port = facts.places[site]
    return f'mysql -h {host} -P {port} -e "{sql}"'
