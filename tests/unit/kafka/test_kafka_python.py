"""kafka-python: errors and behaviour that must not reach the rest of drc."""

from __future__ import annotations

from typing import Any

import pytest
from kafka import errors as kafka_errors

from drc.errors import ConfigError, PreflightError, TransientError
from drc.kafka.kafka_python import abandon, translate


def test_a_producer_is_abandoned_though_its_broker_is_away() -> None:
    """Check the close with all brokers killed: an error there once ended the publisher's thread."""

    class Stuck:
        def close(self, timeout: float) -> None:
            raise kafka_errors.KafkaTimeoutError("Timeout waiting for future")

    stuck: Any = Stuck()
    abandon(stuck)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (kafka_errors.KafkaTimeoutError("t"), TransientError),
        (kafka_errors.NotLeaderForPartitionError(), TransientError),
        (ConnectionResetError(), TransientError),
        (kafka_errors.SaslAuthenticationFailedError(), ConfigError),
        (kafka_errors.TopicAuthorizationFailedError(), PreflightError),
        (kafka_errors.UnknownTopicOrPartitionError(), PreflightError),
        (kafka_errors.MessageSizeTooLargeError(), ConfigError),
    ],
)
def test_errors_by_remedy(error: Exception, kind: type[Exception]) -> None:
    assert type(translate(error)) is kind
    assert translate(error).hint


def test_what_is_not_theirs_stays_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError):
        translate(ZeroDivisionError())
