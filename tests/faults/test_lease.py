"""Two daemons for a site: holder and standby; a daemon that wakes up late is fenced."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from drc import mysql
from drc.cli import invoke as drc_command
from drc.clock import Mark
from drc.config import load
from drc.gtid import GtidSet
from drc.sandbox import ConfigSpec, Sandbox
from drc.schema import ledger
from drc.source.recorded import recorded
from drc.source.tagger import Tagger
from drc.verify.counts import count
from tests.faults.fix_daemon import (
    FULL,
    Daemon,
    StartDaemon,
    Sysbench,
    Unending,
    assert_identical,
    wait_until,
)

pytestmark = pytest.mark.servers

WAIT_S = 60
ROUNDS = 5 if FULL else 1
STANDS_BY = "standing by: another daemon"
UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"


def newest(box: Sandbox) -> tuple[int, int]:
    """Return the epoch of b's ledger, and the number of batches."""
    ((epoch, seq),) = box.sites["b"].query("SELECT MAX(epoch), MAX(seq) FROM drc.ledger")
    return epoch, seq


def await_batch(box: Sandbox, by: Daemon) -> None:
    """Wait until another batch is committed at b."""
    seq = newest(box)[1]
    wait_until(lambda: newest(box)[1] > seq, by, wait_s=WAIT_S)


def await_stop(one: Daemon) -> None:
    """Wait until a daemon's log says that it stopped."""
    wait_until(lambda: "daemon stopped" in one.log.read_text(), one, wait_s=WAIT_S)


def stands_by(one: Daemon, times: int = 1) -> None:
    wait_until(
        lambda: one.log.exists() and one.log.read_text().count(STANDS_BY) >= times,
        one,
        wait_s=WAIT_S,
    )


@contextlib.contextmanager
def daemons(running: Daemon) -> Iterator[tuple[Daemon, Daemon]]:
    """Run a daemon for site a, and a holder and a standby for b, in place of a common daemon."""
    assert running.stop() == 0, running.tail()
    before = newest(running.box)[0]
    with contextlib.ExitStack() as stack:

        def start(site: str, name: str) -> Daemon:
            one = Daemon(running.box, running.path, site)
            one.log = running.path.parent / f"{name}.log"
            stack.callback(one.end)
            return one.start()

        start("a", "of-a")
        holder = start("b", "holder")
        wait_until(lambda: newest(running.box)[0] > before, holder, wait_s=WAIT_S)
        standby = start("b", "standby")
        stands_by(standby)
        yield holder, standby


def taken_over(box: Sandbox, by: Daemon, loss: Callable[[], None]) -> float:
    """Return the seconds from a loss under load to the first batch under a new epoch."""
    epoch, begun = newest(box)[0], time.monotonic()
    loss()
    wait_until(lambda: newest(box)[0] > epoch, by, wait_s=WAIT_S)
    await_batch(box, by)  # at the earliest, after the last batch of the former holder
    return time.monotonic() - begun


def test_a_standby_takes_over_and_the_one_that_wakes_is_fenced(
    pair: Sandbox, schema: str, daemon: StartDaemon
) -> None:
    running = daemon(pair, name="lease")
    load_a = Sysbench(pair.sites["a"], schema, rows=500)
    load_a.prepare()
    running.drain(schema)
    since = running.executed()
    with daemons(running) as (one, other):
        users = Unending(load_a, 0, rate=100)
        try:
            for _ in range(ROUNDS):
                seconds = taken_over(pair, other, one.kill9)
                print(f"kill -9: first batch after {seconds:.1f} s")
                assert seconds < 10  # the promise
                one.log.unlink()
                one.start()
                stands_by(one)
                pid = other.processes()[0].pid
                seconds = taken_over(pair, one, partial(os.kill, pid, signal.SIGSTOP))
                print(f"SIGSTOP: first batch after {seconds:.1f} s")
                epoch = newest(pair)[0]
                os.kill(pid, signal.SIGCONT)
                stands_by(other, 2)
                await_stop(other)
                await_batch(pair, one)
                assert newest(pair)[0] == epoch
                other.log.write_text(STANDS_BY)
        finally:
            users.finish()
        running.drain(schema)
        assert_identical(pair, schema)
        running.assert_accounted(since)
        assert [other.stop(), one.stop()] == [0, 0]


def test_a_takeover_fences_and_tells_readers_nothing_new(pair: Sandbox, tmp_path: Path) -> None:
    path = pair.write_config(tmp_path / "pair.toml", ConfigSpec(name="fence"))
    assert drc_command(["migrate", "-c", str(path)]) == 0
    config, b = load(path), pair.sites["b"]
    b.query("DELETE FROM drc.ledger")
    applied = GtidSet.parse(f"{UUID}:1-11")
    with contextlib.closing(mysql.connect(config, "b", "applier")) as conn, conn.cursor() as cursor:
        before = mysql.server_facts(conn).gtid_executed
        old = ledger.next_epoch(conn)
        ledger.create(conn, "a", GtidSet(), old)
        ledger.create(conn, "c", GtidSet(), old)

        def batch(seq: int, epoch: int) -> int:
            gtids = f"{UUID}:{seq + 1}"
            until = f"{UUID}:1-{seq + 1}"
            sql = ledger.update_sql("a", seq, gtids, until, Mark(seq + 1), 1, 0, epoch)
            rows: int = cursor.execute(sql)
            return rows

        assert [batch(seq, old) for seq in range(11)] == [1] * 11  # the newest row is not the first
        new = ledger.next_epoch(conn)
        ledger.claim(conn, new)
        assert new > old
        assert (batch(11, old), batch(11, new)) == (0, 1)
        with pytest.raises(Exception, match="fenced: another daemon"):
            ledger.begin(conn, "a", old)
        state = ledger.begin(conn, "a", new)
        assert state
        assert (state.seq, state.epoch) == (11, new)
    tagger, seen = Tagger((), Mark()), list[GtidSet]()
    for transactions in recorded(config, "b", before, reader="audit"):
        seen += [t.seen.get("a", GtidSet()) for t in tagger.tag(transactions)]
    assert all(x <= y for x, y in itertools.pairwise(seen))
    assert seen[-1] == applied | GtidSet.parse(f"{UUID}:12")
    found = count(config, "b", foreign=set(), skip=before).ledger
    assert (found["a"].batches, str(found["a"].twice)) == (12, "")
    b.query("DELETE FROM drc.ledger")
