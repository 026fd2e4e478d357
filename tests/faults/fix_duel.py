"""A duel: two sites write while nothing is replicated, then meet, a conflict at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest

from drc.sandbox import Sandbox
from drc.state.store import Store
from tests.faults.fix_daemon import Daemon, StartDaemon, assert_identical

Statement = str | tuple[str, Sequence[Any]]


class Found(NamedTuple):
    """An entry of a site's conflict log."""

    key: str
    kind: str
    winner: str
    state: str
    rivals: int


class Duel:
    """The daemon of both sites, stopped for as long as the sites write apart."""

    def __init__(self, box: Sandbox, schema: str, running: Daemon) -> None:
        self.box, self.schema, self.running = box, schema, running
        for site in box.sites.values():
            site.query("DELETE FROM drc.conflict")

    def prepare(self, *statements: Statement) -> None:
        """Create the rows that both sites begin with, and stop replication."""
        self.write("a", *statements)
        self.running.drain(self.schema)
        self.running.kill9()

    def write(self, site: str, *statements: Statement) -> None:
        """Run statements as an application on a connection does, each committed unless in BEGIN."""
        with self.box.sites[site].connect("app") as conn, conn.cursor() as cursor:
            cursor.execute("SET SESSION cte_max_recursion_depth = 1000000")
            cursor.execute(f"CREATE DATABASE IF NOT EXISTS `{self.schema}`")
            cursor.execute(f"USE `{self.schema}`")
            for statement in statements:
                sql, values = (statement, None) if isinstance(statement, str) else statement
                cursor.execute(sql, values)

    def meet(self) -> None:
        """Replicate again until each site has everything of the other site."""
        self.running.start()
        self.running.drain(self.schema)
        for site in Store(self.running.config.state_url).statuses().values():
            assert site.watcher
            assert site.watcher.late_conflicts == 0

    def rows(self, table: str = "t", site: str = "a") -> list[tuple[Any, ...]]:
        """Return the rows of a table in the order of the first column."""
        return self.box.sites[site].query(f"SELECT * FROM `{self.schema}`.`{table}` ORDER BY 1")

    def log(self, site: str) -> list[Found]:
        """Return the conflicts of a site in the order of the keys."""
        found = self.box.sites[site].query(
            "SELECT row_key, kind, winner, state, rival_count FROM drc.conflict"
            " WHERE schema_name = %s ORDER BY row_key, id",
            (self.schema,),
        )
        return [Found(*row) for row in found]

    def brief(self, site: str) -> list[tuple[str, str, str]]:
        """Return key, kind and winner of each conflict of a site."""
        return [(one.key, one.kind, one.winner) for one in self.log(site)]

    def assert_same(self) -> None:
        """Check that both sites have the same rows."""
        assert_identical(self.box, self.schema)


StartDuel = Callable[..., Duel]


@pytest.fixture
def duel(daemon: StartDaemon, schema: str) -> StartDuel:
    """Return a function that begins a duel.

    Arguments: the pair, statements that both sites begin with, options of the daemon.
    """

    def start(box: Sandbox, *statements: Statement, **options: object) -> Duel:
        one = Duel(box, schema, daemon(box, **options))
        one.prepare(*statements)
        return one

    return start
