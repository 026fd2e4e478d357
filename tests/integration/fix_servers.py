"""Real servers for tests: pairs are started once and shared, each test has a fresh schema."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest

from drc.errors import ConfigError
from drc.sandbox import KafkaSpec, Sandbox, SiteSpec
from drc.sandbox.kafka import KafkaCluster

_numbers = itertools.count(1)

Schema = Callable[..., str]


def _sandbox(
    factory: pytest.TempPathFactory, name: str, versions: tuple[str, ...]
) -> Iterator[Sandbox]:
    box = Sandbox(factory.mktemp(name), die_with_parent=True)
    box.up([SiteSpec(chr(ord("a") + i), version) for i, version in enumerate(versions)])
    yield box
    box.down()


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Run two MySQL 9.7 servers, `a` and `b`."""
    yield from _sandbox(tmp_path_factory, "pair", ("9.7", "9.7"))


@pytest.fixture(scope="session")
def pair80(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Run two MySQL 8.0.31 servers, which have no GTID tags."""
    yield from _sandbox(tmp_path_factory, "pair80", ("8.0", "8.0"))


@pytest.fixture(scope="session")
def pair_mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Run MySQL 8.0.31 as `a`, 9.7 as `b`, as in an upgrade datacenter by datacenter."""
    yield from _sandbox(tmp_path_factory, "mixed", ("8.0", "9.7"))


def _cluster(factory: pytest.TempPathFactory, name: str, spec: KafkaSpec) -> Iterator[KafkaCluster]:
    cluster = KafkaCluster(factory.mktemp(name), die_with_parent=True)
    try:
        cluster.up(spec)
    except ConfigError as error:
        pytest.skip(f"no Kafka here: {error}")
    yield cluster
    cluster.down()


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    """Run a Kafka broker that listens with TLS and SASL, too."""
    yield from _cluster(tmp_path_factory, "kafka", KafkaSpec(secure=True))


@pytest.fixture
def kafka3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    """Run three Kafka brokers."""
    yield from _cluster(tmp_path_factory, "kafka3", KafkaSpec(brokers=3))


@pytest.fixture
def schema() -> str:
    """Return a schema name that no other test uses."""
    return f"t{next(_numbers)}"
