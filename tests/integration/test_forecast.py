"""``drc forecast`` over two real servers without replication."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from drc import mysql
from drc.cli.forecast import command
from drc.sandbox import ConfigSpec, Sandbox

pytestmark = pytest.mark.servers

_TABLES = (
    "t (id INT PRIMARY KEY, email VARCHAR(50) UNIQUE, v INT)",
    "n (id INT AUTO_INCREMENT PRIMARY KEY, v INT)",
    "nokey (v INT)",
)


def run(config: Path, *options: str) -> dict[str, Any]:
    result = CliRunner().invoke(
        command, ["-c", str(config), "--json", *options], standalone_mode=False
    )
    assert result.exception is None, result.output
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    return found


def executed(box: Sandbox) -> str:
    sets = []
    for site in box.sites.values():
        with site.connect("root") as conn:
            sets.append(str(mysql.server_facts(conn).gtid_executed))
    return ",".join(filter(None, sets))


def test_known_overlaps_are_counted_exactly(pair: Sandbox, schema: str, tmp_path: Path) -> None:
    a, b = pair.sites.values()
    for site in (a, b):
        site.query(f"CREATE DATABASE {schema}")
        for table in _TABLES:
            site.query(f"CREATE TABLE {schema}.{table}", (), "app")
    config = pair.write_config(tmp_path / "pair.toml", ConfigSpec(schemas=[schema]))
    start = executed(pair)

    def write(site: Any, *statements: str) -> None:
        for statement in statements:
            site.query(statement.replace("@", f"{schema}."), (), "app")

    write(a, "INSERT INTO @t VALUES (1, 'one', 0), (2, 'two', 0), (3, 'three', 0)")
    write(b, "INSERT INTO @t VALUES (1, 'uno', 0)")  # meets row 1 of a
    write(b, "INSERT INTO @t VALUES (12, 'TWO', 0)")  # meets an address of a, in another case
    write(a, "UPDATE @t SET v = v + 1 WHERE id = 1", "UPDATE @t SET v = 9 WHERE id = 3")
    write(b, "UPDATE @t SET v = 5 WHERE id = 1", "DELETE FROM @t WHERE id = 12")
    write(a, "INSERT INTO @nokey VALUES (1)")
    write(b, "INSERT INTO @n (v) VALUES (1)")

    found = run(config, "--start", start, "--lag", "1h")
    assert found["transactions"] == {"a": 3, "b": 5}
    assert found["causal"] == []
    tables = {t["table"]: t for t in found["tables"]}
    one = tables[f"{schema}.t"]
    # Row 1: two writes of a with two of b. Address: a's insert with b's insert and with b's delete.
    assert (one["row_conflicts"], one["unique_conflicts"]) == (4, 2)
    assert one["writes"] == {"a": 5, "b": 4}
    assert one["hottest"][0] == {"key": "id=1", "conflicts": 4}
    assert {k["key"].lower() for k in one["hottest"]} == {"id=1", "email='two'"}
    assert "own range" in one["advice"]
    assert "primary key" in tables[f"{schema}.nokey"]["risks"][0]
    assert "auto_increment_offset" in tables[f"{schema}.n"]["risks"][0]

    assert run(config, "--start", start, "--lag", "0us")["tables"][0]["conflicts"] == 0
    assert run(config, "--start", executed(pair))["transactions"] == {"a": 0, "b": 0}
    late = run(config, "--start", "2100-01-01")
    assert late["transactions"] == {"a": 0, "b": 0}
    assert run(config, "--for", "0.2s")["seconds"] == 1.0
