"""The checkpoint store on a real MySQL server."""

from __future__ import annotations

import pytest

from drc.control.wanted import Wanted
from drc.sandbox import Sandbox
from drc.state.store import Store
from tests.unit.test_store import create_together

pytestmark = pytest.mark.servers


@pytest.fixture
def url(pair: Sandbox, schema: str) -> str:
    site = pair.sites["a"]
    site.query(f"CREATE DATABASE `{schema}`")
    return f"mysql+pymysql://app:{site.password('app')}@{site.host}:{site.port}/{schema}"


def test_processes_create_it_together(url: str, pair: Sandbox, schema: str) -> None:
    create_together(url, 2)
    versions = pair.sites["a"].query(f"SELECT * FROM `{schema}`.drc_schema_version")
    assert len(versions) == 1


def test_what_operators_want_and_did_is_kept(url: str, pair: Sandbox, schema: str) -> None:
    store = Store(url)
    store.save_wanted("a", "b", Wanted("paused", "why"))
    store.note("me", "pause", "a->b", "why", {"x": 1})
    store.save_status("b", {}, {"a": ("r", "p")})
    for _ in range(2):
        store.save_revision("b", "digest", {"name": "p"})
    assert store.wanted("b") == {"a": Wanted("paused", "why")}
    assert [n["detail"] for n in store.noted(5)] == [{"x": 1}]
    position = store.position("a", "b")
    assert position
    assert position.read_set == "r"
    assert pair.sites["a"].query(f"SELECT COUNT(*) FROM `{schema}`.config_revisions") == [(1,)]
