"""Fixtures are plugins, one file for each thing they bring up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

pytest_plugins = [
    "tests.integration.fix_servers",
    "tests.faults.fix_daemon",
    "tests.integration.fix_topic",
    "tests.integration.fix_postgres",
    "tests.faults.fix_duel",
]


_TESTS = Path(__file__).parent
_SERVERLESS = {"unit", "property", "simulation"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of two workers, let one have all that needs servers, so that it starts each of them once."""
    for item in items:
        room = item.path.relative_to(_TESTS).parts[0]
        group = "serverless" if room in _SERVERLESS else "servers"
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    """Commands direct logs to the standard error of their time, which pytest closes."""
    yield
    structlog.reset_defaults()
