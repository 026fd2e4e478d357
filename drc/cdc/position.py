"""The topic ``….position``: the GTID set whose row changes are published as JSON. Edge.

Set and messages always agree, as a Kafka transaction writes both. The record is a GTID set and not
an offset, so that the topic of frames may be deleted and created again.
"""

from __future__ import annotations

import json
import time
from typing import Any

from kafka import KafkaProducer, TopicPartition

from drc.config import Config
from drc.errors import TransientError
from drc.gtid import GtidSet
from drc.kafka.kafka_python import open_consumer, translate
from drc.kafka.topics import create

_READ_S = 10.0
_POLL_MS = 500
_TAIL_MESSAGES = 64  # at first; rolled back records may follow the last valid record
_SETTINGS = {"cleanup.policy": "compact", "segment.bytes": str(1 << 20)}


class PublishedTopic:
    """The compacted topic that records the published GTIDs of ``site``; created if missing.

    :raises DrcError: Kafka is away or refuses the client.
    """

    def __init__(self, config: Config, site: str) -> None:
        self._config, self._site = config, site
        self.name = f"{config.topic(site)}.position"
        create(config, site, self.name, _SETTINGS)

    def write(self, producer: KafkaProducer, published: GtidSet) -> Any:
        """Send the published GTIDs in the open Kafka transaction; return the future of sending."""
        value = json.dumps({"gtid_set": str(published)}).encode()
        return producer.send(self.name, value, key=self._site.encode(), partition=0)

    def read(self) -> GtidSet | None:
        """Return the GTIDs that were committed last, None before the first commit.

        :raises DrcError: Kafka is away or refuses the client.
        """
        consumer = open_consumer(self._config, self._site, "read_committed")
        try:
            value = self._last(consumer)
        except Exception as error:
            raise translate(error) from error
        finally:
            consumer.close(autocommit=False)
        return GtidSet.parse(json.loads(value)["gtid_set"]) if value else None

    def _last(self, consumer: Any) -> bytes | None:
        place, found = TopicPartition(self.name, 0), None
        consumer.assign([place])
        begin = consumer.beginning_offsets([place])[place]
        end, count = consumer.end_offsets([place])[place], _TAIL_MESSAGES
        deadline = time.monotonic() + _READ_S
        while found is None:
            start = max(begin, end - count)
            consumer.seek(place, start)
            while consumer.position(place) < end:
                if time.monotonic() > deadline:
                    raise TransientError(
                        f"cannot read the topic {self.name}: no answer within {_READ_S:g} s",
                        stage="log",
                    )
                for records in consumer.poll(_POLL_MS).values():
                    found = records[-1].value
            if start == begin:
                break
            count *= 4
        return found
