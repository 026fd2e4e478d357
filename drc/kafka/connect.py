"""Connect to Kafka by the library that ``kafka.client`` names. Edge."""

from __future__ import annotations

from drc.config import Config
from drc.kafka.client import Receiver, Sender


def open_sender(config: Config, site: str) -> Sender:
    """Connect to write the topic of ``site``.

    :raises DrcError: Kafka is away or refuses the client.
    """
    if config.kafka.client == "librdkafka":
        from drc.kafka.librdkafka import RdSender  # only the chosen library is loaded

        return RdSender(config, site)
    from drc.kafka.kafka_python import PythonSender

    return PythonSender(config, site)


def open_receiver(config: Config, site: str) -> Receiver:
    """Connect to read the topic of ``site``.

    :raises DrcError: Kafka is away or refuses the client, or the topic does not exist.
    """
    if config.kafka.client == "librdkafka":
        from drc.kafka.librdkafka import RdReceiver

        return RdReceiver(config, site)
    from drc.kafka.kafka_python import PythonReceiver

    return PythonReceiver(config, site)
