"""Fixtures are plugins, one file for each thing they bring up."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog

pytest_plugins = [
    "tests.integration.fix_servers",
    "tests.faults.fix_daemon",
    "tests.integration.fix_topic",
    "tests.integration.fix_postgres",
    "tests.faults.fix_duel",
]


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    """Commands direct logs to the standard error of their time, which pytest closes."""
    yield
    structlog.reset_defaults()
