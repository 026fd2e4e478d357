"""Reload: keys that a running daemon takes up, and keys that need a restart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from drc import config as configuration
from drc.config import Config
from drc.control.reload import refuse_offline
from drc.errors import ConfigError


def pair(**changes: Any) -> Config:
    account = {"user": "u", "password_env": "X"}
    site = {"host": "a", "source": account, "applier": account}
    raw = {"name": "t", "sites": {"a": site, "b": {**site, "host": "b"}}, **changes}
    return configuration.parse(raw, Path("/x"))


def test_tables_policies_parallelism_and_throttle_change_while_running() -> None:
    new = pair(
        apply={"parallel": 2, "transactions_per_s_max": 100},
        replicate={"schemas": ["shop"], "exclude_tables": ["shop.log"]},
        conflicts={"tables": {"shop.stock": {"policy": "park"}}},
    )
    assert refuse_offline(pair(), new) == [
        "apply.parallel",
        "apply.transactions_per_s_max",
        "conflicts.tables",
        "replicate.exclude_tables",
        "replicate.schemas",
    ]
    assert refuse_offline(new, new) == []


def test_what_needs_a_restart_is_named_and_nothing_is_taken_up() -> None:
    site = {"host": "c", "source": {"user": "u", "password_env": "X"}}
    site["applier"] = site["source"]
    account = {"user": "u", "password_env": "X"}
    sites = {"a": site, "b": {"host": "b", "source": account, "applier": account}}
    with pytest.raises(ConfigError, match=r"web\.listen") as caught:
        refuse_offline(pair(), pair(web={"listen": "127.0.0.1:1"}, apply={"parallel": 2}))
    assert "parallel" not in caught.value.message
    with pytest.raises(ConfigError, match=r"sites\.a\.host"):
        refuse_offline(pair(), pair(sites=sites))
