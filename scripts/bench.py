#!/usr/bin/env python3
"""``make bench``: measures drc and MySQL's own replica in the same run on the same machine.

Figures are reported, not asserted: the exit code is 0 when all tables are identical on the
source, the native replica and the target, and 1 otherwise. TLS is off for drc and for the replica.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import sys
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # import drc from this checkout

from bench import backlog, lag  # noqa: E402
from bench.daemon import Daemon  # noqa: E402
from bench.report import Report, show  # noqa: E402
from bench.servers import WORKERS, Servers  # noqa: E402
from bench.workload import NULLABLE, ROWS, TABLES, THREADS, Mixed, Sysbench  # noqa: E402

from drc.verify.compare import compare  # noqa: E402

_QUICK = 10_000
_LAG_S, _LAG_QUICK_S = 60.0, 5.0
_MIXED_PART = 5  # a fifth of the transactions, as each is five times as large
_LOCAL_RATE = 300  # transactions per second of the target's own users in the case "busy"
_WARM_S = 30.0  # of writing before the case, with Kafka; Java compiles the code in use in that time
_CONDITIONS: dict[str, dict[str, Any]] = {
    "undetected": {"detect": False},
    "busy": {"local_rate": _LOCAL_RATE},
    "shared": {"shared": True},
}
CASES = ("default", "undetected", "busy", "shared", "uniform", *NULLABLE, "lag")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--quick", is_flag=True, help=f"{_QUICK:,} transactions and {_LAG_QUICK_S:g} s.")
@click.option("--transactions", default=100_000, show_default=True, type=click.IntRange(1000))
@click.option("--rate", default=lag.RATE, show_default=True, type=click.IntRange(200))
@click.option("--only", multiple=True, type=click.Choice(CASES), help="May be repeated.")
@click.option("--log", type=click.Choice(["direct", "kafka"]), default="direct", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the JSON instead of tables.")
def main(
    *, quick: bool, transactions: int, rate: int, only: tuple[str, ...], log: str, as_json: bool
) -> None:
    """Measure drc and MySQL's own replica on the same backlog and at the same rate."""
    console = Console(stderr=as_json)
    transactions = min(transactions, _QUICK) if quick else transactions
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("starting three servers", total=None)

        def say(text: str) -> None:
            progress.update(task, description=text)

        with Servers(ROOT / ".sandbox" / "bench", say, kafka=log == "kafka") as servers:
            seconds = _LAG_QUICK_S if quick else _LAG_S
            report = _measure(servers, transactions, rate, seconds, only or CASES, say)
    path = _save(report)
    if as_json:
        click.echo(json.dumps(report.as_json(), indent=2))
    else:
        show(report, console)
        console.print(f"written to {path.relative_to(ROOT)}", style="dim")
    sys.exit(0 if report.identical else 1)


def _measure(
    servers: Servers, transactions: int, rate: int, seconds: float, cases: tuple[str, ...], say: Any
) -> Report:
    report = Report(_machine(servers))
    sysbench = Sysbench(servers.s, servers.config_path.parent)
    mixed = {case: Mixed(servers.s, case) for case in NULLABLE if case in cases}
    _prepare(servers, sysbench, list(mixed.values()), say)
    if "busy" in cases:
        servers.prepare_local()
    loads: dict[str, Callable[[], None]] = {
        **dict.fromkeys(("default", *_CONDITIONS), lambda: sysbench.run(transactions, "")),
        "uniform": lambda: sysbench.run(transactions, "uniform"),
        **{case: partial(table.run, transactions // _MIXED_PART) for case, table in mixed.items()},
    }
    for case, load in loads.items():
        if case in cases:
            conditions = _CONDITIONS.get(case, {})
            if servers.kafka and "local_rate" in conditions:
                say(f"{case}: the target's users write for {_WARM_S:g} s, the target publishes")
                _warm(servers, conditions["local_rate"])
            report.backlogs.append(backlog.measure(servers, case, load, say, **conditions))
            _start_and_stop(servers)
    if "lag" in cases:
        for name, measure in (("native", lag.measure_native), ("drc", lag.measure_drc)):
            say(f"lag at {rate:,} trx/s: {name}, {seconds:g} s")
            report.lag[name] = measure(servers, sysbench, rate, seconds)
    say("comparing all tables")
    _level(servers)
    report.tables = _compare(servers)
    return report


def _prepare(servers: Servers, sysbench: Sysbench, mixed: list[Mixed], say: Any) -> None:
    """Create all tables at the source, and replicate the tables to both targets."""
    say(f"filling {TABLES} sysbench tables of {ROWS:,} rows, and the tables of 60 columns")
    for schema in ("sbtest", "bench"):
        servers.s.query(f"CREATE DATABASE {schema}")
    servers.s.query(f"CREATE TABLE {lag.TABLE} (id BIGINT PRIMARY KEY)")
    sysbench.prepare()
    for table in mixed:
        table.prepare()
    say("bringing the tables to both targets")
    _level(servers)


def _level(servers: Servers) -> None:
    """Let both targets catch up with the source, then stop replication."""
    # A row is written last: schema changes alone need not be in the ledger yet.
    servers.s.query(f"INSERT INTO {lag.TABLE} SELECT COALESCE(MAX(id), 0) + 1 FROM {lag.TABLE}")
    servers.start_replica()
    servers.wait_replica()
    servers.stop_replica()
    _start_and_stop(servers)


def _start_and_stop(servers: Servers) -> None:
    """Run both daemons until each site has noted that the peer has decided everything.

    So a case starts as in production, where both daemons always run.
    """
    with Daemon(servers, "s") as source, Daemon(servers) as target:
        target.wait_applied()
        source.wait_noted()
        target.wait_noted()


def _warm(servers: Servers, rate: int) -> None:
    """Send small frames through the broker, to bring it to the state after months of running."""
    with Daemon(servers), servers.written(servers.t, rate):
        time.sleep(_WARM_S)
    _start_and_stop(servers)


def _compare(servers: Servers) -> list[dict[str, Any]]:
    """Compare every table by CHECKSUM TABLE, and row by row if checksums differ.

    Checksums of equal rows with JSON may differ, because of free space within the value.
    """
    tables = servers.tables()
    sums = [servers.checksums(site, tables) for site in (servers.s, servers.r, servers.t)]
    out = []
    for name, *three in zip(tables, *sums, strict=True):
        equal = None not in three and len(set(three)) == 1
        out.append(
            {
                "table": ".".join(name),
                "checksums": dict(zip("srt", three, strict=True)),
                "checksums_equal": equal,
                "identical": equal or _rows_equal(servers, name),
            }
        )
    return out


def _rows_equal(servers: Servers, table: tuple[str, str]) -> bool:
    for site in (servers.r, servers.t):
        with closing(servers.s.connect("root")) as a, closing(site.connect("root")) as b:
            if not all(found.identical for found in compare(a, b, only=[table], checksum=False)):
                return False
    return True


def _machine(servers: Servers) -> dict[str, Any]:
    return {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "mysql": servers.s.query("SELECT VERSION()")[0][0],
        "replica_parallel_workers": WORKERS,
        "sysbench": {"tables": TABLES, "rows": ROWS, "threads": THREADS},
        "log": servers.config.log,
        "tls": "off for both",
        "load_1min_before": os.getloadavg()[0],
    }


def _save(report: Report) -> Path:
    folder = ROOT / "bench-results"
    folder.mkdir(exist_ok=True)
    path = folder / f"{report.machine['at'].replace(':', '')}.json"
    path.write_text(json.dumps(report.as_json(), indent=2) + "\n")
    return path


if __name__ == "__main__":
    multiprocessing.freeze_support()
    main()
