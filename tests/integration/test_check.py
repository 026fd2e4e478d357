"""`drc check` and `drc run` against real servers with a single fault each.

Each test breaks a setting on a pair of 9.7 and 8.0, reads the answers of both commands, and
repairs the setting.
"""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from drc import cli
from drc.gtid import GtidSet, parse_uuid
from drc.sandbox import ConfigSpec, Sandbox, SiteSpec

pytestmark = [pytest.mark.servers, pytest.mark.timeout(120)]

ROOT = Path(__file__).parents[2]
WAIT_S = 150.0
_POLL_S = 0.05


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Run servers for this file alone, as settings are changed: `a` is 9.7, `b` is 8.0."""
    with Sandbox(tmp_path_factory.mktemp("check"), die_with_parent=True) as box:
        box.up([SiteSpec("a", "9.7"), SiteSpec("b", "8.0")])
        config = box.write_config(box.folder / "m.toml", ConfigSpec(start="now"))
        assert cli.invoke(["migrate", "-c", str(config)]) == 0
        yield box


@pytest.fixture(autouse=True)
def _new_streams(sites: Sandbox) -> None:
    """Let streams begin again, so that nothing of an earlier test is under way."""
    for site in sites.sites.values():
        site.query("DELETE FROM drc.ledger")


@pytest.fixture
def config(sites: Sandbox, tmp_path: Path, schema: str) -> Iterator[Path]:
    for site in sites.sites.values():
        site.query(f"CREATE DATABASE {schema}")
    yield sites.write_config(tmp_path / "pair.toml", ConfigSpec(schemas=[schema], start="now"))
    for site in sites.sites.values():
        site.query(f"DROP DATABASE {schema}")


def _check(config: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[dict[str, str]]]:
    """Return the exit code and the failed findings."""
    capsys.readouterr()
    code = cli.invoke(["check", "--json", "-c", str(config)])
    body = json.loads(capsys.readouterr().out)
    assert body["exit_code"] == code
    return code, [f for f in body["findings"] if f["level"] == "fail"]


def _run(config: Path) -> tuple[int, dict[str, Any]]:
    """Run the daemon, which must refuse; return the exit code and the last line of the log."""
    done = subprocess.run(
        [sys.executable, "-m", "drc.cli", "run", "--all", "-c", str(config)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, json.loads(done.stderr.splitlines()[-1])


def _both_name(
    config: Path, capsys: pytest.CaptureFixture[str], code: int, found: str, fix: str
) -> None:
    """Assert that both commands end with ``code`` and name the fault and the remedy."""
    checked, fails = _check(config, capsys)
    assert checked == code, fails
    assert any(found in f["found"] and fix in f["fix"] for f in fails), fails
    ended, line = _run(config)
    assert ended == code, line
    assert line["level"] == "error"
    assert found in line["event"], line
    assert fix in line["hint"], line


@contextlib.contextmanager
def _global(sites: Sandbox, name: str, variable: str, value: str | int) -> Iterator[None]:
    site = sites.sites[name]
    before = site.query(f"SELECT @@GLOBAL.{variable}")[0][0]
    site.query(f"SET GLOBAL {variable} = %s", (value,))
    yield
    site.query(f"SET GLOBAL {variable} = %s", (before,))


def test_good_sites(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _check(config, capsys) == (0, [])


def test_wrong_password(
    sites: Sandbox, config: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("wrong")
    wrong.chmod(0o600)
    right = str(sites.sites["b"].password_file("drc_applier"))
    config.write_text(config.read_text().replace(right, str(wrong)))
    place = f"127.0.0.1:{sites.sites['b'].port}"
    found = f"{place} refuses the password of account 'drc_applier'"
    _both_name(config, capsys, 2, found, f"check the user and the password in {wrong}")


def test_password_file_that_others_can_read(
    sites: Sandbox, config: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    loose = tmp_path / "loose"
    loose.write_text(sites.sites["a"].password("drc_source"))
    loose.chmod(0o644)
    right = str(sites.sites["a"].password_file("drc_source"))
    config.write_text(config.read_text().replace(right, str(loose)))
    _both_name(config, capsys, 2, "can be read by others", f"run `chmod 600 {loose}`")


def test_server_that_is_not_in_row_format(
    sites: Sandbox, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with _global(sites, "b", "binlog_format", "STATEMENT"):
        _both_name(config, capsys, 1, "STATEMENT", "SET PERSIST binlog_format = ROW")


def test_minimal_metadata(sites: Sandbox, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with _global(sites, "a", "binlog_row_metadata", "MINIMAL"):
        _both_name(config, capsys, 1, "MINIMAL", "SET PERSIST binlog_row_metadata = FULL")


def test_table_without_primary_key(
    sites: Sandbox, config: Path, capsys: pytest.CaptureFixture[str], schema: str
) -> None:
    for site in sites.sites.values():
        site.query(f"CREATE TABLE {schema}.heap (x INT)")
    _both_name(config, capsys, 1, f"{schema}.heap", f"add a primary key to {schema}.heap")


def test_equal_server_ids(sites: Sandbox, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with _global(sites, "b", "server_id", 1):
        _both_name(config, capsys, 1, "1 and 1", "SET PERSIST server_id")


def test_our_readers_id_is_taken(
    sites: Sandbox, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = config.read_text()
    config.write_text(text.replace("[sites.a]", "[sites.a]\nserver_id = 1", 1))
    _both_name(config, capsys, 2, "2, also used by site b", "set sites.a.server_id")


def test_purged_binlog(
    sites: Sandbox, config: Path, capsys: pytest.CaptureFixture[str], schema: str
) -> None:
    site = sites.sites["a"]
    site.query(f"CREATE TABLE {schema}.gone (id INT PRIMARY KEY)")
    site.query("FLUSH BINARY LOGS")
    last = site.query("SHOW BINARY LOGS")[-1][0]
    site.query("PURGE BINARY LOGS TO %s", (last,))
    purged = GtidSet.parse(site.query("SELECT @@GLOBAL.gtid_purged")[0][0])
    own = parse_uuid(site.query("SELECT @@server_uuid")[0][0])
    needed = str(purged.with_tag("").of_uuids({own}))  # tagged transactions are never shipped
    site.query(f"DROP TABLE {schema}.gone")
    assert _check(config, capsys) == (0, [])  # a stream that begins now needs nothing purged
    config.write_text(config.read_text().replace('start = "now"', 'start = "earliest"'))
    _both_name(config, capsys, 1, needed, "restore the purged binlogs")


def test_vector_for_a_peer_of_8_0(
    sites: Sandbox, config: Path, capsys: pytest.CaptureFixture[str], schema: str
) -> None:
    sites.sites["a"].query(f"CREATE TABLE {schema}.v (id INT PRIMARY KEY, e VECTOR(3))")
    found = f"{schema}.v.e is VECTOR(3), and b runs 8.0.31"
    _both_name(config, capsys, 1, found, "upgrade b")
    text = config.read_text().replace(
        "[replicate]", f'[replicate]\nexclude_tables = ["{schema}.v"]'
    )
    config.write_text(text)
    assert _check(config, capsys) == (0, [])


def test_cascades_of_8_0(
    sites: Sandbox, config: Path, capsys: pytest.CaptureFixture[str], schema: str
) -> None:
    for site in sites.sites.values():
        site.query(f"CREATE TABLE {schema}.p (id INT PRIMARY KEY)")
        site.query(
            f"CREATE TABLE {schema}.c (id INT PRIMARY KEY, CONSTRAINT fk_c FOREIGN KEY (id)"
            f" REFERENCES {schema}.p (id) ON DELETE CASCADE)"
        )
    code, fails = _check(config, capsys)
    assert code == 1
    assert [(f["site"], f["found"]) for f in fails] == [("b", f"{schema}.c: fk_c")]


def test_tables_that_differ(
    sites: Sandbox, config: Path, capsys: pytest.CaptureFixture[str], schema: str
) -> None:
    for site, type_ in zip(sites.sites.values(), ("INT", "BIGINT UNSIGNED"), strict=True):
        site.query(f"CREATE TABLE {schema}.d (id INT PRIMARY KEY, n {type_})")
    sites.sites["a"].query(f"CREATE TABLE {schema}.alone (id INT PRIMARY KEY)")
    code, fails = _check(config, capsys)
    assert code == 1
    assert {f["found"] for f in fails} == {
        f"{schema}.d: column 2 (n): type int and bigint unsigned",
        f"{schema}.alone does not exist",
    }


@pytest.mark.parametrize("key", ["PRIMARY KEY (k)", "PRIMARY KEY (id), UNIQUE (k)"])
@pytest.mark.parametrize(
    ("at_a", "at_b"),
    [
        ("utf8mb4_0900_ai_ci", "utf8mb4_0900_as_cs"),  # another collation
        ("utf8mb4_general_ci", "utf8mb3_general_ci"),  # another character set
    ],
)
def test_key_columns_whose_collations_differ(
    sites: Sandbox,
    config: Path,
    capsys: pytest.CaptureFixture[str],
    schema: str,
    key: str,
    at_a: str,
    at_b: str,
) -> None:
    for site, collation in zip(sites.sites.values(), (at_a, at_b), strict=True):
        site.query(
            f"CREATE TABLE {schema}.k (id INT NOT NULL, k VARCHAR(9) COLLATE {collation} NOT NULL,"
            f" {key})"
        )
    found = f"{schema}.k.k has {at_a} at a and {at_b} at b"
    _both_name(config, capsys, 1, found, f"ALTER TABLE {schema}.k MODIFY k")
    sites.sites["b"].query(f"ALTER TABLE {schema}.k MODIFY k VARCHAR(9) COLLATE {at_a} NOT NULL")
    assert _check(config, capsys) == (0, [])


def test_every_kind_of_table_has_equal_facts_on_both_versions(
    sites: Sandbox, config: Path, capsys: pytest.CaptureFixture[str], schema: str
) -> None:
    for site in sites.sites.values():
        site.query(
            f"CREATE TABLE {schema}.wide (id BIGINT UNSIGNED PRIMARY KEY AUTO_INCREMENT,"
            " a VARCHAR(9) CHARACTER SET latin1, b VARCHAR(9) CHARACTER SET utf8mb3, c JSON,"
            " d ENUM('x','y'), e SET('x','y'), f YEAR, g BIT(9), h GEOMETRY SRID 0, i DECIMAL(9,2),"
            " j TINYINT(1), k INT GENERATED ALWAYS AS (i * 2) VIRTUAL, l INT AS (j + 1) STORED,"
            " m TIMESTAMP(6) NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),"
            " n VARCHAR(9) INVISIBLE, UNIQUE (a), UNIQUE ((LOWER(b))))"
        )
        with site.connect("app") as conn, conn.cursor() as cursor:
            cursor.execute("SET SESSION sql_generate_invisible_primary_key = ON")
            cursor.execute(f"CREATE TABLE {schema}.hidden (x INT)")
        site.query(f"CREATE VIEW {schema}.vw AS SELECT 1 AS x")
    code, fails = _check(config, capsys)
    assert (code, fails) == (0, [])


def test_a_missing_right_is_named(
    sites: Sandbox, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = sites.sites["a"]
    site.query("REVOKE TRANSACTION_GTID_TAG ON *.* FROM drc_applier@'%%'", ())
    try:
        found = "drc_applier lacks TRANSACTION_GTID_TAG on *.*"
        _both_name(config, capsys, 1, found, "GRANT TRANSACTION_GTID_TAG ON *.*")
    finally:
        site.query("GRANT TRANSACTION_GTID_TAG ON *.* TO drc_applier@'%%'", ())


def test_views_and_functions_that_the_applier_could_not_repeat(
    sites: Sandbox, config: Path, capsys: pytest.CaptureFixture[str], schema: str
) -> None:
    """Follow the hint of the finding; then such a change is replicated."""
    a, b = sites.sites["a"], sites.sites["b"]
    for site in (a, b):
        site.query(f"CREATE TABLE {schema}.t (id INT PRIMARY KEY)")
        site.query(f"CREATE VIEW {schema}.v AS SELECT id FROM {schema}.t", account="app")
        site.query(f"CREATE FUNCTION {schema}.f() RETURNS INT NO SQL RETURN 1", account="app")

    def warned() -> list[tuple[str, str]]:
        capsys.readouterr()
        assert cli.invoke(["check", "--json", "-c", str(config)]) == 0
        found = json.loads(capsys.readouterr().out)["findings"]
        about = ("account applier", "log_bin_trust_function_creators")
        return [
            (f["found"], f["fix"]) for f in found if f["level"] == "warn" and f["setting"] in about
        ]

    assert warned() == []
    b.query("REVOKE CREATE VIEW, CREATE ROUTINE, SET_USER_ID ON *.* FROM drc_applier@'%%'", ())
    with _global(sites, "a", "log_bin_trust_function_creators", 0):
        (trust, _), (rights, fix) = warned()
    assert rights == (
        f"drc_applier lacks CREATE ROUTINE, CREATE VIEW on {schema}.*; SET_USER_ID on *.*"
    )
    assert trust == "OFF"
    for statement in fix.replace("…", "%%").split("; "):
        b.query(statement, ())
    assert warned() == []
    with _daemon(config, "--site", "b") as daemon:
        _await_line(daemon, "stream is running")
        a.query(f"CREATE VIEW {schema}.w AS SELECT 7 AS x", account="app")
        _await_rows(b, f"SELECT x FROM {schema}.w", ((7,),))
        a.query(f"CREATE FUNCTION {schema}.g() RETURNS INT NO SQL RETURN 8", account="app")
        _await_rows(b, f"SELECT {schema}.g()", ((8,),))


def test_schema_drc_is_missing(
    sites: Sandbox, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sites.sites["b"].query("DROP DATABASE drc")
    try:
        _both_name(config, capsys, 1, "missing", "run `drc migrate`")
    finally:
        assert cli.invoke(["migrate", "-c", str(config)]) == 0
    assert _check(config, capsys) == (0, [])


def test_migrate_writes_nothing_when_there_is_nothing_to_do(
    sites: Sandbox, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def executed() -> list[Any]:
        return [s.query("SELECT @@GLOBAL.gtid_executed") for s in sites.sites.values()]

    before = executed()
    capsys.readouterr()
    assert cli.invoke(["migrate", "--json", "-c", str(config)]) == 0
    done = json.loads(capsys.readouterr().out)["migrations"]
    assert [(m["place"], m["changed"]) for m in done[:2]] == [("a", False), ("b", False)]
    assert done[2]["place"] == "store"
    assert executed() == before


def test_unreachable_peer(sites: Sandbox, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Check that `run` reports a peer that is away, and waits instead of giving up."""
    peer = sites.sites["b"]
    peer.stop()
    try:
        code, fails = _check(config, capsys)
        assert code == 1
        assert [(f["site"], f["kind"]) for f in fails] == [("b", "reach")]
        assert f"127.0.0.1:{peer.port} is not reachable" in fails[0]["found"]
        assert "start the server" in fails[0]["fix"]
        with _daemon(config, "--site", "a") as daemon:
            line = _await_line(daemon, "preflight")
            assert f"127.0.0.1:{peer.port} is not reachable" in line["found"]
            assert "start the server" in line["hint"]
            assert _await_line(daemon, "waiting for sites")["away"] == ["b"]
            peer.start()
            peer.wait_ready()
            assert _await_line(daemon, "stream is running")["stream"] == "b->a"
    finally:
        if not peer.pid:
            peer.start()
            peer.wait_ready()


def test_wrong_tls_is_a_configuration_error(
    sites: Sandbox, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text(config.read_text().replace('mode = "required"', 'mode = "verify_identity"'))
    _both_name(config, capsys, 2, "CERTIFICATE_VERIFY_FAILED", "tls.ca")


def test_documented_grants_are_enough(
    sites: Sandbox, capsys: pytest.CaptureFixture[str], tmp_path: Path, schema: str
) -> None:
    """Run the SQL of docs/operations/install.md as it stands; replicate rows and DDL both ways."""
    text = (ROOT / "docs" / "operations" / "install.md").read_text()
    blocks = re.findall(r"```sql( 8\.3)?\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 4
    secret = tmp_path / "secret"
    secret.write_text("change me")
    secret.chmod(0o600)
    path = sites.write_config(
        tmp_path / "p.toml", ConfigSpec(schemas=[schema], start="now", name="documented")
    )
    lines = re.sub(r'password_file = "[^"]*"', f'password_file = "{secret}"', path.read_text())
    path.write_text(re.sub(r'user = "drc_', 'user = "doc_', lines))
    for name, site in sites.sites.items():
        for condition, block in blocks:
            if condition and name == "b":
                continue
            sql = block.replace("'drc_", "'doc_").replace("shop.*", f"{schema}.*")
            for statement in filter(None, map(str.strip, sql.split(";"))):
                site.query(statement)
        site.query(f"CREATE DATABASE {schema}")
    try:
        assert cli.invoke(["migrate", "-c", str(path)]) == 0
        assert _check(path, capsys) == (0, [])
        with _daemon(path, "--all") as daemon:
            for _ in sites.sites:
                _await_line(daemon, "stream is running")
            a, b = sites.sites["a"], sites.sites["b"]
            a.query(f"CREATE TABLE {schema}.t (id INT PRIMARY KEY, v INT)")
            a.query(f"INSERT INTO {schema}.t VALUES (1, 1)")
            _await_rows(b, f"SELECT id FROM {schema}.t", ((1,),))
            b.query(f"INSERT INTO {schema}.t VALUES (2, 2)")
            _await_rows(a, f"SELECT id FROM {schema}.t ORDER BY id", ((1,), (2,)))
    finally:
        for site in sites.sites.values():
            site.query(f"DROP DATABASE {schema}")
            for role in ("source", "applier", "operator"):
                site.query(f"DROP USER IF EXISTS doc_{role}@'%%'", ())


@contextlib.contextmanager
def _daemon(config: Path, *args: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "drc.cli", "run", "-c", str(config), *args]
    daemon = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        yield daemon
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(WAIT_S) == 0
    finally:
        daemon.kill()
        daemon.wait()
        assert daemon.stderr
        daemon.stderr.close()


def _await_line(daemon: subprocess.Popen[str], event: str) -> dict[str, Any]:
    """Return the next line of the log about ``event``; the test's own timeout ends the wait."""
    assert daemon.stderr
    for line in daemon.stderr:
        print(line)  # pytest shows the line when the test fails
        fields = json.loads(line)
        if str(fields["event"]).startswith(event) and fields.get("setting", "account").startswith(
            "account"
        ):
            return dict(fields)
    raise AssertionError(f"the daemon ended without {event!r}")


def _await_rows(site: Any, sql: str, rows: tuple[tuple[Any, ...], ...]) -> None:
    """Wait until a query returns these rows; the test's own timeout ends the wait."""
    while True:
        with contextlib.suppress(Exception):  # the table may not exist yet
            if tuple(site.query(sql)) == rows:
                return
        time.sleep(_POLL_S)
