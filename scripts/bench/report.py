"""Report: figures against goals, as tables, sentences and JSON. Pure, except for printing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.backlog import Backlog
from bench.lag import Lag

RATIO_GOALS = {"default": 4.0, "busy": 4.0, "uniform": 3.5}
DETECTION_GOAL = 0.8  # of the throughput without detection
PYTHON_US_GOAL = 40.0
TARGET_SHARE_GOAL = 1 / 3
PUBLISH_GOAL = 30_000.0
LAG_EXTRA_MS_GOALS = {"direct": 10.0, "kafka": 20.0}
_NOISE_SHARE = 0.10  # of the machine, taken by others
_RATE_SHARE = 0.95  # of the wanted rate; below that, the machine is too slow for a verdict
_TRANSACTIONS = 100_000  # the goals are set for this number
_WORDS = {True: "[green]ok    [/]", False: "[bold red]missed[/]", None: "[yellow]void  [/]"}
_LEGEND = (
    "drc is timed from its first connection, native from START REPLICA on a running server; from"
    " process start: with Python's start and the check of both servers.\n"
    "µs/trx is CPU time of the process, Python's start not counted. Others: the share of the"
    " machine that other processes took.\n"
    "undetected: without conflict detection; busy: the target's own users write during the run;"
    " shared: users lock rows that the backlog writes.\n"
    "mixed, sparse: 60 columns of many types; NULLs in six columns, or in all but the key."
)


@dataclass(frozen=True)
class Verdict:
    """A figure and the goal for the figure.

    :param figure: name of the figure, for example ``default.ratio``.
    :param met: whether the goal is met; None if the run proves nothing about the goal.
    :param text: the verdict as a sentence.
    """

    figure: str
    value: float
    goal: float
    met: bool | None
    text: str


@dataclass
class Report:
    """All findings of a run."""

    machine: dict[str, Any]
    backlogs: list[Backlog] = field(default_factory=list)
    lag: dict[str, Lag] = field(default_factory=dict)
    tables: list[dict[str, Any]] = field(default_factory=list)

    @property
    def identical(self) -> bool:
        """Return True if every table is identical on all three servers."""
        return bool(self.tables) and all(table["identical"] for table in self.tables)

    def verdicts(self) -> list[Verdict]:
        """Return a verdict for each figure that has a goal."""
        out = [v for b in self.backlogs for v in _of_backlog(b)]
        rates = {b.case: b.transactions / b.drc_s for b in self.backlogs}
        if {"default", "undetected"} <= rates.keys():
            out.append(_of_detection(rates["default"] / rates["undetected"]))
        if len(self.lag) == 2:
            out.append(_of_lag(self.lag["native"], self.lag["drc"], self.machine["log"]))
        return out

    def noise(self) -> float:
        """Return the largest share of the machine that other processes took in a measurement."""
        shares = [s for b in self.backlogs for s in (b.native_others_share, b.drc_others_share)]
        return max([*shares, *(lag.others_share for lag in self.lag.values()), 0.0])

    def as_json(self) -> dict[str, Any]:
        """Return all findings, JSON-ready; names end with their units."""
        derived = ("ratio", "ratio_process", "target_share", "netted_share")
        return {
            "machine": self.machine,
            "backlogs": [
                dataclasses.asdict(b) | {name: getattr(b, name) for name in derived}
                for b in self.backlogs
            ],
            "lag": {name: dataclasses.asdict(lag) for name, lag in self.lag.items()},
            "verdicts": [dataclasses.asdict(v) for v in self.verdicts()],
            "others_share_max": self.noise(),
            "tables": self.tables,
            "identical": self.identical,
        }


def _of_backlog(b: Backlog) -> list[Verdict]:
    out = []
    if b.publish_s and b.case in RATIO_GOALS:
        rate = b.transactions / b.publish_s
        text = (
            f"the daemon published {rate:,.0f} {b.case} transactions a second;"
            f" goal: at least {PUBLISH_GOAL:,.0f}"
        )
        out.append(
            Verdict(
                f"{b.case}.publish_rate", rate, PUBLISH_GOAL, met=rate >= PUBLISH_GOAL, text=text
            )
        )
    if goal := RATIO_GOALS.get(b.case):
        text = (
            f"drc applied the {b.case} backlog {b.ratio:.2f} times as fast as the native replica"
            f" ({b.ratio_process:.2f} with Python's start); goal: at least {goal:g}"
        )
        out.append(Verdict(f"{b.case}.ratio", b.ratio, goal, met=b.ratio >= goal, text=text))
    text = (
        f"the daemon took {b.python_us:.1f} µs of CPU per {b.case} transaction;"
        f" goal: at most {PYTHON_US_GOAL:g}"
    )
    met = b.python_us <= PYTHON_US_GOAL
    out.append(Verdict(f"{b.case}.python_us", b.python_us, PYTHON_US_GOAL, met=met, text=text))
    text = (
        f"the target server took {b.target_share:.0%} of the native replica's CPU for a"
        f" {b.case} transaction; goal: at most a third"
    )
    met = b.target_share <= TARGET_SHARE_GOAL
    out.append(
        Verdict(f"{b.case}.target_share", b.target_share, TARGET_SHARE_GOAL, met=met, text=text)
    )
    return out


def _of_detection(share: float) -> Verdict:
    text = (
        f"with conflict detection drc applied {share:.0%} of the rate without detection;"
        f" goal: at least {DETECTION_GOAL:.0%}"
    )
    met = share >= DETECTION_GOAL
    return Verdict("detection.share", share, DETECTION_GOAL, met=met, text=text)


def _of_lag(native: Lag, drc: Lag, log: str) -> Verdict:
    goal = LAG_EXTRA_MS_GOALS[log]
    extra = drc.p99_ms - native.p99_ms
    text = (
        f"at {drc.wanted_per_s:,} trx/s the p99 lag of drc was {drc.p99_ms:.1f} ms, native's"
        f" {native.p99_ms:.1f} ms; goal: at most {goal:g} ms more"
    )
    steady = (
        min(native.transactions_per_s, drc.transactions_per_s) >= _RATE_SHARE * drc.wanted_per_s
    )
    met = extra <= goal if steady else None
    return Verdict("lag.p99_extra_ms", extra, goal, met=met, text=text)


# ------------------------------------------------------------ tables and sentences


def show(report: Report, console: Console) -> None:
    """Print tables and sentences."""
    if report.backlogs:
        console.print(_backlog_table(report.backlogs))
        console.print(_LEGEND, style="dim", soft_wrap=True)
    if report.lag:
        console.print(_lag_table(report.lag))
        console.print(
            "Native first, then drc, with the idle server frozen; same writer and same observer.",
            style="dim",
        )
    for verdict in report.verdicts():
        console.print(f"{_WORDS[verdict.met]} {verdict.text}", highlight=False, soft_wrap=True)
    _show_tables(report, console)
    for name, lag in report.lag.items():
        if lag.transactions_per_s < _RATE_SHARE * lag.wanted_per_s:
            console.print(
                f"[yellow]note[/]   the source reached only {lag.transactions_per_s:,.0f} of"
                f" {lag.wanted_per_s:,} trx/s while {name} was measured: its lag is not comparable",
                highlight=False,
                soft_wrap=True,
            )
    short = max((b.transactions for b in report.backlogs), default=_TRANSACTIONS)
    if short < 0.9 * _TRANSACTIONS:
        console.print(
            f"[yellow]note[/]   the goals are set for {_TRANSACTIONS:,} transactions; costs of the"
            " start weigh more in a short run",
            highlight=False,
            soft_wrap=True,
        )
    if report.noise() > _NOISE_SHARE:
        console.print(
            f"[yellow]note[/]   other processes took up to {report.noise():.0%} of this machine"
            " during a measurement: run again when the machine is quiet",
            highlight=False,
            soft_wrap=True,
        )


def _show_tables(report: Report, console: Console) -> None:
    if report.identical:
        by_rows = sum(not table["checksums_equal"] for table in report.tables)
        how = "CHECKSUM TABLE" + (f", {by_rows} of them row by row" if by_rows else "")
        console.print(
            f"[green]ok    [/] all {len(report.tables)} tables are identical on source, native"
            f" replica and target ({how})",
            highlight=False,
            soft_wrap=True,
        )
    for table in report.tables:
        if not table["identical"]:
            console.print(
                f"[bold red]DIFFERS[/] {table['table']}: {table['checksums']}", soft_wrap=True
            )


def _grid(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    grid = Table(title=title, title_justify="left", title_style="bold")
    grid.add_column("")
    for name in columns:
        grid.add_column(name, justify="right")
    for row in rows:
        grid.add_row(*row)
    return grid


def _backlog_table(found: Sequence[Backlog]) -> Table:
    def row(label: str, text: Callable[[Backlog], str]) -> tuple[str, ...]:
        return (label, *(text(b) for b in found))

    rows = [
        row("transactions", lambda b: f"{b.transactions:,}"),
        row("native, trx/s", lambda b: f"{b.transactions / b.native_s:,.0f}"),
        row("drc, trx/s", lambda b: f"{b.transactions / b.drc_s:,.0f}"),
        row("  from process start", lambda b: f"{b.transactions / b.drc_process_s:,.0f}"),
        row("drc / native", lambda b: f"{b.ratio:.2f}"),
        row("  from process start", lambda b: f"{b.ratio_process:.2f}"),
        row("native wall, s", lambda b: f"{b.native_s:.2f}"),
        row("drc wall, s", lambda b: f"{b.drc_s:.2f}"),
        row("  from process start", lambda b: f"{b.drc_process_s:.2f}"),
        row("Python, µs/trx", lambda b: f"{b.python_us:.1f}"),
        row("  its start, ms once", lambda b: f"{b.python_startup_ms:.0f}"),
        row("native server, µs/trx", lambda b: f"{b.native_target_us:.1f}"),
        row("drc's target, µs/trx", lambda b: f"{b.drc_target_us:.1f}"),
        row("  of native's", lambda b: f"{b.target_share:.0%}"),
        row("rows netted away", lambda b: f"{b.netted_share:.1%}"),
        *(
            (
                row("published, trx/s", lambda b: f"{b.transactions / (b.publish_s or 1):,.0f}"),
                row("  Python, µs/trx", lambda b: f"{b.publish_python_us:.1f}"),
            )
            if found[0].publish_s
            else ()
        ),
        *(_waits_rows(row) if any(b.drc_waits for b in found) else ()),
        row("others, native's run", lambda b: f"{b.native_others_share:.0%}"),
        row("others, drc's run", lambda b: f"{b.drc_others_share:.0%}"),
    ]
    return _grid("Backlog", [b.case for b in found], rows)


def _waits_rows(row: Callable[..., tuple[str, ...]]) -> Iterator[tuple[str, ...]]:
    def pair(b: Backlog, name: str) -> str:
        native, drc = (getattr(waits, name, None) for waits in (b.native_waits, b.drc_waits))
        return "" if native is None else f"{native:.1f} / {drc:.1f}"

    yield row("a user's wait, ms: native / drc", lambda b: "")
    for name in ("p50", "p90", "p99", "max"):
        yield row(f"  {name}", lambda b, name=f"{name}_ms": pair(b, name))


def _lag_table(found: dict[str, Lag]) -> Table:
    lags = list(found.values())
    rows = [
        ("canaries", *(f"{lag.samples:,}" for lag in lags)),
        ("trx/s", *(f"{lag.transactions_per_s:,.0f}" for lag in lags)),
        ("p50, ms", *(f"{lag.p50_ms:.1f}" for lag in lags)),
        ("p90, ms", *(f"{lag.p90_ms:.1f}" for lag in lags)),
        ("p99, ms", *(f"{lag.p99_ms:.1f}" for lag in lags)),
        ("max, ms", *(f"{lag.max_ms:.1f}" for lag in lags)),
        ("target server's CPU, µs/trx", *(f"{lag.target_us:.0f}" for lag in lags)),
        ("Python CPU, µs/trx", *(f"{lag.python_us:.0f}" for lag in lags)),
        ("machine taken by others", *(f"{lag.others_share:.0%}" for lag in lags)),
    ]
    return _grid(f"Commit to visible at {lags[0].wanted_per_s:,} trx/s", list(found), rows)
