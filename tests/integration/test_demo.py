"""The demo: ends well on sound replication, and only then."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from drc.cli.demo import command
from drc.demo import duel, run
from drc.demo.daemon import Daemon
from drc.demo.duelists import Duelist
from drc.demo.probe import MoneyProbe
from drc.demo.stage import Options
from drc.demo.workload import Shard
from drc.sandbox import Sandbox
from tests.faults.fix_daemon import LONG

pytestmark = pytest.mark.servers


def test_twice_in_a_row_and_a_changed_row_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = CliRunner().invoke(
        command,
        ["--dir", str(tmp_path), "--seconds", "4", "--users", "20", "--json"],
        standalone_mode=False,
    )
    assert result.return_value == 0, result.output
    found = json.loads(result.stdout)
    assert found["ok"]
    assert found["identical"]
    assert all(n > 20 for n in found["committed"].values())
    assert {t["table"]: min(t["rows"]) > 0 for t in found["tables"]} == {
        f"shop.{name}": True for name in ("accounts", "canary", "order_items", "orders", "users")
    }
    assert all(lag["samples"] > 0 for lag in found["lag_us"].values())

    trade = run.Demo._trade

    def tampered(
        demo: run.Demo, daemon: Daemon, shards: list[Shard], probes: list[MoneyProbe]
    ) -> None:
        trade(demo, daemon, shards, probes)
        with probes[0].target.connect("root") as conn, conn.cursor() as cursor:
            cursor.execute("SET SESSION sql_log_bin = 0")
            # The sums of money stay right: only the rows show the change.
            cursor.execute("UPDATE shop.users SET name = CONCAT(name, '!') ORDER BY id LIMIT 1")

    monkeypatch.setattr(run.Demo, "_trade", tampered)
    options = Options(tmp_path, seconds=1, users=20)
    second = run.Demo(options, Console(quiet=True)).run()
    assert second.audit.ok
    assert not second.identical
    assert not second.ok
    assert [c.name for c in second.comparisons if not c.identical] == ["shop.users"]
    assert not any(line["pid"] for line in Sandbox(tmp_path).status())


@LONG
def test_both_sites_write_the_same_rows_and_a_wrong_counter_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fight = duel.Duel._fight

    def tampered(demo: duel.Duel, daemon: Daemon, duelists: list[Duelist], *rest: Any) -> None:
        fight(demo, daemon, duelists, *rest)
        duelists[0].added[0] += 1  # an acknowledged write that is lost

    options = Options(tmp_path, seconds=3)
    found = duel.Duel(options, Console(quiet=True)).run()
    assert found.identical
    assert found.logs.pairs
    assert not found.logs.contradicted
    assert all(there == due for there, due in found.stock.values())
    assert found.parked == 2
    assert found.document()["ok"] == found.ok == (not found.logs.unpaired)

    monkeypatch.setattr(duel.Duel, "_fight", tampered)
    second = duel.Duel(options, Console(quiet=True)).run()
    assert second.identical
    assert not second.ok
    assert [item for item, (there, due) in second.stock.items() if there != due] == [0]
