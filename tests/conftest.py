"""Plugins with fixtures, a file for each kind of server or program that fixtures start."""

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
    """Give all tests that need servers to the same worker, so that each server starts once."""
    for item in items:
        room = item.path.relative_to(_TESTS).parts[0]
        group = "serverless" if room in _SERVERLESS else "servers"
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    """Reset logging: a command directs logs to the current standard error, which pytest closes."""
    yield
    structlog.reset_defaults()
