"""Commands to a daemon, without servers: a reload reaches every worker."""

from __future__ import annotations

import threading
from pathlib import Path

from drc import config as configuration
from drc.control.control import Author, Control
from drc.site.site import Site
from drc.state.store import Store


def test_a_reload_reaches_the_streams_and_the_index_by_which_they_are_judged(
    tmp_path: Path,
) -> None:
    account = '{ user = "u", password_env = "X" }'
    text = 'name = "p"\n[replicate]\n' + "".join(
        f'[sites.{name}]\nhost = "{name}"\nsource = {account}\napplier = {account}\n'
        for name in "ab"
    )
    path = tmp_path / "pair.toml"
    path.write_text(text)
    config = configuration.load(path)
    store = Store(config.state_url)
    site = Site(config, "b", threading.Event(), store)
    control = Control(path, config, site, store)
    path.write_text(text.replace("[replicate]", '[replicate]\nexclude_tables = ["s.t"]'))
    assert control.reload(Author("me", "why")) == {"changed": ["replicate.exclude_tables"]}
    assert control.config.replicate.exclude_tables == ("s.t",)
    assert site.watcher
    assert [stream.config is control.config for stream in site.streams.values()] == [True]
    assert site.watcher.config is control.config
    store.close()
