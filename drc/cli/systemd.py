"""``drc systemd``: prints the unit file of a site's daemon."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import click

from drc.shipped import shipped

_PACKAGED = "/usr/bin/drc"  # the program in the unit file


@click.command()
def command() -> None:
    """Print the systemd unit of a site's daemon, with the path of the installed drc.

    drc systemd > /etc/systemd/system/drc@.service
    """
    text = shipped("conf/drc@.service").read_text(encoding="utf-8")
    program = Path(sysconfig.get_path("scripts")) / "drc"
    if program.exists():
        text = text.replace(_PACKAGED, str(program))
    click.echo(text, nl=False)
