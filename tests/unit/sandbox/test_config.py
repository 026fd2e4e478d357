"""The configuration of a sandbox: a daemon can load the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from drc import config
from drc.sandbox.config import ConfigSpec, render_config
from drc.sandbox.fetch import Tree
from drc.sandbox.servers import SandboxSite

TREE = Tree("9.7.4", (), "mysqld", ())


@pytest.fixture
def servers(tmp_path: Path) -> dict[str, SandboxSite]:
    return {
        name: SandboxSite(name, tmp_path / name, TREE, 40000 + number, number, [])
        for number, name in enumerate("abc", 1)
    }


def test_all_servers_by_default(servers: dict[str, SandboxSite], tmp_path: Path) -> None:
    path = tmp_path / "pair.toml"
    path.write_text(render_config(ConfigSpec(detect=False), servers, tmp_path))
    loaded = config.load(path)
    assert [(name, site.port) for name, site in loaded.sites.items()] == [
        ("a", 40001),
        ("b", 40002),
        ("c", 40003),
    ]
    assert (loaded.name, loaded.log, loaded.conflicts.detect) == ("sandbox", "direct", False)


def test_sections_hold_the_keys_of_the_spec(
    servers: dict[str, SandboxSite], tmp_path: Path
) -> None:
    path = tmp_path / "pair.toml"
    spec = ConfigSpec(
        name="shop",
        sites=["a", "b"],
        schemas=["shop"],
        apply={"lanes": 4},
        conflicts={"tables": {"shop.stock": {"columns": {"count": "delta"}}}},
        listen={"a": 7001, "b": 7002},
    )
    path.write_text(render_config(spec, servers, tmp_path))
    loaded = config.load(path)
    assert list(loaded.sites) == ["a", "b"]
    assert loaded.apply.lanes == 4
    assert list(loaded.conflicts.tables) == ["shop.stock"]
    assert loaded.listen("b") == ("127.0.0.1", 7002)
