"""The conflict logs of both sites, for the demo: counted during the run, compared at the end.

:class:`Casebook` reads the conflict log of a site. :func:`agreement`, pure, compares two conflict
logs: each pair of concurrent writes must be in both logs, with the same winner.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from drc.sandbox import SandboxSite

UNIQUE = "multiple_unique_conflicts"  # a conflict of two rows with two primary keys


class Case(NamedTuple):
    """A conflict, for display; the rows are documents, None where no row exists."""

    id: int
    table: str
    key: str
    kind: str
    winner: str
    reason: str
    origin: str
    row_local: dict[str, Any] | None
    row_after: dict[str, Any] | None


class CaseEntry(NamedTuple):
    """A conflict, for comparison.

    ``rivals`` are (ets, origin, GTID), for example ``(1795449426846040, "b", "3e11fa47-…:7")``.
    ``rival_count`` may be greater than their number: a conflict log names the newest rivals only.
    """

    gtid: str
    origin: str
    ets: int
    slot: int
    kind: str
    winner: str
    rivals: tuple[tuple[int, str, str], ...]
    rival_count: int

    @property
    def place(self) -> tuple[str, int | None]:
        """Return the write of this entry, as GTID and slot (None: a unique key's conflict)."""
        return self.gtid, None if self.kind == UNIQUE else self.slot


class Casebook:
    """A reader of a site's conflict log; entries from before its creation are left out."""

    def __init__(self, site: SandboxSite) -> None:
        self.site = site
        ((self._since,),) = site.query("SELECT COALESCE(MAX(id), 0) FROM drc.conflict")

    def counts(self) -> Counter[tuple[str, str]]:
        """Return the number of conflicts by (kind, winner).

        A winner is a site's name, ``merged`` or ``open``: ``("update_deleted", "a")``.
        """
        rows = self.site.query(
            "SELECT kind, winner, origin, COUNT(*) FROM drc.conflict WHERE id > %s"
            " GROUP BY kind, winner, origin",
            (self._since,),
        )
        out: Counter[tuple[str, str]] = Counter()
        for kind, winner, origin, count in rows:
            out[kind, _who(winner, origin, self.site.name)] += count
        return out

    def newest(self, limit: int) -> list[Case]:
        """Return the newest conflicts, newest first."""
        return self._cases("TRUE", limit)

    def open(self) -> list[Case]:
        """Return the open conflicts, newest first."""
        return self._cases("state = 'open'", 1000)

    def _cases(self, where: str, limit: int) -> list[Case]:
        rows = self.site.query(
            "SELECT id, CONCAT(schema_name, '.', table_name), row_key, kind, winner, reason,"
            f" origin, row_local, row_after FROM drc.conflict WHERE id > %s AND {where}"
            " ORDER BY id DESC LIMIT %s",
            (self._since, limit),
        )
        return [
            Case(
                number,
                table,
                key,
                kind,
                _who(winner, origin, self.site.name),
                reason,
                origin,
                _document(local),
                _document(after),
            )
            for number, table, key, kind, winner, reason, origin, local, after in rows
        ]

    def entries(self) -> list[CaseEntry]:
        """Return all conflicts in the form that :func:`agreement` compares."""
        rows = self.site.query(
            "SELECT gtid, origin, ets, slot, kind, winner, rivals, rival_count FROM drc.conflict"
            " WHERE id > %s",
            (self._since,),
        )
        return [
            CaseEntry(
                gtid,
                origin,
                ets,
                slot,
                kind,
                winner,
                tuple((r["ets"], r["origin"], r["gtid"]) for r in json.loads(rivals)),
                count,
            )
            for gtid, origin, ets, slot, kind, winner, rivals, count in rows
        ]


def _document(text: str | None) -> dict[str, Any] | None:
    return None if text is None else json.loads(text)


def _who(winner: str, origin: str, here: str) -> str:
    return {"remote": origin, "local": here}.get(winner, winner)


# ------------------------------------------------------------ both logs


@dataclass(frozen=True, slots=True)
class Agreement:
    """The result of comparing two conflict logs.

    :param pairs: the number of pairs of concurrent writes.
    :param unpaired: pairs that only one of the logs has, as text: ``"GTID (KIND) with GTID"``.
    :param contradicted: pairs with two winners, as text: ``"GTID and GTID"``.
    """

    pairs: int
    unpaired: tuple[str, ...]
    contradicted: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Return True if there are pairs, and each pair is in both logs with the same winner."""
        return bool(self.pairs) and not (self.unpaired or self.contradicted)


def agreement(one: Sequence[CaseEntry], other: Sequence[CaseEntry]) -> Agreement:
    """Compare the conflict logs of two sites.

    A conflict log names the newest rivals only. So a pair may be named in the first log and only
    counted in the second, but an entry for the write must be in both.
    """
    pairs: set[frozenset[str]] = set()
    unpaired: list[str] = []
    for here, there in ((one, other), (other, one)):
        logged = {entry.place: entry for entry in there}
        for entry in here:
            for _, _, gtid in entry.rivals:
                pairs.add(frozenset((entry.gtid, gtid)))
                counterpart = logged.get((gtid, entry.place[1]))
                if counterpart is None or not _names(counterpart, entry.gtid):
                    unpaired.append(f"{entry.gtid} ({entry.kind}) with {gtid}")
    ours, theirs = _winners(one), _winners(other)
    contradicted = [
        " and ".join(sorted(place[0]))
        for place in ours.keys() & theirs.keys()
        if ours[place] != theirs[place]
    ]
    return Agreement(len(pairs), tuple(sorted(unpaired)), tuple(sorted(contradicted)))


def _names(entry: CaseEntry, gtid: str) -> bool:
    listed = any(gtid == rival for _, _, rival in entry.rivals)
    return listed or entry.rival_count > len(entry.rivals)


def _winners(entries: Sequence[CaseEntry]) -> dict[tuple[frozenset[str], int | None], str]:
    """Return the write of each pair that stayed, by (pair, slot of the row)."""
    out = {}
    for entry in entries:
        if entry.rivals:
            newest = max(entry.rivals)[2]
            stays = {"remote": entry.gtid, "local": newest}.get(entry.winner, entry.winner)
            out[frozenset((entry.gtid, newest)), entry.place[1]] = stays
    return out
