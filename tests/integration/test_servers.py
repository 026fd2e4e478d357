"""Servers of other sites that a site remembers, on real servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from drc.cli import invoke as drc_command
from drc.config import Config, load
from drc.errors import PreflightError, TransientError
from drc.gtid import parse_uuid
from drc.sandbox import ConfigSpec, Sandbox
from drc.sandbox.process import free_port
from drc.schema.servers import foreign_uuids
from drc.source.site import SourceSite

pytestmark = [pytest.mark.servers, pytest.mark.timeout(60)]

OLD = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
INSERT = "INSERT INTO drc.site_uuid (site, server_uuid) VALUES ('b', %s)"


@pytest.fixture
def config(pair: Sandbox, tmp_path: Path) -> Iterator[Config]:
    path = pair.write_config(tmp_path / "pair.toml", ConfigSpec(name="servers"))
    assert drc_command(["migrate", "-c", str(path)]) == 0
    pair.sites["a"].query("DELETE FROM drc.site_uuid")
    assert drc_command(["migrate", "-c", str(path)]) == 0
    yield load(path)
    # A wrong entry would stop the streams of the tests that follow.
    pair.sites["a"].query("DELETE FROM drc.site_uuid")


def uuid_of(pair: Sandbox, site: str) -> bytes:
    return parse_uuid(pair.sites[site].query("SELECT @@server_uuid")[0][0])


def without(config: Config, site: str) -> Config:
    """Return the configuration with a free port in place of ``site``."""
    away = msgspec.structs.replace(config.sites[site], port=free_port())
    return msgspec.structs.replace(config, sites={**config.sites, site: away})


def executed(pair: Sandbox) -> str:
    return str(pair.sites["a"].query("SELECT @@GLOBAL.gtid_executed")[0][0])


def test_migrate_remembers_every_site_once(pair: Sandbox, config: Config, tmp_path: Path) -> None:
    rows = pair.sites["a"].query("SELECT site, server_uuid FROM drc.site_uuid ORDER BY site")
    assert [(s, parse_uuid(u)) for s, u in rows] == [(s, uuid_of(pair, s)) for s in "ab"]
    before = executed(pair)
    assert drc_command(["migrate", "-c", str(tmp_path / "pair.toml")]) == 0
    assert foreign_uuids(config, "a", at="a") == {uuid_of(pair, "b")}
    assert executed(pair) == before


def test_a_site_that_is_away_is_remembered(pair: Sandbox, config: Config) -> None:
    assert foreign_uuids(without(config, "b"), "a", at="a") == {uuid_of(pair, "b")}


def test_a_frozen_one_is_remembered(pair: Sandbox, config: Config) -> None:
    known = uuid_of(pair, "b")
    pair.sites["b"].pause()
    try:
        assert foreign_uuids(config, "a", at="a") == {known}
    finally:
        pair.sites["b"].resume()


def test_the_server_before_a_promotion_stays_known(pair: Sandbox, config: Config) -> None:
    pair.sites["a"].query(INSERT, (OLD,))
    assert foreign_uuids(config, "a", at="a") == {uuid_of(pair, "b"), parse_uuid(OLD)}


def test_a_site_that_is_reached_is_remembered(pair: Sandbox, config: Config) -> None:
    pair.sites["a"].query("DELETE FROM drc.site_uuid")
    foreign_uuids(config, "a", at="a")
    assert foreign_uuids(without(config, "b"), "a", at="a") == {uuid_of(pair, "b")}


def test_a_site_that_was_never_seen_is_waited_for(pair: Sandbox, config: Config) -> None:
    pair.sites["a"].query("DELETE FROM drc.site_uuid")
    with pytest.raises(TransientError, match="not reachable") as caught:
        foreign_uuids(without(config, "b"), "a", at="a")
    assert "server UUID" in caught.value.hint


def test_a_server_that_was_another_sites_is_refused(pair: Sandbox, config: Config) -> None:
    """Check the refusal: otherwise all writes there would count as replicated, and be lost."""
    pair.sites["a"].query(INSERT, (pair.sites["a"].query("SELECT @@server_uuid")[0][0],))
    with pytest.raises(PreflightError, match="another site"):
        SourceSite(config, "a", "a")


def test_a_schema_of_before_names_the_remedy(pair: Sandbox, config: Config) -> None:
    a = pair.sites["a"]
    a.query("RENAME TABLE drc.site_uuid TO drc.away")
    try:
        with pytest.raises(PreflightError, match="not up to date") as caught:
            foreign_uuids(config, "a", at="a")
        assert "drc migrate" in caught.value.hint
    finally:
        a.query("RENAME TABLE drc.away TO drc.site_uuid")
