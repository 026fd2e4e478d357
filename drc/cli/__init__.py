"""The command line: a file for each command, loaded when the command is called.

A command is thin: parse, call, render. Exit codes: 0 ok, 1 check failed, 2 usage or
configuration, 3 stopped on data. An expected error is shown as a message with a remedy, never as a
traceback.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import NoReturn

import click

from drc import __version__
from drc.errors import DrcError

# Command → help text, so that --help imports nothing. Each command is `command` in drc.cli.NAME,
# except the commands in _SHARED.
_COMMANDS = {
    "run": "Replicate into a site, or into all sites.",
    "status": "Show how far behind each stream is, by the servers' answers.",
    "top": "Watch, pause and resume the streams live in the terminal.",
    "pause": "Hold a stream, or all streams, after the transactions in flight.",
    "resume": "Let paused streams go on.",
    "stop": "Hold a stream for longer.",
    "start": "Let a stream go on that an operator or an error has stopped.",
    "restart": "End a stream's session and begin the next session.",
    "reposition": "Let a stream go on from another place; report the consequences first.",
    "skip": "Give up a transaction that cannot be applied.",
    "reload": "Let running daemons read the configuration file again.",
    "audit": "Show the commands of operators, and the reasons.",
    "alerts": "Show the alerts of the daemons; test the webhook.",
    "check": "Check whether servers, accounts and tables allow replication.",
    "migrate": "Create or update the schema `drc` and the checkpoint store.",
    "config": "Check a configuration; print an example or the JSON schema.",
    "forecast": "Forecast, from the binlogs, which writes of both sites would conflict.",
    "tail": "Watch a site's binlog or topic, rows decoded.",
    "cdc": "Publish a site's row changes to Kafka as JSON, in Debezium's form.",
    "conflicts": "Show conflicts of concurrent writes, and settle open conflicts.",
    "sandbox": "Start real MySQL servers on this machine, for trials and tests.",
    "systemd": "Print the systemd unit of a site's daemon.",
    "monitoring": "Print the alert rules for Prometheus, the dashboard for Grafana.",
    "docs": "Read the manual: installation, operations, conflicts, formats.",
    "demo": "Run two sites under two-sided traffic, and compare both at the end.",
}
_SHARED = dict.fromkeys(
    ("pause", "resume", "stop", "start", "restart", "reposition", "skip", "reload", "audit"),
    "control",
)


class _Lazy(click.Group):
    """A command group that imports a command's module when the command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"drc.cli.{_SHARED.get(cmd_name, cmd_name)}")
        command = getattr(module, cmd_name if cmd_name in _SHARED else "command")
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="drc")
def group() -> None:
    """Replicate between MySQL servers in several datacenters, all writable."""


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    sys.exit(invoke(sys.argv[1:]))


def invoke(args: list[str]) -> int:
    """Run a command; return the exit code. Errors are printed here and nowhere else."""
    try:
        outcome = group.main(args, prog_name="drc", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:  # `drc tail | head`: the reader has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except DrcError as error:
        from drc.cli.output import print_error  # importing rich costs more than --help

        print_error(error, as_json="--json" in args)
        return error.exit_code
    return outcome if isinstance(outcome, int) else 0
