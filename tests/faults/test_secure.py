"""Whole daemons over TLS and SCRAM; the error for a wrong password names the section."""

from __future__ import annotations

from pathlib import Path

import pytest

from drc.sandbox import Sandbox
from drc.sandbox.kafka import KafkaCluster
from tests.faults.fix_daemon import StartDaemons, assert_identical, wait_until

pytestmark = pytest.mark.servers

WAIT_S = 60


def test_daemons_over_tls_and_scram(
    pair: Sandbox, kafka: KafkaCluster, schema: str, daemons: StartDaemons, tmp_path: Path
) -> None:
    running = daemons(pair, kafka=kafka, name="secure", listener="SASL_SSL")
    assert running["a"].config.kafka.tls.mode == "verify_identity"
    a = pair.sites["a"]
    a.query(f"CREATE TABLE `{schema}`.t (id INT PRIMARY KEY)", account="app")
    a.query(f"INSERT INTO `{schema}`.t VALUES (1)", account="app")
    running["a"].drain(schema)
    assert_identical(pair, schema)
    assert [one.stop() for one in running.values()] == [0, 0]

    wrong = tmp_path / "wrong"
    wrong.touch(mode=0o600)
    wrong.write_text("s3cret-and-wrong")
    path, right = running["a"].path, str(kafka.folder / "tls" / "drc.password")
    path.write_text(path.read_text().replace(right, str(wrong)))
    # A slow machine may reach the broker too late for the check before the start: then the daemon
    # runs, and its publisher stops with the same remedy.
    one = running["a"]
    one.log.unlink()
    one.start()
    wait_until(lambda: one.has_ended or _stopped(one.log.read_text()), one, wait_s=WAIT_S)
    if one.has_ended:
        assert one.wait_exit() == 2, one.tail()
        told = one.log.read_text()
        last = told.splitlines()[-1]
    else:
        one.kill9()
        told = one.log.read_text()
        last = _stopped(told)
    assert "[kafka.account]" in last
    assert "s3cret" not in told


def _stopped(said: str) -> str:
    """Return the line of a daemon's log that reports a stopped publisher; '' before that line."""
    whole = said[: said.rfind("\n") + 1].splitlines()
    return next((line for line in whole if "publisher stopped" in line), "")
