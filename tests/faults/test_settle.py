"""Settlement by an operator: both sites agree, nothing bounces, later writes flow."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from drc.cli import invoke as drc_command
from drc.sandbox import Sandbox
from tests.faults.fix_daemon import LONG, Daemon, StartDaemon, assert_identical

pytestmark = [pytest.mark.servers, LONG]

_PATIENCE_S = 60.0


class Desk:
    """``drc conflicts`` over a pair whose two sites each hold a row with the same e-mail."""

    def __init__(
        self, pair: Sandbox, schema: str, running: Daemon, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.pair, self.schema, self.running, self._capsys = pair, schema, running, capsys
        self.a, self.b = pair.sites.values()
        for site in (self.a, self.b):
            site.query("DELETE FROM drc.conflict")

    def ask(self, *args: str, code: int = 0) -> Any:
        self._capsys.readouterr()
        got = drc_command(["conflicts", *args, "-c", str(self.running.path), "--json"])
        said = self._capsys.readouterr()
        assert got == code, said
        return json.loads(said.out)

    def open(self, site: str, state: str = "open") -> list[dict[str, Any]]:
        found = self.ask("list", "--site", site, "--state", state, "--table", f"{self.schema}.*")
        entries: list[dict[str, Any]] = found["conflicts"]
        return entries

    def configure(self, line: str) -> None:
        """Add a key to the section ``[conflicts]``, and restart the daemon."""
        assert self.running.stop() == 0
        path = self.running.path
        path.write_text(path.read_text().replace("[conflicts]", f"[conflicts]\n{line}"))
        self.running.start().drain(self.schema)

    def park(self) -> None:
        self.configure('policy = "park"')

    def meet(self, at_a: str, at_b: str, state: str = "open") -> dict[str, dict[str, Any]]:
        """Write at both sites while nothing is replicated; return the open conflicts."""
        assert self.running.stop() == 0
        self.a.query(at_a.format(s=self.schema), (), "app")
        self.b.query(at_b.format(s=self.schema), (), "app")
        self.running.start()
        deadline = time.monotonic() + _PATIENCE_S
        while not (self.open("a", state) and self.open("b", state)):
            assert time.monotonic() < deadline, self.running.tail()
            time.sleep(0.05)
        self.running.drain(self.schema)
        return {site: self.open(site, state)[0] for site in ("a", "b")}

    def rows(self, table: str = "user") -> list[tuple[Any, ...]]:
        """Return the rows of both sites, which must be the same."""
        self.running.drain(self.schema)
        assert_identical(self.pair, self.schema)
        return [
            tuple(r) for r in self.a.query(f"SELECT * FROM `{self.schema}`.`{table}` ORDER BY 1")
        ]


@pytest.fixture
def desk(
    pair: Sandbox, schema: str, daemon: StartDaemon, capsys: pytest.CaptureFixture[str]
) -> Desk:
    running = daemon(pair)
    one = Desk(pair, schema, running, capsys)
    one.a.query(
        f"CREATE TABLE `{schema}`.user (id INT PRIMARY KEY, email VARCHAR(40) UNIQUE,"
        " about JSON, n DOUBLE)",
        (),
        "app",
    )
    running.drain(schema)
    return one


COLLIDE = (
    "INSERT INTO `{s}`.user VALUES (1, 'x@y', '{{\"at\": 1}}', 1.5)",
    "INSERT INTO `{s}`.user VALUES (2, 'x@y', '{{\"at\": 2}}', 2.5)",
)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("take", "left"), [("remote", 2), ("local", 1)])
def test_a_collision_is_settled_and_replication_flows_on(desk: Desk, take: str, left: int) -> None:
    found = desk.meet(*COLLIDE)
    assert [found[site]["kind"] for site in found] == ["multiple_unique_conflicts"] * 2
    since = desk.running.executed()
    desk.ask("settle", "--site", "a", str(found["a"]["id"]), "--take", take, "--reason", "asked")
    assert [row[0] for row in desk.rows()] == [left]
    desk.running.assert_accounted(since)
    for site in ("a", "b"):
        assert not desk.open(site)
        (settled,) = desk.ask("list", "--site", site, "--state", "settled")["conflicts"]
        assert settled["settlement"] == f"take {take} of a: asked"
    desk.a.query(f"UPDATE `{desk.schema}`.user SET n = 7 WHERE id = {left}", (), "app")
    desk.running.drain(desk.schema)
    desk.b.query(f"UPDATE `{desk.schema}`.user SET n = n + 1 WHERE id = {left}", (), "app")
    assert desk.rows()[0][3] == 8.0
    assert not desk.open("a") + desk.open("b")


@pytest.mark.timeout(300)
def test_a_collision_is_settled_with_other_values_and_both_rows_stay(desk: Desk) -> None:
    found = desk.meet(*COLLIDE)
    number = str(found["a"]["id"])
    desk.ask("settle", "--site", "a", number, "--set", "email=z@y", "--reason", "renamed")
    assert [row[:2] for row in desk.rows()] == [(1, "z@y"), (2, "x@y")]
    assert not desk.open("a") + desk.open("b")


@pytest.mark.timeout(300)
def test_a_row_that_has_changed_since_is_not_settled(desk: Desk) -> None:
    found = desk.meet(*COLLIDE)
    assert desk.running.stop() == 0
    desk.a.query(f"UPDATE `{desk.schema}`.user SET n = 9 WHERE id = 1", (), "app")
    number = str(found["a"]["id"])
    said = desk.ask("settle", "--site", "a", number, "--take", "remote", "--reason", "late", code=3)
    assert "has changed since" in said["error"]["message"]
    assert desk.a.query(f"SELECT id, n FROM `{desk.schema}`.user") == [(1, 9.0)]
    assert [entry["id"] for entry in desk.open("a")] == [found["a"]["id"]]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("take", "left"), [("remote", "b"), ("local", "a"), ("set", "c")])
def test_a_parked_row_is_settled(desk: Desk, take: str, left: str) -> None:
    desk.park()
    desk.a.query(f"INSERT INTO `{desk.schema}`.user VALUES (1, 'o', NULL, 0)", (), "app")
    desk.running.drain(desk.schema)
    update = "UPDATE `{s}`.user SET email = '%s', about = '[1]' WHERE id = 1"
    found = desk.meet(update % "a", update % "b")
    how = ("--set", "email=c", "--null", "about") if take == "set" else ("--take", take)
    desk.ask("settle", "--site", "a", str(found["a"]["id"]), *how, "--reason", "asked")
    assert [row[1] for row in desk.rows()] == [left]
    assert not desk.open("a") + desk.open("b")


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("take", "left"), [("remote", 1), ("local", 0)])
def test_a_parked_delete_is_settled(desk: Desk, take: str, left: int) -> None:
    desk.park()
    desk.a.query(f"INSERT INTO `{desk.schema}`.user VALUES (1, 'o', NULL, 0)", (), "app")
    desk.running.drain(desk.schema)
    found = desk.meet(
        "DELETE FROM `{s}`.user WHERE id = 1", "UPDATE `{s}`.user SET n = 5 WHERE id = 1"
    )
    desk.ask("settle", "--site", "a", str(found["a"]["id"]), "--take", take, "--reason", "asked")
    assert len(desk.rows()) == left
    assert not desk.open("a") + desk.open("b")


@pytest.mark.timeout(300)
def test_the_loser_of_a_rule_may_be_taken_and_the_resolver_asked_again(desk: Desk) -> None:
    desk.a.query(f"INSERT INTO `{desk.schema}`.user VALUES (1, 'o', NULL, 0)", (), "app")
    desk.running.drain(desk.schema)
    update = "UPDATE `{s}`.user SET email = '%s' WHERE id = 1"
    found = desk.meet(update % "a", update % "b", state="auto")
    assert desk.rows()[0][1] == "b"
    assert desk.ask("replay", "--table", f"{desk.schema}.*")["same"] == 2
    number = str(found["b"]["id"])
    desk.ask("settle", "--site", "b", number, "--take", "remote", "--reason", "asked")
    assert desk.rows()[0][1] == "a"
    desk.a.query("UPDATE drc.conflict SET winner = 'remote' WHERE winner = 'local'")
    desk.b.query("UPDATE drc.conflict SET winner = 'remote' WHERE winner = 'local'")
    (differs,) = desk.ask("replay", "--table", f"{desk.schema}.*", code=1)["differ"]
    assert (differs["logged"]["winner"], differs["now"]["winner"]) == ("remote", "local")


@pytest.mark.timeout(300)
def test_masked_values_are_nowhere_in_the_log(desk: Desk) -> None:
    desk.configure(f'mask = ["{desk.schema}.user.email"]')
    found = desk.meet(*COLLIDE)
    for entry, site in ((found["a"], desk.a), (found["b"], desk.b)):
        raw = site.query(
            "SELECT CONCAT_WS(' ', c.row_local, row_after, reason, row_key), images"
            " FROM drc.conflict c"
        )
        assert all("x@y" not in text and images is None for text, images in raw)
        assert entry["row_after"]["email"].startswith("***")
    assert found["a"]["row_after"]["email"] == found["b"]["row_after"]["email"]


@pytest.mark.timeout(300)
def test_old_conflicts_are_purged_and_open_ones_stay(desk: Desk) -> None:
    found = desk.meet(*COLLIDE)
    number = str(found["a"]["id"])
    assert drc_command(["conflicts", "purge", "-c", str(desk.running.path)]) == 0
    desk.a.query("UPDATE drc.conflict SET detected_at = NOW() - INTERVAL 31 DAY")
    assert drc_command(["conflicts", "purge", "-c", str(desk.running.path)]) == 0
    assert len(desk.open("a")) == 1
    desk.ask("settle", "--site", "a", number, "--take", "local", "--reason", "asked")
    assert drc_command(["conflicts", "purge", "-c", str(desk.running.path)]) == 0
    assert not desk.ask("list", "--site", "a", "--state", "settled")["conflicts"]
    assert desk.ask("list", "--site", "b", "--state", "settled")["conflicts"]
