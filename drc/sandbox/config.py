"""The configuration file for sandbox servers, as text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from drc.sandbox.kafka import KafkaCluster
    from drc.sandbox.servers import SandboxSite


@dataclass(frozen=True, kw_only=True)
class ConfigSpec:
    """The choices for a ``drc`` configuration of sandbox servers.

    Example: ``ConfigSpec(schemas=["shop"], start="now", apply={"lanes": 4})``.

    :param sites: names of servers; by default all servers of the sandbox.
    :param apply: more keys of the section ``[apply]``.
    :param detect: find concurrent writes; must be False with three sites.
    :param conflicts: more keys of the section ``[conflicts]``; the key ``tables`` maps table names,
        for example ``{"tables": {"shop.stock": {"columns": {"count": "delta"}}}}``.
    :param kafka: the cluster that carries changes; without a cluster, transport ``direct``.
    :param listener: the Kafka listener to use: PLAINTEXT or SASL_SSL.
    :param web: keys of the section ``[web]``.
    :param listen: the port of each site's daemon, for example ``{"a": 7001, "b": 7002}``.
    :param monitor: keys of the section ``[monitor]``.
    """

    name: str = "sandbox"
    sites: Sequence[str] = ()
    schemas: Sequence[str] = ()
    start: str = "earliest"
    tls: str = "required"
    apply: Mapping[str, Any] = field(default_factory=dict)
    detect: bool = True
    conflicts: Mapping[str, Any] = field(default_factory=dict)
    kafka: KafkaCluster | None = None
    listener: str = "PLAINTEXT"
    web: Mapping[str, Any] = field(default_factory=dict)
    listen: Mapping[str, int] = field(default_factory=dict)
    monitor: Mapping[str, Any] = field(default_factory=dict)


def render_config(spec: ConfigSpec, servers: Mapping[str, SandboxSite], folder: Path) -> str:
    """Return a ``drc`` configuration for these servers.

    :param servers: by name; the configuration has all of these if ``spec`` names no sites.
    :param folder: the folder of the checkpoint store.
    """
    lines = [
        f"name = {json.dumps(spec.name)}",
        f'log = "{"kafka" if spec.kafka else "direct"}"',
        f"state_url = {json.dumps(f'sqlite:///{folder / spec.name}.state.db')}",
        "",
        "[replicate]",
        f"schemas = {json.dumps(list(spec.schemas))}",
        f"start = {json.dumps(spec.start)}",
        "",
        "[apply]",
        *(f"{key} = {json.dumps(value)}" for key, value in spec.apply.items()),
        "",
        "[conflicts]",
        f"detect = {json.dumps(spec.detect)}",
        *(f"{key} = {_toml(value)}" for key, value in spec.conflicts.items()),
    ]
    for section, keys in (("web", spec.web), ("monitor", spec.monitor)):
        if keys:
            lines += ["", f"[{section}]"]
            lines += [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
    for name in spec.sites or servers:
        lines += _site(spec, servers[name])
    if spec.kafka:
        lines += _kafka(spec.kafka, spec.listener)
    return "\n".join(lines) + "\n"


def _site(spec: ConfigSpec, site: SandboxSite) -> Iterator[str]:
    yield from ("", f"[sites.{site.name}]", f'host = "{site.host}"', f"port = {site.port}")
    yield f'tls = {{ mode = "{spec.tls}" }}'
    if spec.listen:
        yield f'listen = "127.0.0.1:{spec.listen[site.name]}"'
    for role in ("source", "applier", "operator"):
        file = json.dumps(str(site.password_file(f"drc_{role}")))
        yield f'{role} = {{ user = "drc_{role}", password_file = {file} }}'


def _kafka(cluster: KafkaCluster, listener: str) -> list[str]:
    count = len(cluster.nodes)
    return [
        "",
        "[kafka]",
        f"brokers = {json.dumps(cluster.addresses(listener))}",
        f"replication_factor = {count}",
        f"min_insync_replicas = {min(2, count)}",
        *cluster.client_settings(listener),
    ]


def _toml(value: Any) -> str:
    """Return a value as TOML: the text of JSON, except for tables."""
    if not isinstance(value, dict):
        return json.dumps(value)
    items = (f"{json.dumps(key)} = {_toml(each)}" for key, each in value.items())
    return f"{{ {', '.join(items)} }}"
