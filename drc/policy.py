"""Policies: which of two concurrent writes stays, by table. Pure.

1. Every policy here makes all sites agree. ``last_writer_wins`` is a join of the total order
   ``(ets, site)``, which never contradicts causality, so it agrees for any number of sites.
2. A preference that is not that order can contradict causality among three sites (A is preferred
   to B, C comes after A, B is newer than C: each of the three beats another). So
   ``site_priority`` needs exactly two sites, and is refused with more.
   ``owner_unit`` is such a preference by row. It needs both sites to name the same owner, so the
   row's unit is taken from all versions that a site has at hand, and where they differ the row is
   left open: at the site that changed a unit and changed it back nobody could tell. Units that no
   site owns, and all versions agree about, go by ``(ets, site)``.
3. ``delta`` of a column adds what both sides added. That agrees as long as the row is updated;
   where one side deleted or inserted it, the conflict is left open for a person. Among three
   sites an increment that came by way of another site could count twice, so it needs two, too.
4. ``max`` and ``min`` of a column keep the greater or the lesser value (``conflict/merge.py``).
   What a delete takes back cannot be told at the site that deleted, so where a delete loses the
   row is left open; how three sites would hear of that is not worked out, so they need two sites
   as well.
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
Join = Literal["max", "min"]  # the column policies that do not depend on order

_FUNCTION = r"^$|^[A-Za-z_][\w.]*:[A-Za-z_]\w*$"


class TablePolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What happens to concurrent writes of one table; ``columns`` are treated on their own."""

    policy: RowPolicy = "last_writer_wins"
    sites: tuple[str, ...] = ()
    owner_column: str = ""
    owners: dict[str, str] = msgspec.field(default_factory=dict)
    function: Annotated[str, msgspec.Meta(pattern=_FUNCTION)] = ""
    columns: dict[str, ColumnPolicy] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        if bool(self.sites) != (self.policy == "site_priority"):
            raise ValueError("sites, in order of preference, belong to site_priority")
        owned = self.policy == "owner_unit"
        if bool(self.owner_column) != owned or bool(self.owners) != owned:
            raise ValueError(
                "owner_column and owners, which site owns which value of it, belong to owner_unit"
                " of a table"
            )
        if bool(self.function) != (self.policy == "function"):
            raise ValueError("function, as module:name, belongs to the policy function of a table")
        if self.function and self.columns:
            raise ValueError("with a function there are no columns: it decides about all of them")

    @property
    def deltas(self) -> frozenset[str]:
        """Return the columns whose changes are added up."""
        return frozenset(name for name, kind in self.columns.items() if kind == "delta")

    @property
    def joins(self) -> dict[str, Join]:
        """Return the columns of which the greater or the lesser value stays."""
        return {name: kind for name, kind in self.columns.items() if kind != "delta"}

    def owner(self, units: Iterable[Any]) -> str | None:
        """Return the site that owns a row; '' when it is none's, None when it is not one row's.

        :param units: values of ``owner_column`` in all versions that are at hand.
        """
        found = {"" if unit is None else str(unit) for unit in units}
        return self.owners.get(found.pop(), "") if len(found) == 1 else None

    @property
    def merges(self) -> bool:
        """Return whether a row may become what neither site wrote."""
        return bool(self.columns) or self.policy == "column_merge"

    @property
    def two_sites_only(self) -> str:
        """Return what in it makes two sites agree and no more; '' if nothing does."""
        if self.policy in ("site_priority", "owner_unit", "column_merge", "function"):
            return self.policy
        return next(iter(self.columns.values()), "")


class Policies:
    """The policies of a pair, by table.

    :param tables: by ``schema.table``; ``default`` is for the others.

    ``ask_columns`` tells whether any of them is to know which columns a write changed.
    """

    def __init__(self, default: TablePolicy, tables: Mapping[str, TablePolicy]) -> None:
        self._default = default
        self._tables = tables
        self.ask_columns = any(p.policy == "column_merge" for p in (default, *tables.values()))

    def of(self, table: str) -> TablePolicy:
        """Return the policy of ``schema.table``."""
        return self._tables.get(table, self._default)

    def functions(self) -> Iterator[tuple[str, str]]:
        """Yield the tables that have a function, and its name."""
        for table, policy in self._tables.items():
            if policy.function:
                yield table, policy.function

    def asks_columns(self, table: str) -> bool:
        """Return whether it matters which columns a write of ``schema.table`` changed."""
        return self.of(table).policy == "column_merge"


def refuse_divergent(policy: TablePolicy, sites: tuple[str, ...], where: str) -> None:
    """Refuse what would not make these sites agree.

    :raises ConfigError: with what to take instead.
    """
    if len(sites) > 2 and policy.two_sites_only:
        raise ConfigError(
            f"{where}: {policy.two_sites_only} does not make {len(sites)} sites agree",
            hint="set last_writer_wins; `drc docs invariants` gives the reason",
        )
    if policy.policy == "site_priority" and set(policy.sites) != set(sites):
        raise ConfigError(
            f"{where}.sites: {', '.join(policy.sites)} are not the sites of this pair",
            hint=f"name each once, the preferred one first: {', '.join(sites)}",
        )
    if strangers := set(policy.owners.values()) - set(sites):
        raise ConfigError(
            f"{where}.owners: {', '.join(sorted(strangers))} is no site of this pair",
            hint=f"give each value of {policy.owner_column} one of: {', '.join(sites)}",
        )
