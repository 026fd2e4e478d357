"""Output: options, tables, JSON, errors and logs that all commands share."""

from __future__ import annotations

import functools
import json
import logging
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec
import structlog
from rich.console import Console
from rich.table import Table
from rich.text import Text

from drc.errors import DrcError

_FILE_WIDTH = 160  # of tables that go to a file or a pipe

F = TypeVar("F", bound=Callable[..., Any])
Cell = str | int | float | Text

LEVEL_STYLES = {"ok": "green", "info": "cyan", "warn": "yellow", "fail": "bold red"}


def config_option(function: F) -> F:
    """Add ``-c``: the configuration file, as a path."""
    return click.option(
        "-c",
        "--config",
        "path",
        required=True,
        envvar="DRC_CONFIG",
        type=click.Path(path_type=Path),
        help="Configuration file; or set DRC_CONFIG.",
    )(function)


def gathered(
    name: str, make: Callable[..., Any], *options: Callable[[Any], Any]
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add options that belong together; the command gets ``make(**values)`` as ``name``.

    For example ``@gathered("span", Span, first, last)`` adds the options ``first`` and ``last``,
    and the command takes one parameter, ``span: Span``.

    :param options: decorators by ``click.option``, in the order of the help text.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def command(**given: Any) -> Any:
            made = make(**{option: given.pop(option) for option in names})
            return function(**{name: made}, **given)

        # click collects the options of a future command in this attribute of the function.
        before = len(getattr(command, "__click_params__", ()))
        for option in reversed(options):
            option(command)
        added: list[click.Parameter] = command.__click_params__[before:]  # type: ignore[attr-defined]
        names = [parameter.name for parameter in added if parameter.name]
        return command

    return decorate


def json_option(function: F) -> F:
    """Add ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)


def console() -> Console:
    """Return a console on the standard output, 160 cells wide for a file or a pipe."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else _FILE_WIDTH)


def emit(data: Any) -> None:
    """Print a JSON document, of JSON values or msgspec structs."""
    click.echo(json.dumps(data, indent=2, ensure_ascii=False, default=msgspec.to_builtins))


def table(columns: Sequence[str], rows: Iterable[Sequence[Cell]], title: str = "") -> Table:
    """Return a table; columns whose name ends in ``>`` are aligned to the right."""
    out = Table(title=title or None, title_justify="left")
    for name in columns:
        out.add_column(
            name.rstrip(">"), justify="right" if name.endswith(">") else "left", overflow="fold"
        )
    for row in rows:
        # Cells are plain text without markup, because names come from servers.
        out.add_row(*(c if isinstance(c, Text) else Text(str(c)) for c in row))
    return out


def level_text(level: str) -> Text:
    """Return a finding's level, coloured."""
    return Text(level, style=LEVEL_STYLES.get(level, ""))


def error_document(error: DrcError) -> dict[str, Any]:
    """Return the document of an error for ``--json``."""
    body = {"kind": type(error).__name__, "message": error.message, **error.fields()}
    return {"error": body, "exit_code": error.exit_code}


def print_error(error: DrcError, *, as_json: bool) -> None:
    """Print an error: the message, the place, and the fix."""
    if as_json:
        emit(error_document(error))
        return
    where = ", ".join(f"{k} {v}" for k, v in error.fields().items() if k != "hint")
    out = Console(stderr=True, highlight=False, soft_wrap=True)
    out.print(Text.assemble(("error: ", "bold red"), error.message, f" ({where})" if where else ""))
    if error.hint:
        out.print(Text.assemble(("  fix: ", "bold green"), error.hint))


def configure_logs(**fields: str) -> None:
    """Log to standard error: readable text on a terminal, JSON otherwise.

    :param fields: fields of every line, such as ``site``.
    """
    human = sys.stderr.isatty()

    def add_fields(_logger: Any, _method: str, event: Any) -> Any:
        return {**fields, **event}

    renderer: Any = (
        structlog.dev.ConsoleRenderer() if human else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            add_fields,
            *([] if human else [structlog.processors.format_exc_info]),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
