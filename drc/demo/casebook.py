"""The conflict logs of both sites, as the demo reads them: counted live, compared at the end.

What lives here: :class:`Casebook`, which asks one site; and :func:`agreement`, pure, which holds
two logs against each other: a pair of concurrent writes must be in both, with one winner.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from drc.sandbox import SandboxSite

UNIQUE = "multiple_unique_conflicts"  # its two rows have two primary keys


class Case(NamedTuple):
    """One conflict as people see it; rows are documents, None where there is no row."""

    id: int
    table: str
    key: str
    kind: str
    winner: str
    reason: str
    origin: str
    row_local: dict[str, Any] | None
    row_after: dict[str, Any] | None


class Entry(NamedTuple):
    """One conflict as the logs are compared; rivals are (ets, origin, GTID)."""

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
        """Return the write that this entry is about."""
        return self.gtid, None if self.kind == UNIQUE else self.slot


class Casebook:
    """The conflict log of one site, from now on."""

    def __init__(self, site: SandboxSite) -> None:
        self.site = site
        ((self._since,),) = site.query("SELECT COALESCE(MAX(id), 0) FROM drc.conflict")

    def counts(self) -> Counter[tuple[str, str]]:
        """Return how many there are, by kind and by who won: a site, ``merged`` or ``open``."""
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
        """Return what waits for a person, newest first."""
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

    def entries(self) -> list[Entry]:
        """Return all, to be compared with the other site's."""
        rows = self.site.query(
            "SELECT gtid, origin, ets, slot, kind, winner, rivals, rival_count FROM drc.conflict"
            " WHERE id > %s",
            (self._since,),
        )
        return [
            Entry(
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
    """What two logs say together; ``unpaired`` and ``contradicted`` name pairs of GTIDs."""

    pairs: int
    unpaired: tuple[str, ...]
    contradicted: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Return True when every pair is in both logs with one winner, and there is one at all."""
        return bool(self.pairs) and not (self.unpaired or self.contradicted)


def agreement(one: Sequence[Entry], other: Sequence[Entry]) -> Agreement:
    """Hold two sites' logs against each other.

    A log names the newest rivals only, so a pair may be listed at one site and counted at the
    other; but the write itself must be there.
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


def _names(entry: Entry, gtid: str) -> bool:
    listed = any(gtid == rival for _, _, rival in entry.rivals)
    return listed or entry.rival_count > len(entry.rivals)


def _winners(entries: Sequence[Entry]) -> dict[tuple[frozenset[str], int | None], str]:
    """Return which write of each pair stayed, by the pair and its row."""
    out = {}
    for entry in entries:
        if entry.rivals:
            newest = max(entry.rivals)[2]
            stays = {"remote": entry.gtid, "local": newest}.get(entry.winner, entry.winner)
            out[frozenset((entry.gtid, newest)), entry.place[1]] = stays
    return out
