"""Policies: which of two concurrent writes stays, by table. Pure.

1. Every policy makes all sites agree. ``last_writer_wins`` agrees for any number of sites,
   because the policy is a join of the total order ``(ets, site)``, and that order never
   contradicts causality.
2. ``site_priority`` is refused with more than two sites, because a preference other than
   ``(ets, site)`` can contradict causality among three sites: A is preferred to B, C comes after
   A, B is newer than C, so each of the three beats another.
   ``owner_unit`` is such a preference by row. Both sites must name the same owner, so a row's
   unit is taken from all versions that a site has at hand. Where the units differ, the row stays
   open, because a site that changed a unit and changed the unit back shows no trace of the
   change. ``(ets, site)`` decides where all versions have the same unit and no site owns that
   unit.
3. ``delta`` of a column adds the increments of both sites. The sites agree as long as both update
   the row. Where a site deleted or inserted the row, the conflict stays open for an operator.
   ``delta`` needs exactly two sites, because among three an increment that came through another
   site could count twice.
4. ``max`` and ``min`` of a column keep the greater or the lesser value (``conflict/merge.py``).
   Where a delete loses, the row stays open, because the site that deleted the row cannot know the
   values that the delete removed. No way to tell three sites of such a row has been worked out,
   so ``max`` and ``min`` need exactly two sites as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal

import msgspec

from drc.errors import ConfigError

RowPolicy = Literal[
    "last_writer_wins", "site_priority", "owner_unit", "column_merge", "function", "park"
]
ColumnPolicy = Literal["delta", "max", "min"]
Join = Literal["max", "min"]  # the column policies that do not depend on the order of writes

_FUNCTION = r"^$|^[A-Za-z_][\w.]*:[A-Za-z_]\w*$"


class TablePolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The policy of a table; each column in ``columns`` has a policy of its own."""

    policy: RowPolicy = "last_writer_wins"
    sites: tuple[str, ...] = ()
    owner_column: str = ""
    owners: dict[str, str] = msgspec.field(default_factory=dict)
    function: Annotated[str, msgspec.Meta(pattern=_FUNCTION)] = ""
    columns: dict[str, ColumnPolicy] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        if bool(self.sites) != (self.policy == "site_priority"):
            raise ValueError(
                "policy site_priority needs sites, the preferred site first; no other policy has"
                " sites"
            )
        owned = self.policy == "owner_unit"
        if bool(self.owner_column) != owned or bool(self.owners) != owned:
            raise ValueError(
                "policy owner_unit of a table needs owner_column, and owners with the site that"
                " owns each value of that column; no other policy has owners"
            )
        if bool(self.function) != (self.policy == "function"):
            raise ValueError(
                "policy function of a table needs function, as module:name; no other policy has a"
                " function"
            )
        if self.function and self.columns:
            raise ValueError(
                "columns cannot be set with a function: the function decides about all columns"
            )

    @property
    def deltas(self) -> frozenset[str]:
        """Return the columns with policy ``delta``: increments of both sites are added."""
        return frozenset(name for name, kind in self.columns.items() if kind == "delta")

    @property
    def joins(self) -> dict[str, Join]:
        """Return the columns with policy ``max`` or ``min``, each with that policy."""
        return {name: kind for name, kind in self.columns.items() if kind != "delta"}

    def owner(self, units: Iterable[Any]) -> str | None:
        """Return the site that owns a row.

        '' if no site owns the row, None if the versions have different units.

        :param units: values of ``owner_column`` in all versions that are at hand.
        """
        found = {"" if unit is None else str(unit) for unit in units}
        return self.owners.get(found.pop(), "") if len(found) == 1 else None

    @property
    def merges(self) -> bool:
        """Return whether the policy may produce a row that neither site wrote."""
        return bool(self.columns) or self.policy == "column_merge"

    @property
    def two_sites_only(self) -> str:
        """Return the part that makes only two sites agree, such as ``delta``; '' without one."""
        if self.policy in ("site_priority", "owner_unit", "column_merge", "function"):
            return self.policy
        return next(iter(self.columns.values()), "")


class Policies:
    """The policies of a pair, by table.

    ``ask_columns`` is True if any policy needs to know which columns a write changed.

    :param tables: the policies by ``schema.table``; ``default`` holds for all other tables.
    """

    def __init__(self, default: TablePolicy, tables: Mapping[str, TablePolicy]) -> None:
        self._default = default
        self._tables = tables
        self.ask_columns = any(p.policy == "column_merge" for p in (default, *tables.values()))

    def of(self, table: str) -> TablePolicy:
        """Return the policy of ``schema.table``."""
        return self._tables.get(table, self._default)

    def functions(self) -> Iterator[tuple[str, str]]:
        """Yield each table that has a function, as ``schema.table``, and the function's name."""
        for table, policy in self._tables.items():
            if policy.function:
                yield table, policy.function

    def asks_columns(self, table: str) -> bool:
        """Return whether the policy of ``table`` needs to know which columns a write changed.

        :param table: as ``schema.table``.
        """
        return self.of(table).policy == "column_merge"


def refuse_divergent(policy: TablePolicy, sites: tuple[str, ...], where: str) -> None:
    """Refuse a policy that would not make ``sites`` agree.

    :param where: the key in the configuration, for the message.
    :raises ConfigError: the policy would leave the sites different; the hint says which to set.
    """
    if len(sites) > 2 and policy.two_sites_only:
        raise ConfigError(
            f"{where}: {policy.two_sites_only} does not make {len(sites)} sites agree",
            hint='set policy = "last_writer_wins"; `drc docs invariants` gives the reason',
        )
    if policy.policy == "site_priority" and set(policy.sites) != set(sites):
        raise ConfigError(
            f"{where}.sites: {', '.join(policy.sites)} are not all the sites of this pair",
            hint=f"set each of these sites once, the preferred site first: {', '.join(sites)}",
        )
    if strangers := set(policy.owners.values()) - set(sites):
        raise ConfigError(
            f"{where}.owners: {', '.join(sorted(strangers))} is not a site of this pair",
            hint=f"set each owner of a {policy.owner_column} to a site of: {', '.join(sites)}",
        )
