"""A site's topic for readers: lines of `drc tail`, and transactions for other programs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from drc import cli
from drc.clock import Mark
from drc.gtid import GtidSet
from drc.kafka.frames import FrameEncoder, FrameId
from drc.kafka.reader import TopicGapError, TopicReader
from drc.kafka.topics import create_topic
from drc.sandbox.kafka import KafkaCluster
from tests.integration.fix_topic import Published
from tests.integration.test_kafka_sandbox import config_of, exchange
from tests.property.test_gate import FORMAT, HISTORY

pytestmark = pytest.mark.servers

DOC = Path(__file__).parents[2] / "docs/reference/frames.md"


def tail(
    path: Path, capsys: pytest.CaptureFixture[str], *args: str, code: int = 0
) -> list[dict[str, Any]]:
    capsys.readouterr()
    found = cli.invoke(["tail", "--json", "-c", str(path), "--site", "a", *args])
    assert found == code
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()] if not code else []


def test_the_same_documents_from_binlog_and_topic(
    published: Published, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    schema = published.schema
    published.run(
        f"INSERT INTO {schema}.t VALUES (1, 'a'), (2, 'b')",
        "SET SESSION binlog_transaction_compression = ON",
        f"UPDATE {schema}.t SET a = CONCAT(a, REPEAT('x', 900))",
        "SET SESSION binlog_transaction_compression = OFF",
        f"INSERT INTO {schema}.t WITH RECURSIVE n (i) AS (SELECT 3 UNION ALL SELECT i + 1 FROM n"
        f" WHERE i < 200) SELECT i, REPEAT('y', 900) FROM n",
        f"DELETE FROM {schema}.t WHERE id < 100",
    )
    # The servers do not answer: the topic is enough.
    away = tmp_path / "away.toml"
    away.write_text(re.sub(r"(?m)^port = \d+", "port = 1", published.path.read_text(), count=1))
    start = ("--tables", f"{schema}.*", "--start", published.known, "--limit")
    binlog = tail(published.path, capsys, "--from", "binlog", *start, "8")
    topic = tail(away, capsys, "--from", "kafka", *start, "8")
    assert topic == binlog
    assert any(d.get("part") for d in topic), "no large transaction came in parts"
    assert tail(away, capsys, "--from", "kafka", "--start", "earliest", "--limit", "1")


def test_what_came_by_replication_has_its_gtid_only(published: Published) -> None:
    with TopicReader(published.config, "a", published.known) as reader:
        published.run(
            "SET gtid_next = 'AUTOMATIC:drc'", f"INSERT INTO {published.schema}.t VALUES (1, 'a')"
        )
        *_, last = published.read(reader)
    assert (last.gtid.tag, last.kind.value, last.events) == ("drc", "skipped", [])


def test_readers_do_not_disturb_each_other(published: Published) -> None:
    names = ("earliest", published.known, "now")
    first, second, third = (TopicReader(published.config, "a", name) for name in names)
    with first, second, third:
        seen: list[set[str]] = [set(), set(), set()]
        for key in range(5):
            published.run(f"INSERT INTO {published.schema}.t VALUES ({key}, 'a')")
            for number, reader in enumerate((first, second, third)):
                seen[number] |= {str(t.gtid) for t in published.read(reader)}
        assert seen[0] == seen[1]
        assert seen[2] <= seen[0]
        assert len(seen[2]) >= 5
    # A reader goes on where another reader stopped.
    published.run(f"INSERT INTO {published.schema}.t VALUES (9, 'a')")
    with TopicReader(published.config, "a", first.already_read) as fourth:
        assert len(published.read(fourth)) == 1


def test_a_hole_is_told_and_not_passed_over(
    published: Published, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with TopicReader(published.config, "a", published.known) as reader:
        published.read(reader)
        before, executed = reader.already_read.copy(), published.executed()
        for key in range(4):
            published.run(f"INSERT INTO {published.schema}.t VALUES ({key}, 'a')")
        with TopicReader(published.config, "a", before) as other:
            published.read(other)
            lost, end = other.already_read - before, other._topic.ends().end
            published.run(f"INSERT INTO {published.schema}.t VALUES (9, 'a')")
            published.read(other)
        published.cut(end)
        with TopicReader(published.config, "a", "earliest") as late:
            assert len([t for t in published.read(late) if t.events]) == 1
    with TopicReader(published.config, "a", before) as behind:
        for _ in range(2):  # does not go on behind the gap
            with pytest.raises(TopicGapError) as caught:
                published.read(behind)
            assert caught.value.missing == lost
        assert behind.already_read == before
    tail(published.path, capsys, "--from", "kafka", "--start", executed, code=3)
    cli.invoke(
        ["tail", "-c", str(published.path), "--site", "a", "--from", "kafka", "--start", executed]
    )
    said = capsys.readouterr().err
    assert ".a lacks " in said.replace("\n", " ")
    assert "start from a GTID set" in said.replace("\n", " ")


def test_a_transaction_of_which_the_beginning_is_gone_is_not_shown(kafka: KafkaCluster) -> None:
    config = config_of(kafka, "headless")
    create_topic(config, "a")
    first = next(i for i, t in enumerate(HISTORY) if t.part)
    after = next(i for i in range(first, len(HISTORY)) if HISTORY[i].part == 0)
    covered, frames = GtidSet.of(t.gtid for t in HISTORY[:first]), list[bytes]()
    for seq, transaction in enumerate(HISTORY[first:]):
        covered.add(transaction.gtid)
        stamp = FrameId(1, b"session.", seq)
        frames += FrameEncoder("headless/a", 1 << 20).encode(
            stamp, FORMAT, covered, [transaction], Mark()
        )
    exchange(config, *frames)
    with TopicReader(config, "a", "earliest") as reader:
        seen = [t for _ in frames for t in reader.read()]
    assert [t.gtid for t in seen] == [t.gtid for t in HISTORY[after:]]


def test_the_example_of_the_documentation(
    published: Published, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    published.run(f"INSERT INTO {published.schema}.t VALUES (1, 'an example')")
    found = re.search(r"```python\n(.*?)```", DOC.read_text(), re.DOTALL)
    assert found
    # Names of site, table and row of the test.
    code = found[1].replace("shanghai", "a").replace("shop.*", f"{published.schema}.t")
    code = code.replace("100", "3")
    monkeypatch.chdir(published.path.parent)
    exec(compile(code, str(DOC), "exec"), {})  # noqa: S102
    assert "an example" in capsys.readouterr().out
