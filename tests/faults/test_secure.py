"""Whole daemons over TLS and SCRAM; the error for a wrong password names the section."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from drc.sandbox import Sandbox
from drc.sandbox.kafka import KafkaCluster
from tests.faults.fix_daemon import StartDaemons, assert_identical

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
    done = subprocess.run(
        [sys.executable, "-m", "drc.cli", "run", "--site", "a", "-c", str(path)],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    assert "[kafka.account]" in last
    assert "s3cret" not in done.stderr
