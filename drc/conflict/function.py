"""Functions as policies: the arguments of a user's function, and the effect of the answer.

A table's policy names the function as ``module:name``, for example ``shop.rules:parcel``. Both
sites ask the function where two concurrent writes of a row meet. So that both get the same answer:

1. The arguments are the earlier and the later write, not the local and the remote write, and the
   row before both. Values are as the conflict log shows them, read by the decoder of a single
   server, so that ``drc conflicts replay`` can ask again.
2. The function is asked about two writes only. Where a write meets several writes, the site that
   applies the write leaves the row open: no order of questions would be the same at both sites.
3. Without an answer, or without an answer in time, the row is left open with the reason. A
   function that hangs again and again is no longer asked, as a thread cannot be ended.

The function itself must not depend on anything else, such as time or chance.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from drc.conflict.resolver import ConflictKind, Decision, RowAction, Winner, left_open
from drc.errors import ConfigError
from drc.policy import Policies

ANSWER_S = 1.0  # rows are locked meanwhile
_HUNG_MAX = 3

Values = Mapping[str, Any] | None  # by column, JSON-ready; None: there is no row


class Version(NamedTuple):
    """A row after a write; ``values`` is None if the write deleted the row."""

    values: Values
    ets: int
    site: str


class Conflict(NamedTuple):
    """The argument of a function; ``base`` is the row before both writes, None if absent."""

    table: str
    base: Values
    earlier: Version
    later: Version


Answer = Literal["earlier", "later"] | Mapping[str, Any] | None
Function = Callable[[Conflict], Answer]


class Verdict(NamedTuple):
    """The effect of a function's answer at this site.

    ``values`` are columns to set in the version that stays: the remote version if ``remote``.
    """

    decision: Decision
    remote: bool = False
    values: Mapping[str, Any] = MappingProxyType({})


@lru_cache
def load(name: str) -> Asked:
    """Import a function.

    :param name: ``module:name``, for example ``shop.rules:parcel``.
    :raises ConfigError: the import fails, or the name is not callable.
    """
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # an import runs any code of the module
        raise ConfigError(
            f"cannot import function {name!r}: {type(error).__name__}: {error}",
            hint="install the function's package where the daemon runs, or set PYTHONPATH",
        ) from error
    if not callable(found):
        raise ConfigError(
            f"{name!r} is not a valid function: not callable",
            hint="set the name of a function, as module:name",
        )
    return Asked(name, found)


def load_all(policies: Policies) -> None:
    """Import the functions of all tables, so that a wrong name is reported at the start.

    :raises ConfigError: the first function that cannot be imported.
    """
    for table, name in policies.functions():
        try:
            load(name)
        except ConfigError as error:
            where = f'conflicts.tables."{table}".function'
            raise ConfigError(f"{where}: {error.message}", hint=error.hint) from error


class Asked:
    """A function that is asked with a time limit."""

    def __init__(self, name: str, function: Function, answer_s: float = ANSWER_S) -> None:
        self._name, self._function, self._answer_s = name, function, answer_s
        self._hung = 0

    def verdict(
        self, kind: ConflictKind, table: str, base: Values, remote: Version, here: Version
    ) -> Verdict:
        """Ask about an arriving version, ``remote``, and the version of the row ``here``."""
        later_is_remote = (remote.ets, remote.site) > (here.ets, here.site)
        earlier, later = (here, remote) if later_is_remote else (remote, here)
        frozen = (v._replace(values=_frozen(v.values)) for v in (earlier, later))
        try:
            answer = self._answer(Conflict(table, _frozen(base), *frozen))
        except Exception as error:  # the function may raise anything
            return self._open(kind, f"{type(error).__name__}: {error}")
        if answer is None:
            return self._open(kind, "the function leaves the row to an operator")
        if answer in ("earlier", "later"):
            return self._whole(
                kind, remote, str(answer), takes=(answer == "later") == later_is_remote
            )
        if not isinstance(answer, Mapping) or not all(isinstance(name, str) for name in answer):
            return self._open(kind, f"the answer is not valid: {answer!r}")
        kept = later if later.values is not None else earlier
        if unknown := sorted(answer.keys() - (kept.values or {}).keys()):
            names = ", ".join(unknown)
            return self._open(kind, f"the answer sets {names}, which the row does not have")
        decision = Decision(RowAction.MERGE, kind, Winner.MERGED, f"{self._name} merged both")
        return Verdict(decision, kept is remote, MappingProxyType(dict(answer)))

    def _whole(self, kind: ConflictKind, remote: Version, which: str, *, takes: bool) -> Verdict:
        why = f"{self._name} took the {which} write"
        if not takes:
            return Verdict(Decision(RowAction.KEEP, kind, Winner.LOCAL, why))
        action = RowAction.DELETE if remote.values is None else RowAction.WRITE
        return Verdict(Decision(action, kind, Winner.REMOTE, why), remote=True)

    def _open(self, kind: ConflictKind, why: str) -> Verdict:
        return Verdict(left_open(kind, f"{self._name}: {why}"))

    def _answer(self, conflict: Conflict) -> Any:
        """Return the function's answer, or raise the function's error.

        :raises TimeoutError: there is no answer in time.
        """
        if self._hung >= _HUNG_MAX:
            raise TimeoutError(
                f"the function hung {self._hung} times and is not asked until a restart"
            )
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
