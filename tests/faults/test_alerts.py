"""A daemon's webhook: told of a held stream, of the remedy, and of the end."""

from __future__ import annotations

import pytest

from drc.sandbox import Sandbox
from tests.faults.fix_daemon import LONG, StartDaemon
from tests.unit.monitor.test_webhook import Receiver, receiver  # noqa: F401

pytestmark = pytest.mark.servers

_CONFIG = '\n[alerts]\nwebhook_url = "{}"\nblocked_s = 1\nclear_s = 0.5\n'


@LONG
def test_a_held_stream_is_told_and_that_it_is_over(
    pair: Sandbox,
    schema: str,
    daemon: StartDaemon,
    receiver: Receiver,  # noqa: F811
) -> None:
    running = daemon(pair, name="alerted")
    assert running.stop() == 0
    with running.path.open("a") as file:
        file.write(_CONFIG.format(receiver.url))
    running.start()
    a, b = pair.sites["a"], pair.sites["b"]
    a.query(f"CREATE TABLE `{schema}`.orders (id INT PRIMARY KEY, v INT)", account="app")
    a.query(f"INSERT INTO `{schema}`.orders VALUES (1, 1)", account="app")
    running.drain(schema)
    with b.connect("app", autocommit=False) as user, user.cursor() as cursor:
        cursor.execute(f"SELECT v FROM `{schema}`.orders WHERE id = 1 FOR UPDATE")
        a.query(f"UPDATE `{schema}`.orders SET v = 2", account="app")
        _, told = receiver.got.get(timeout=60)
        assert (told["event"], told["id"], told["site"]) == ("raised", "a->b/blocked", "b")
        assert f"{schema}.orders" in told["sentence"]
        holder = int(user.thread_id())  # type: ignore[no-untyped-call]
        assert f"KILL {holder}" in told["command"]
        user.rollback()
    _, told = receiver.got.get(timeout=60)
    assert (told["event"], told["id"]) == ("resolved", "a->b/blocked")
    assert receiver.got.empty()
    assert running.stop() == 0
