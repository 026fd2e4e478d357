"""A user's function as a policy: what it is given, and what its answer means.

It is named ``module:name`` in a table's policy and asked where two concurrent writes of one row
meet, at both sites. So that both get one answer:

1. It is given the earlier and the later write, not the local and the remote one, and the row
   before both; values as the log shows them, read by one server's decoder, so that
   ``drc conflicts replay`` can ask again.
2. It is asked about two writes only. Where one write meets several, the site that applies it leaves
   the row open: no order of asking would be the same at both.
3. What it does not answer, or not in time, is left open with the reason. One that hangs is not
   asked again for ever: its thread cannot be ended.

That the answer depends on nothing else, such as time or chance, is the function's own part.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from drc.conflict.resolver import Action, Decision, Kind, Winner, left_open
from drc.errors import ConfigError
from drc.policy import Policies

ANSWER_S = 1.0  # rows are locked meanwhile
_HUNG_MAX = 3

Values = Mapping[str, Any] | None  # by column, JSON-ready; None for no row


class Version(NamedTuple):
    """What one write left of a row; ``values`` is None where it deleted it."""

    values: Values
    ets: int
    site: str


class Conflict(NamedTuple):
    """What a function is given; ``base`` is the row before both writes, None if there was none."""

    table: str
    base: Values
    earlier: Version
    later: Version


Answer = Literal["earlier", "later"] | Mapping[str, Any] | None
Function = Callable[[Conflict], Answer]


class Verdict(NamedTuple):
    """What a function's answer comes to at this site.

    ``values`` are columns to set in the version that stays: the remote one if ``remote``.
    """

    decision: Decision
    remote: bool = False
    values: Mapping[str, Any] = MappingProxyType({})


@lru_cache
def load(name: str) -> Asked:
    """Import a function.

    :param name: as ``module:name``.
    :raises ConfigError: it cannot be had.
    """
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # an import runs whatever the module holds
        raise ConfigError(
            f"function {name!r} cannot be imported: {type(error).__name__}: {error}",
            hint="install its package where the daemon runs, or set PYTHONPATH",
        ) from error
    if not callable(found):
        raise ConfigError(f"function {name!r} is not callable", hint="name a function")
    return Asked(name, found)


def load_all(policies: Policies) -> None:
    """Import the functions of all tables, so that a wrong name is told at the start.

    :raises ConfigError: the first that cannot be had.
    """
    for table, name in policies.functions():
        try:
            load(name)
        except ConfigError as error:
            where = f'conflicts.tables."{table}".function'
            raise ConfigError(f"{where}: {error.message}", hint=error.hint) from error


class Asked:
    """A function, asked with patience."""

    def __init__(self, name: str, function: Function, answer_s: float = ANSWER_S) -> None:
        self._name, self._function, self._answer_s = name, function, answer_s
        self._hung = 0

    def verdict(
        self, kind: Kind, table: str, base: Values, remote: Version, here: Version
    ) -> Verdict:
        """Ask about a change of ``remote`` that met the row ``here``."""
        later_is_remote = (remote.ets, remote.site) > (here.ets, here.site)
        earlier, later = (here, remote) if later_is_remote else (remote, here)
        frozen = (v._replace(values=_frozen(v.values)) for v in (earlier, later))
        try:
            answer = self._answer(Conflict(table, _frozen(base), *frozen))
        except Exception as error:  # whatever the function raises
            return self._open(kind, f"{type(error).__name__}: {error}")
        if answer is None:
            return self._open(kind, "it leaves this row to a person")
        if answer in ("earlier", "later"):
            return self._whole(
                kind, remote, str(answer), takes=(answer == "later") == later_is_remote
            )
        if not isinstance(answer, Mapping) or not all(isinstance(name, str) for name in answer):
            return self._open(kind, f"its answer is none: {answer!r}")
        kept = later if later.values is not None else earlier
        if unknown := sorted(answer.keys() - (kept.values or {}).keys()):
            return self._open(kind, f"it sets {', '.join(unknown)}, which the row does not have")
        decision = Decision(Action.MERGE, kind, Winner.MERGED, f"{self._name} merged both")
        return Verdict(decision, kept is remote, MappingProxyType(dict(answer)))

    def _whole(self, kind: Kind, remote: Version, which: str, *, takes: bool) -> Verdict:
        why = f"{self._name} took the {which} write"
        if not takes:
            return Verdict(Decision(Action.KEEP, kind, Winner.LOCAL, why))
        action = Action.DELETE if remote.values is None else Action.WRITE
        return Verdict(Decision(action, kind, Winner.REMOTE, why), remote=True)

    def _open(self, kind: Kind, why: str) -> Verdict:
        return Verdict(left_open(kind, f"{self._name}: {why}"))

    def _answer(self, conflict: Conflict) -> Any:
        """Return the answer, or raise what the function raised.

        :raises TimeoutError: it does not come in time.
        """
        if self._hung >= _HUNG_MAX:
            raise TimeoutError(f"it hung {self._hung} times and is not asked until a restart")
        answers: list[Any] = []
        errors: list[Exception] = []

        def run() -> None:
            try:
                answers.append(self._function(conflict))
            except Exception as error:
                errors.append(error)

        thread = threading.Thread(target=run, name=f"function-{self._name}", daemon=True)
        thread.start()
        thread.join(self._answer_s)
        if errors:
            raise errors[0]
        if not answers:
            self._hung += 1
            raise TimeoutError(f"no answer within {self._answer_s:g} s")
        return answers[0]


def _frozen(values: Values) -> Values:
    return None if values is None else MappingProxyType(dict(values))
