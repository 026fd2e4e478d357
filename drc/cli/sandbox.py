"""``drc sandbox``: starts real MySQL servers on this machine, for trials and tests."""

from __future__ import annotations

from pathlib import Path

import click

from drc.cli.output import console, emit, gathered, json_option, table
from drc.errors import ConfigError
from drc.sandbox import ConfigSpec, KafkaSpec, Sandbox, SiteSpec

_dir = click.option(
    "--dir",
    "folder",
    default=".sandbox/default",
    show_default=True,
    type=click.Path(path_type=Path),
    help="The folder of the servers; each folder is a sandbox of its own.",
)


def _specs(sites: int, names: str, versions: str) -> list[SiteSpec]:
    """Return the servers to start.

    :param names: such as ``shanghai,beijing``; '' for ``a``, ``b`` and so on.
    :param versions: a version for all sites, or a version for each, such as ``9.7,8.0``.
    :raises ConfigError: there are more or fewer versions than sites.
    """
    chosen = names.split(",") if names else [chr(ord("a") + i) for i in range(sites)]
    each = versions.split(",")
    if len(each) == 1:
        each *= len(chosen)
    if len(each) != len(chosen):
        raise ConfigError(
            f"--mysql names {len(each)} versions for {len(chosen)} sites",
            hint="set --mysql to a single version, or to a version for each site",
        )
    return [SiteSpec(name, version) for name, version in zip(chosen, each, strict=True)]


def _cluster(*, kafka: bool, brokers: int | None, secure: bool) -> KafkaSpec | None:
    """Return the Kafka cluster to start; None without Kafka."""
    return KafkaSpec(brokers or 1, secure=secure) if kafka or brokers or secure else None


@click.group()
def command() -> None:
    """Start real MySQL servers on loopback ports; nothing on the host changes."""


@command.command()
@_dir
@gathered(
    "specs",
    _specs,
    click.option(
        "--sites", default=2, show_default=True, type=click.IntRange(1, 9), help="Number of sites."
    ),
    click.option("--names", default="", help="Names by commas, in place of --sites: a,b."),
    click.option(
        "--mysql",
        "versions",
        default="9.7",
        show_default=True,
        help="MySQL version, 9.7 or 8.0; by commas for each site.",
    ),
)
@click.option("--durable", is_flag=True, help="Sync at every commit, as production does.")
@gathered(
    "cluster",
    _cluster,
    click.option("--kafka", is_flag=True, help="Start Kafka, too; needs Java 17 and Maven."),
    click.option(
        "--brokers", type=click.IntRange(1, 5), help="Number of Kafka brokers.  [default: 1]"
    ),
    click.option("--secure", is_flag=True, help="Let Kafka listen with TLS and SASL, too."),
)
@json_option
def up(
    *,
    folder: Path,
    specs: list[SiteSpec],
    durable: bool,
    cluster: KafkaSpec | None,
    as_json: bool,
) -> None:
    """Start the servers that do not run yet.

    The first start fetches MySQL into a cache folder. The folder of the servers then has a
    configuration for `drc run`, pair.toml.
    """
    box = Sandbox(folder)
    with console().status("") as spinner:
        box.up(specs, durable=durable, kafka=cluster, say=spinner.update)
    if len(specs) > 1:
        box.write_config(spec=ConfigSpec(kafka=box.kafka))
    _show(box, as_json=as_json)


@command.command()
@_dir
@json_option
def status(*, folder: Path, as_json: bool) -> None:
    """Show the servers and their states."""
    _show(Sandbox(folder), as_json=as_json)


@command.command()
@_dir
@click.option("--purge", is_flag=True, help="Remove the data, too.")
def down(*, folder: Path, purge: bool) -> None:
    """Stop all servers of a folder."""
    Sandbox(folder).down(purge=purge)


def _show(box: Sandbox, *, as_json: bool) -> None:
    rows = box.status()
    if as_json:
        emit(rows)
        return
    if not rows:
        click.echo(f"no servers in {box.folder}; run `drc sandbox up` to start servers")
        return
    columns = ("name", "state", "version", "host", "port>", "pid>", "socket")
    body = [[str(row.get(c.rstrip(">")) or "") for c in columns] for row in rows]
    out = console()
    out.print(table(columns, body))
    out.print(
        f"accounts: {', '.join(rows[0]['accounts'])}; passwords: {box.folder}/SITE/ACCOUNT.password"
    )
    config = box.folder / "pair.toml"
    if config.exists():
        out.print(f"configuration: {config}")
