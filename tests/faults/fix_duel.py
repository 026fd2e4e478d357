"""Two sites that write while nothing is replicated, and meet then: one conflict at a time."""

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
    """Both sites' daemon, stopped for as long as the sites write apart."""

    def __init__(self, box: Sandbox, schema: str, running: Daemon) -> None:
        self.box, self.schema, self.running = box, schema, running
        for site in box.sites.values():
            site.query("DELETE FROM drc.conflict")

    def prepare(self, *statements: Statement) -> None:
        """Make what both sites begin with, and stop replicating."""
        self.write("a", *statements)
        self.running.drain(self.schema)
        self.running.kill9()

    def write(self, site: str, *statements: Statement) -> None:
        """Run statements as an application on one connection, each committed unless in BEGIN."""
        with self.box.sites[site].connect("app") as conn, conn.cursor() as cursor:
            cursor.execute("SET SESSION cte_max_recursion_depth = 1000000")
            cursor.execute(f"CREATE DATABASE IF NOT EXISTS `{self.schema}`")
            cursor.execute(f"USE `{self.schema}`")
            for statement in statements:
                sql, values = (statement, None) if isinstance(statement, str) else statement
                cursor.execute(sql, values)

    def meet(self) -> None:
        """Replicate again until each site has all of the other's."""
        self.running.start()
        self.running.drain(self.schema)
        for site in Store(self.running.config.state_url).statuses().values():
            assert site.watcher
            assert site.watcher.late_conflicts == 0

    def rows(self, table: str = "t", site: str = "a") -> list[tuple[Any, ...]]:
        """Return a table's rows in the order of its first column."""
        return self.box.sites[site].query(f"SELECT * FROM `{self.schema}`.`{table}` ORDER BY 1")

    def log(self, site: str) -> list[Found]:
        """Return a site's conflicts in the order of their keys."""
        found = self.box.sites[site].query(
            "SELECT row_key, kind, winner, state, rival_count FROM drc.conflict"
            " WHERE schema_name = %s ORDER BY row_key, id",
            (self.schema,),
        )
        return [Found(*row) for row in found]

    def brief(self, site: str) -> list[tuple[str, str, str]]:
        """Return key, kind and winner of a site's conflicts."""
        return [(one.key, one.kind, one.winner) for one in self.log(site)]

    def assert_same(self) -> None:
        """Both sites have the same rows."""
        assert_identical(self.box, self.schema)


StartDuel = Callable[..., Duel]


@pytest.fixture
def duel(daemon: StartDaemon, schema: str) -> StartDuel:
    """Begin a duel: (box, the statements that both sites begin with, options of the daemon)."""

    def start(box: Sandbox, *statements: Statement, **options: object) -> Duel:
        one = Duel(box, schema, daemon(box, **options))
        one.prepare(*statements)
        return one

    return start
