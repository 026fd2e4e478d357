"""A daemon's metrics during replication, requested as Prometheus does."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import time
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from drc.sandbox import Sandbox
from drc.sandbox.process import free_port
from tests.faults.fix_daemon import LONG, StartDaemon

pytestmark = pytest.mark.servers

WAIT_S = 60
TOKEN = "of-the-test-0123456789"


def ask(port: int, path: str, token: str = "") -> tuple[int, str]:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as conn:
        conn.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
        answer = conn.getresponse()
        return answer.status, answer.read().decode()


def scrape(port: int) -> dict[tuple[str, frozenset[str]], float]:
    """Return the values of all samples, by name and label values."""
    status, text = ask(port, "/metrics", TOKEN)
    assert status == 200, text
    return {
        (s.name, frozenset(s.labels.values())): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }


def await_ready(port: int, said: Any) -> None:
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            if ask(port, "/readyz")[0] == 200:
                return
        except OSError:
            pass  # not yet listening
        assert time.monotonic() < deadline, said()
        time.sleep(0.05)


@pytest.mark.parametrize("log", [pytest.param("direct", marks=LONG), "kafka"])
def test_a_running_daemon_tells_of_itself(
    log: str,
    request: pytest.FixtureRequest,
    pair: Sandbox,
    schema: str,
    daemon: StartDaemon,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DRC_TOKEN", TOKEN)
    ports = {name: free_port() for name in pair.sites}
    web = {"token_env": "DRC_TOKEN"}
    kafka = request.getfixturevalue("kafka") if log == "kafka" else None
    blocked = socket.create_server(("127.0.0.1", ports["b"]))  # as by a daemon that still drains
    running = daemon(pair, kafka=kafka, name=f"web-{log}", web=web, listen=ports)
    with blocked:
        running.drain(schema)  # replication does not wait for a port
    for port in ports.values():
        await_ready(port, running.tail)
    before = scrape(ports["b"])
    site = pair.sites["a"]
    site.query(f"CREATE TABLE `{schema}`.t (id INT PRIMARY KEY)", account="app")
    for number in range(10):
        site.query(f"INSERT INTO `{schema}`.t VALUES ({number})", account="app")
    running.drain(schema)
    after = scrape(ports["b"])
    place = frozenset({running.config.name, "a", "b"})
    rows = ("drc_stream_rows_applied_total", place)
    assert after[rows] - before[rows] >= 11  # the marker is a row, too
    assert after["drc_stream_state", place | {"running"}] == 1
    assert 0 < after["drc_stream_lag_seconds", place | {"0.99"}] < WAIT_S
    assert after["process_resident_memory_bytes", frozenset()] > 1 << 20
    published = ("drc_publisher_transactions_total", place - {"a"})
    assert (published in after) == (log == "kafka")
    assert ask(ports["b"], "/metrics")[0] == 401
    assert ask(ports["b"], "/api/v1/snapshot")[0] == 401
    assert ask(ports["b"], "/api/v1/events", TOKEN + "x")[0] == 401
    said = json.loads(ask(ports["b"], "/api/v1/snapshot", TOKEN)[1])
    assert (said["site"], said["streams"][0]["state"]) == ("b", "running")
    assert json.loads(ask(ports["a"], "/readyz")[1])["states"]["b->a"] == "running"
    assert ask(ports["a"], "/docs")[0] == 404
    assert running.stop() == 0


def test_a_stream_that_stopped_is_not_ready(
    pair: Sandbox, schema: str, daemon: StartDaemon
) -> None:
    """Check that the other direction goes on, so the process lives and names the stopped stream."""
    ports = {name: free_port() for name in pair.sites}
    running = daemon(pair, listen=ports)
    running.drain(schema)
    await_ready(ports["b"], running.tail)
    for site in pair.sites.values():
        with site.connect("root") as conn, conn.cursor() as cursor:
            cursor.execute("SET SESSION sql_log_bin = 0")
            cursor.execute(f"CREATE TABLE `{schema}`.t (id INT)")  # no key: rows cannot be applied
    pair.sites["a"].query(f"INSERT INTO `{schema}`.t VALUES (1)", account="app")
    deadline = time.monotonic() + WAIT_S
    while json.loads(ask(ports["b"], "/readyz")[1])["states"]["a->b"] == "running":
        assert time.monotonic() < deadline, running.tail()
        time.sleep(0.05)
    assert ask(ports["a"], "/healthz") == (200, "alive\n")
    assert ask(ports["a"], "/readyz")[0] == 200
