"""The ledger on a real server: one applier at a time, and never half."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymysql
import pytest

from drc import mysql
from drc.apply import ledger
from drc.apply.lane import Lane
from drc.cli import invoke as drc_command
from drc.config import Config, load
from drc.errors import TransientError
from drc.gtid import GtidSet
from drc.log.queue import TransactionQueue
from drc.sandbox import Sandbox
from drc.source.reader import Reader
from drc.source.tagger import Tagger

pytestmark = pytest.mark.servers


@pytest.fixture
def config(pair: Sandbox, tmp_path: Path) -> Config:
    path = pair.write_config(tmp_path / "pair.toml", name="ledgertest")
    assert drc_command(["migrate", "-c", str(path)]) == 0
    pair.sites["b"].query("DELETE FROM drc.ledger")
    return load(path)


def format_of(config: Config, site: str) -> bytes:
    source = mysql.connect(config.sites[site], config.sites[site].source, site_name=site)
    reader = Reader(
        source,
        TransactionQueue(1 << 20),
        Tagger(()),
        executed=mysql.server_facts(source).gtid_executed,
        server_id=4242,
        stream="test",
        heartbeat_s=1.0,
        stream_bytes=1 << 20,
    )
    with contextlib.closing(reader):
        return reader.format_description(10)


@pytest.fixture
def lanes(config: Config) -> Iterator[tuple[Lane, Lane]]:
    """Two appliers of one stream that know nothing of each other."""
    site, fde = config.sites["b"], format_of(config, "a")

    def connect(client_flag: int) -> pymysql.Connection[Any]:
        return mysql.connect(site, site.applier, site_name="b", client_flag=client_flag)

    both = tuple(Lane(connect, fde, tag=True, lock_wait_s=5) for _ in range(2))
    yield both[0], both[1]
    for lane in both:
        lane.close()


def test_a_second_applier_of_the_same_batch_is_refused(
    config: Config, lanes: tuple[Lane, Lane]
) -> None:
    site = config.sites["b"]
    with contextlib.closing(mysql.connect(site, site.applier, site_name="b")) as conn:
        state = ledger.create(conn, "a", GtidSet())
        text = "3e11fa47-71ca-11e1-9e33-c80aa9429562:1"
        first, second = lanes
        first.begin(ledger.update_sql("a", state.seq + 1, text, text, 1, 0), ())
        first.commit()
        with pytest.raises(TransientError, match="another applier"):
            second.begin(ledger.update_sql("a", state.seq + 1, text, f"{text}-9", 9, 0), ())
        second.rollback()
        found = ledger.read(conn, "a")
    assert found is not None
    assert (found.seq, str(found.applied)) == (state.seq + 1, text)
