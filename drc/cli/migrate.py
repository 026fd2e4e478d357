"""``drc migrate``: creates or updates the schema ``drc``, the checkpoint store and the topics."""

from __future__ import annotations

from pathlib import Path

import click

from drc import config as configuration
from drc.cli.output import config_option, console, emit, json_option, table
from drc.config import Config
from drc.state.migrate import Migration, migrate_site, remember_servers
from drc.state.store import Store


@click.command()
@config_option
@json_option
@click.option("--site", "only", multiple=True, help="Only this site; may be repeated.")
def command(*, path: Path, as_json: bool, only: tuple[str, ...]) -> None:
    """Create or update the schema `drc`, the checkpoint store and the topics; safe to repeat.

    Uses each site's operator account.
    """
    config = configuration.load(path)
    names = only or tuple(config.sites)
    done = [migrate_site(config, name) for name in names]
    remember_servers(config, names)
    done.append(Store(config.state_url, config.state_password()).migrate())
    if config.log == "kafka":
        done += [_migrate_topic(config, name) for name in names]
    if as_json:
        rows = [
            {"place": m.place, "before": m.before, "after": m.after, "changed": m.changed}
            for m in done
        ]
        emit({"migrations": rows})
        return
    cells = [
        (m.place, m.before or "none", m.after, "updated" if m.changed else "nothing to do")
        for m in done
    ]
    console().print(table(("place", "before", "after", "outcome"), cells))


def _migrate_topic(config: Config, site: str) -> Migration:
    from drc.kafka.topics import (
        create_topic,
    )  # imports a Kafka client, which `log = "direct"` does not need

    return Migration(config.topic(site), "" if create_topic(config, site) else "exists", "exists")
