"""`drc tail` on a real binlog: plain, tagged, compressed, and values that are not decoded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from drc import cli
from drc.sandbox import Sandbox

pytestmark = pytest.mark.servers


def _tail(config: Path, capsys: pytest.CaptureFixture[str], *args: str) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert cli.invoke(["tail", "--json", "-c", str(config), "--site", "a", *args]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_tail(
    pair: Sandbox, schema: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = pair.sites["a"]
    site.query(f"CREATE DATABASE {schema}")
    site.query(
        f"CREATE TABLE {schema}.w (id INT UNSIGNED PRIMARY KEY, a VARCHAR(20), b DECIMAL(9,2),"
        " c JSON, d SET('x','y'), e DATETIME(3), f BLOB)"
    )
    site.query(f"CREATE TABLE {schema}.v (id INT PRIMARY KEY, e VECTOR(2))")
    known = site.query("SELECT @@GLOBAL.gtid_executed")[0][0].replace("\n", "")
    with site.connect("root") as conn, conn.cursor() as cursor:
        for statement in (
            f"INSERT INTO {schema}.w VALUES (4000000000, 'a', 1.5, '{{\"k\": [1, \"z\"]}}', 'x,y',"
            " '2026-01-02 03:04:05.678', x'00ff')",
            "SET SESSION binlog_transaction_compression = ON",
            f"UPDATE {schema}.w SET a = 'new', b = NULL",
            "SET gtid_next = 'AUTOMATIC:drc'",
            f"DELETE FROM {schema}.w",
            "SET gtid_next = 'AUTOMATIC'",
            f"INSERT INTO {schema}.v VALUES (1, STRING_TO_VECTOR('[1,2]'))",
            f"UPDATE {schema}.v SET e = STRING_TO_VECTOR('[1,3]')",
            "SET binlog_row_value_options = PARTIAL_JSON",
            f'INSERT INTO {schema}.w (id, c) VALUES (1, \'{{"a": 1, "b": 2}}\')',
            f"UPDATE {schema}.w SET c = JSON_SET(c, '$.a', 5)",
        ):
            cursor.execute(statement)
    config = pair.write_config(tmp_path / "pair.toml")
    shown = _tail(config, capsys, "--start", known, "--tables", f"{schema}.*", "--limit", "7")
    insert, update, delete, vector, moved, _, partial = (d["changes"][0] for d in shown)

    row = {
        "id": 4000000000,
        "a": "a",
        "b": "1.50",
        "c": {"k": [1, "z"]},
        "d": ["x", "y"],
        "e": "2026-01-02T03:04:05.678000",
        "f": "0x00ff",
    }
    assert insert["row"] == row, insert["row"]
    assert (insert["table"], insert["change"]) == (f"{schema}.w", "insert")
    assert (update["before"], update["after"]) == (row, row | {"a": "new", "b": None})
    assert (delete["change"], delete["row"]["a"]) == ("delete", "new")
    assert [d["replicated"] for d in shown] == [False, False, True, False, False, False, False]
    assert vector["raw"]
    assert vector["row"] == {"id": "0x01000000", "e": "0x080000000000803f00000040"}
    assert moved["after"]["e"].endswith("00004040")
    assert partial["change"] == "partial update"
    assert partial["hex"]

    only = _tail(config, capsys, "--start", known, "--tables", f"{schema}.v", "--limit", "2")
    assert [d["gtid"] for d in only] == [shown[3]["gtid"], shown[4]["gtid"]]
    ddl = _tail(config, capsys, "--start", "earliest", "--limit", "1")[0]
    assert ddl["kind"] == "ddl"
    site.query(f"DROP DATABASE {schema}")


def test_tail_of_a_site_that_is_not_there(
    pair: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = pair.write_config(tmp_path / "pair.toml")
    assert cli.invoke(["tail", "-c", str(config), "--site", "z"]) == 2
    assert "no site 'z'" in capsys.readouterr().err
