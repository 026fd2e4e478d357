"""``drc config``: checks and prints a configuration, without any server."""

from __future__ import annotations

from pathlib import Path

import click

from drc import config as configuration
from drc.cli.output import config_option, console, emit, json_option, table
from drc.config import Config
from drc.conflict.function import load_all
from drc.shipped import shipped


@click.group()
def command() -> None:
    """Check a configuration; print an example and the JSON schema."""


@command.command()
@config_option
@json_option
@click.option("--no-secrets", is_flag=True, help="Do not check whether passwords can be read.")
def check(*, path: Path, as_json: bool, no_secrets: bool) -> None:
    """Check keys, types, bounds, functions, and whether every password can be read."""
    config = configuration.load(path)
    load_all(config.conflicts.policies())
    if not no_secrets:
        read_secrets(config)
    if as_json:
        sites = {n: {"host": s.host, "port": s.port} for n, s in config.sites.items()}
        emit({"ok": True, "name": config.name, "sites": sites})
        return
    rows = [
        (name, f"{s.host}:{s.port}", s.tls.mode, s.source.user, s.applier.user)
        for name, s in config.sites.items()
    ]
    console().print(table(("site", "server", "tls", "source", "applier"), rows))
    console().print(f"{path}: ok")


@command.command()
def schema() -> None:
    """Print the JSON schema of the configuration file."""
    emit(configuration.dump_schema())


@command.command()
def example() -> None:
    """Print a configuration file with every key explained.

    drc config example > pair.toml
    """
    click.echo(shipped("conf/pair.toml").read_text(encoding="utf-8"), nl=False)


def read_secrets(config: Config) -> None:
    """Read every password, and the web token, once.

    :raises ConfigError: a password or the token cannot be read; the first such error.
    """
    config.state_password()
    config.web.token()
    for site in config.sites.values():
        for account in (site.source, site.applier, site.operator):
            if account:
                account.password()
