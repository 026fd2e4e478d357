"""The command line without servers: exit codes, errors as message and remedy, JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import click
import msgspec
import pytest
from msgspec.structs import replace
from rich.console import Console

from drc import cli
from drc.cli import check, output, status
from drc.errors import DataError, PreflightError
from drc.monitor.document import DaemonReport, Status
from drc.preflight.facts import Finding
from drc.worker.snapshot import WatcherSnapshot

CONFIG = """
name = "shop"
[sites.a]
host = "127.0.0.1"
port = 1
source = {user = "u", password_env = "DRC_TEST_PASSWORD"}
applier = {user = "u", password_env = "DRC_TEST_PASSWORD"}
[sites.b]
host = "127.0.0.1"
port = 2
source = {user = "u", password_env = "DRC_TEST_PASSWORD"}
applier = {user = "u", password_env = "DRC_TEST_PASSWORD"}
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("DRC_TEST_PASSWORD", "hush")
    path = tmp_path / "pair.toml"
    path.write_text(CONFIG)
    return str(path)


@pytest.mark.parametrize(
    ("code", "unwanted"),
    [
        ("from drc import cli; cli.invoke(['--help'])", {"drc.preflight", "rich", "structlog"}),
        ("import drc.cli.run, drc.preflight as p; p.site_head()", {"alembic", "sqlalchemy"}),
        ("import drc.cli.status", {"alembic", "sqlalchemy"}),
        ("import drc.state.store", {"alembic"}),
    ],
)
def test_a_command_imports_only_what_it_needs(code: str, unwanted: set[str]) -> None:
    """Check imports: an unneeded module costs CPU seconds at each start of a daemon."""
    command = [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "drc" in loaded
    assert not unwanted & loaded


def test_help_names_all_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.invoke(["--help"]) == 0
    shown = capsys.readouterr().out
    for name in ("run", "status", "check", "migrate", "config", "tail", "sandbox", "demo"):
        assert f"\n  {name} " in shown


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.invoke(["--version"]) == 0
    assert capsys.readouterr().out.startswith("drc, version ")


def test_wrong_usage_exits_with_2(capsys: pytest.CaptureFixture[str], config: str) -> None:
    for args in (
        ["nosuch"],
        ["config", "check"],
        ["run", "-c", config],
        ["run", "-c", config, "--all", "--site", "a"],
        ["check", "-c", config, "--nosuch"],
    ):
        assert cli.invoke(args) == 2, args
    assert "Traceback" not in capsys.readouterr().err


def test_config_check(capsys: pytest.CaptureFixture[str], config: str) -> None:
    assert cli.invoke(["config", "check", "-c", config]) == 0
    assert "127.0.0.1:1" in capsys.readouterr().out
    assert cli.invoke(["config", "check", "--json", "-c", config]) == 0
    shown = capsys.readouterr().out
    assert json.loads(shown)["sites"]["b"] == {"host": "127.0.0.1", "port": 2}
    assert "hush" not in shown


def test_config_check_reads_secrets(
    capsys: pytest.CaptureFixture[str], config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DRC_TEST_PASSWORD")
    assert cli.invoke(["config", "check", "-c", config]) == 2
    shown = capsys.readouterr().err
    assert "error: the password of 'u': environment variable DRC_TEST_PASSWORD is not set" in shown
    assert "fix: set DRC_TEST_PASSWORD" in shown
    assert cli.invoke(["config", "check", "--no-secrets", "-c", config]) == 0


def test_config_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.invoke(["config", "schema"]) == 0
    assert "$defs" in json.loads(capsys.readouterr().out)


def test_a_broken_configuration_names_key_and_remedy(
    capsys: pytest.CaptureFixture[str], config: str
) -> None:
    Path(config).write_text(CONFIG.replace("host =", "hots =", 1))
    for command in (["check"], ["status"], ["migrate"], ["config", "check"]):
        assert cli.invoke([*command, "-c", config]) == 2
        shown = capsys.readouterr().err
        assert "sites.a.hots is not a valid key" in shown
        assert "fix: did you mean host?" in shown
    assert cli.invoke(["run", "--all", "-c", config]) == 2
    log = json.loads(capsys.readouterr().err)
    assert (log["event"], log["level"]) == ("sites.a.hots is not a valid key", "error")
    assert log["hint"] == "did you mean host?"
    assert cli.invoke(["check", "--json", "-c", config]) == 2
    body = json.loads(capsys.readouterr().out)
    assert body["error"]["kind"] == "ConfigError"
    assert body["exit_code"] == 2


def test_unknown_site(capsys: pytest.CaptureFixture[str], config: str) -> None:
    assert cli.invoke(["check", "-c", config, "--site", "c"]) == 2
    assert "choose from: a, b" in capsys.readouterr().err


def test_errors_become_message_and_hint(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    @click.command()
    def stop() -> None:
        raise DataError("row is gone", hint="compare", gtid="u:7", table="s.[bold]t")

    monkeypatch.setattr(cli._Lazy, "get_command", lambda *_: stop)
    assert cli.invoke(["run"]) == 3
    shown = capsys.readouterr().err
    assert "error: row is gone (gtid u:7, table s.[bold]t)" in shown  # markup is shown as text
    assert "fix: compare" in shown


def test_error_document() -> None:
    document = output.error_document(PreflightError("m", hint="h", site="a"))
    assert document == {
        "error": {"kind": "PreflightError", "message": "m", "site": "a", "hint": "h"},
        "exit_code": 1,
    }


class _Span(NamedTuple):
    first: int
    last: int | None


def test_options_that_belong_together_reach_a_command_as_one_value(
    capsys: pytest.CaptureFixture[str],
) -> None:
    @click.command()
    @click.option("--before", default="")
    @output.gathered(
        "span",
        _Span,
        click.option("--first", default=1),
        click.option("--to", "last", type=int),
    )
    @output.json_option
    def command(*, span: _Span, before: str, as_json: bool) -> None:
        click.echo(f"{span} {before!r} {as_json}")

    assert [option.name for option in command.params] == ["before", "first", "last", "as_json"]
    command.main(["--to", "7", "--json"], standalone_mode=False)
    assert capsys.readouterr().out == "_Span(first=1, last=7) '' True\n"


def _finding(level: str, kind: str = "server") -> Finding:
    return Finding("a", "s", "w", "f", level, "why", "fix", kind)  # type: ignore[arg-type]


def test_check_exit_code() -> None:
    assert check.exit_code([_finding("ok"), _finding("warn"), _finding("info")]) == 0
    assert check.exit_code([_finding("fail"), _finding("warn", "config")]) == 1
    assert check.exit_code([_finding("fail", "reach")]) == 1
    assert check.exit_code([_finding("fail"), _finding("fail", "config")]) == 2


def test_check_with_nobody_there(capsys: pytest.CaptureFixture[str], config: str) -> None:
    assert cli.invoke(["check", "--json", "-c", config]) == 1
    body = json.loads(capsys.readouterr().out)
    assert not body["ok"]
    found = [(f["site"], f["level"], f["kind"]) for f in body["findings"]]
    assert found == [("a", "fail", "reach"), ("b", "fail", "reach")]
    assert "127.0.0.1:1 is not reachable" in body["findings"][0]["found"]
    assert "firewall" in body["findings"][0]["fix"]


def test_status_with_nobody_there(capsys: pytest.CaptureFixture[str], config: str) -> None:
    assert cli.invoke(["status", "--json", "-c", config]) == 0
    body = json.loads(capsys.readouterr().out)
    assert not body["ok"]
    assert [s["transactions_behind"] for s in body["streams"]] == [None, None]
    assert "not reachable" in body["sites"]["a"]["error"]["message"]
    assert cli.invoke(["status", "-c", config]) == 0
    assert "a → b" in capsys.readouterr().out
    assert status.render(msgspec.convert(body, Status))


def test_status_tells_of_an_index_that_spills(
    capsys: pytest.CaptureFixture[str], config: str
) -> None:
    cli.invoke(["status", "--json", "-c", config])
    found = msgspec.json.decode(capsys.readouterr().out, type=Status)
    for spilled, error, text in (
        (0, "", None),
        (1000, "", "1,000 of 5,000 keys are on disk, 3 MiB"),
        (1000, "disk full", "cannot spill to disk, 7 transactions forgotten: disk full"),
    ):
        watcher = WatcherSnapshot(
            state="running",
            slots=5000,
            forgotten=7,
            spilled_slots=spilled,
            spilled_bytes=3 << 20,
            spill_error=error,
        )
        daemon = DaemonReport(fresh=True, watcher=watcher)
        sites = {**found.sites, "a": replace(found.sites["a"], daemon=daemon)}
        Console(width=300).print(status.render(replace(found, sites=sites)))
        shown = capsys.readouterr().out
        assert text in shown if text else "own index" not in shown
