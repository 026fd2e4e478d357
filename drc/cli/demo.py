"""``drc demo``: runs two sites under two-sided traffic, and proves that both sites are equal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from drc.cli.output import console, emit, gathered, json_option

if TYPE_CHECKING:
    from drc.demo.stage import Options


def _options(**values: Any) -> Options:
    from drc.demo.stage import Options  # imports the sandbox, which --help does not need

    return Options(**values)


@click.command()
@gathered(
    "options",
    _options,
    click.option(
        "--dir",
        "folder",
        default=".sandbox/demo",
        show_default=True,
        type=click.Path(path_type=Path),
        help="The folder of the servers.",
    ),
    click.option(
        "--seconds",
        default=15.0,
        show_default=True,
        type=click.FloatRange(1, 3600),
        help="How long traffic writes at both sites.",
    ),
    click.option(
        "--rate",
        default=200.0,
        show_default=True,
        type=click.FloatRange(0),
        help="Transactions per second at each site; 0: as many as possible.",
    ),
    click.option(
        "--users",
        default=500,
        show_default=True,
        type=click.IntRange(2, 100_000),
        help="Users that trade at each site.",
    ),
    click.option(
        "--seed", default=1, show_default=True, help="The same seed gives the same trades."
    ),
    click.option("--keep", is_flag=True, help="Leave the servers running."),
    click.option("--fresh", is_flag=True, help="Remove the servers of an earlier demo first."),
    click.option("--kafka", is_flag=True, help="Replicate over Kafka; needs Java 17 and Maven."),
)
@click.option("--conflicts", is_flag=True, help="Let both sites write the same few rows.")
@json_option
def command(*, options: Options, conflicts: bool, as_json: bool) -> int:
    """Replicate a shop between two sites, live, and prove that both sites end up equal.

    Exits with 0 only if all tables are identical, no change came back to its origin, and no change
    was applied twice. With --conflicts both sites write the same rows; then counters must hold the
    additions of both sites, and both conflict logs must name the same winners.
    """
    from drc.demo.duel import Duel
    from drc.demo.run import Demo

    out = Console(stderr=True, highlight=False) if as_json else console()
    outcome = (Duel if conflicts else Demo)(options, out).run()
    if as_json:
        emit(outcome.document())
    return 0 if outcome.ok else 1
