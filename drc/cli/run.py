"""``drc run``: runs the daemon of a site; with ``--all``, keeps a daemon running for each site."""

from __future__ import annotations

import threading
from pathlib import Path

import click
import structlog

from drc import config as configuration
from drc.cli.output import config_option, configure_logs
from drc.conflict.function import load_all
from drc.daemon import memory
from drc.daemon.process import DRAIN_S, run_one, stop_on_signals, wait_ready
from drc.daemon.supervisor import TEMPORARY, Supervisor
from drc.errors import DrcError, TransientError

_SUPERVISED_DRAIN_S = DRAIN_S + 5

log = structlog.get_logger("drc.run")


@click.command()
@config_option
@click.option("--site", help="Apply the changes of all peers at this site.")
@click.option("--all", "every", is_flag=True, help="Run a process for each site, kept alive.")
@click.option("--checked", is_flag=True, hidden=True, help="Preflight was done by the parent.")
@click.option("--supervised", is_flag=True, hidden=True, help="The parent restarts this process.")
def command(*, path: Path, site: str | None, every: bool, checked: bool, supervised: bool) -> int:
    """Replicate into one site (--site) or into all (--all)."""
    if bool(site) == every:
        raise click.UsageError("give either --site or --all")
    configure_logs(**({"site": site} if site else {}))
    memory.prepare()
    stop = threading.Event()
    stop_on_signals(stop)
    try:
        config = configuration.load(path)
        load_all(config.conflicts.policies())
        if every:
            if wait_ready(config, tuple(config.sites), stop):
                return Supervisor(path, tuple(config.sites), stop, _SUPERVISED_DRAIN_S).run()
            return 0
        assert site
        config.site(site)
        run_one(path, config, site, stop, checked=checked)
    except DrcError as error:
        log.error(error.message, **error.fields())
        again = supervised and isinstance(error, TransientError)
        return TEMPORARY if again else error.exit_code
    return 0
