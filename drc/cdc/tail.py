"""The tail of a site's binlog or topic, for people to read. Edge; writes nothing anywhere."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from typing import Any

from drc import mysql
from drc.binlog.framing import Framer
from drc.binlog.transaction import RawTransaction
from drc.config import Config
from drc.gtid import GtidSet
from drc.rows.decoded import Decoder
from drc.source.dump import reads, start_dump


def follow(
    config: Config, site: str, start: str, tables: str, transport: str = "binlog"
) -> Iterator[dict[str, Any]]:
    """Yield the transactions of a site as documents, for ever.

    :param start: ``now``, ``earliest``, or the GTID set that is already read.
    :param tables: patterns of tables, as for :class:`drc.rows.decoded.Decoder`: ``shop.*``.
    :param transport: ``binlog`` or ``kafka``: the site's binlog, or its topic.
    :raises DrcError: the site cannot be reached or refuses the account, the binlog cannot be read,
        Kafka refuses the client, or the topic has a gap.
    """
    decoder = Decoder(tables)
    if transport == "kafka":
        from drc.kafka.reader import follow_topic  # loaded only with Kafka

        transactions = follow_topic(config, site, start)
    else:
        transactions = _follow_binlog(config, site, start)
    for transaction in transactions:
        if document := decoder.document(transaction):
            yield document


def _follow_binlog(config: Config, site: str, start: str) -> Iterator[RawTransaction]:
    batch: list[RawTransaction] = []
    with contextlib.ExitStack() as stack:
        conn = mysql.connect(config, site, "source")
        stack.callback(conn._force_close)  # type: ignore[attr-defined]
        framer = Framer(batch.extend, config.apply.transaction_stream_bytes)
        sock = start_dump(
            conn,
            _known(mysql.server_facts(conn), start),
            server_id=config.dump_server_id(site, "tail"),
            stream=f"tail-{uuid.uuid4()}",  # several processes may follow a site at once
            heartbeat_s=config.source.heartbeat_s,
        )
        for data in reads(sock):
            framer.feed(data)
            yield from batch
            batch.clear()


def _known(facts: mysql.ServerFacts, start: str) -> GtidSet:
    if start == "now":
        return facts.gtid_executed
    return facts.gtid_purged if start == "earliest" else GtidSet.parse(start)
