"""Simulate conflicts: many schedules of two and three sites, on all cores.

``make sim N=1000000``. Prints the seeds whose schedules broke a promise, and exits with 1 if there
are any; ``--seed S --trace`` shows the schedule of a seed step by step.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from multiprocessing import Pool
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.simulation.mutations import MUTATIONS
from tests.simulation.schedule import run
from tests.simulation.world import REAL

_CHUNK = 500
_SHOWN = 20


def block(job: tuple[int, int, str]) -> list[tuple[int, list[str]]]:
    """Run the schedules of a range of seeds; return (seed, errors) of each broken schedule.

    :param job: (first seed, seed after the last, name of a mutation or "").
    """
    start, stop, mutation = job
    parts = MUTATIONS[mutation] if mutation else REAL
    return [(seed, wrong) for seed in range(start, stop) if (wrong := run(seed, parts))]


def jobs(first: int, count: int, mutation: str) -> Iterator[tuple[int, int, str]]:
    for start in range(first, first + count, _CHUNK):
        yield start, min(start + _CHUNK, first + count), mutation


@click.command(help=__doc__)
@click.option("-n", "--count", default=100_000, show_default=True, help="Schedules.")
@click.option("--first", default=0, show_default=True, help="Seed of the first schedule.")
@click.option("--seed", type=int, help="Run only the schedule of this seed.")
@click.option("--trace", is_flag=True, help="With --seed: print each step.")
@click.option("--mutation", type=click.Choice(list(MUTATIONS)), default=None, help="Break a rule.")
@click.option("--jobs", "workers", default=os.cpu_count(), show_default="all cores")
def main(
    *, count: int, first: int, seed: int | None, trace: bool, mutation: str | None, workers: int
) -> None:
    console = Console(soft_wrap=True, highlight=False)
    if seed is not None:
        wrong = run(seed, MUTATIONS[mutation] if mutation else REAL, print if trace else None)
        console.print("\n".join(wrong) or "all sites agree", markup=False)
        sys.exit(bool(wrong))
    broken: list[tuple[int, list[str]]] = []
    began = time.monotonic()
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[broken]} broken"),
    )
    with Progress(*columns, console=console) as progress, Pool(workers) as pool:
        task = progress.add_task("", total=count, broken=0)
        for found in pool.imap_unordered(block, jobs(first, count, mutation or "")):
            broken += found
            progress.update(task, advance=_CHUNK, broken=len(broken))
    seconds = time.monotonic() - began
    for number, wrong in sorted(broken)[:_SHOWN]:
        console.print(f"seed {number}: {wrong[0]}", markup=False)
    console.print(
        f"{count:,} schedules, {len(broken):,} broke a promise;"
        f" {seconds:.0f} s, {count / seconds:,.0f} a second"
    )
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
