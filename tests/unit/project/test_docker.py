"""docker-compose.yml and the files around: names, ports, secrets and metrics fit together."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from drc import cli
from drc.config import load
from drc.worker.snapshot import Hold
from tests.unit.web.test_app import samples, snapshot

ROOT = Path(__file__).parents[3]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DAEMONS = [name for name in SERVICES if name.startswith("drc-")]
INSTALL = (ROOT / "docs/operations/install.md").read_text()


def _yaml(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text())


def test_the_configuration_loads_with_what_the_containers_get(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = str(ROOT / "conf/docker/pair.toml")
    for name in (*DAEMONS, "migrate"):
        for key in SERVICES[name]["environment"]:
            monkeypatch.setenv(key, "of-the-test-0123456789")
    assert cli.invoke(["config", "check", "-c", path]) == 0
    config = load(path)
    assert [f"drc-{site}" for site in config.sites] == DAEMONS
    for name, site in config.sites.items():
        assert {site.host, *(b.rsplit(":")[0] for b in config.brokers(name))} < set(SERVICES)
        assert SERVICES[f"drc-{name}"]["command"] == ["run", "--site", name]


def test_what_is_mounted_is_there() -> None:
    for name, service in SERVICES.items():
        for volume in service.get("volumes", ()):
            source, target, *_ = volume.split(":")
            assert target.startswith("/"), name
            assert source in COMPOSE["volumes"] or (ROOT / source).exists(), source
    assert (ROOT / SERVICES["migrate"]["build"]["dockerfile"]).exists()


def test_only_the_loopback_is_published() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert len(ports) == len({p.split(":")[1] for p in ports}) == 6
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_secrets_are_made_and_not_written_here(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts", ignore=shutil.ignore_patterns("*.py"))
    made = subprocess.run([tmp_path / "scripts/docker-env.sh"], check=True, capture_output=True)
    file = tmp_path / ".env"
    assert file.stat().st_mode & 0o777 == 0o600
    text = file.read_text()
    secrets = dict(line.split("=") for line in text.splitlines())
    assert all(re.fullmatch("[0-9a-f]{48}", value) for value in secrets.values())
    assert len(set(secrets.values())) == len(secrets)
    assert not any(value.encode() in made.stdout for value in secrets.values())
    subprocess.run([tmp_path / "scripts/docker-env.sh"], check=True, capture_output=True)
    assert file.read_text() == text
    used = re.findall(r"\$\{(\w+):\?", (ROOT / "docker-compose.yml").read_text())
    assert set(used) == set(secrets)
    for service in SERVICES.values():
        for key, value in service.get("environment", {}).items():
            if re.search("PASSWORD|TOKEN|SECRET", key):
                assert value.startswith(f"${{{value[2:].split(':')[0]}:?"), key
    ignored = (ROOT / "conf/docker/Dockerfile.dockerignore").read_text().splitlines()
    assert "*" in ignored  # .env is not sent to the engine
    assert "/.env" in (ROOT / ".gitignore").read_text().splitlines()


def test_daemons_get_no_more_than_they_need() -> None:
    for name in DAEMONS:
        service = SERVICES[name]
        assert "DRC_OPERATOR_PASSWORD" not in service["environment"]
        assert (service["read_only"], service["cap_drop"], service["user"]) == (
            True,
            ["ALL"],
            "drc",
        )


def test_accounts_and_settings_are_those_of_the_guide() -> None:
    accounts = (ROOT / "conf/docker/accounts.sh").read_text()
    granted = re.findall(r"^GRANT .*;$", INSTALL, re.MULTILINE)
    assert len(granted) > 6
    for grant in granted:
        assert grant in accounts
    wanted = re.findall(r"^(\w+) +(= \S+)", INSTALL, re.MULTILINE)
    settings = re.findall(r"^(\w+) +(= \S+)", (ROOT / "conf/docker/mysql.cnf").read_text(), re.M)
    apart = {"server_id", "auto_increment_offset"}
    assert sorted(settings) == sorted(s for s in wanted if s[0] not in apart)
    for service in ("mysql-shanghai", "mysql-beijing"):
        given = {
            option[2:].split("=")[0].replace("-", "_") for option in SERVICES[service]["command"]
        }
        assert given == apart


def test_prometheus_asks_the_daemons_with_their_token() -> None:
    (job,) = _yaml("conf/prometheus.yml")["scrape_configs"]
    (targets,) = job["static_configs"]
    port = load(ROOT / "conf/docker/pair.toml").web.listen.rpartition(":")[2]
    assert targets["targets"] == [f"{name}:{port}" for name in DAEMONS]
    secret = Path(job["authorization"]["credentials_file"]).name
    assert SERVICES["prometheus"]["secrets"] == [secret]
    assert COMPOSE["secrets"][secret] == {"environment": "DRC_WEB_TOKEN"}
    for name in DAEMONS:
        assert f"127.0.0.1:{port}/readyz" in SERVICES[name]["healthcheck"]["test"][-1]


def test_rules_and_panels_use_metrics_that_exist() -> None:
    known = set(
        re.findall(r"`((?:drc|process)_\w+)`", (ROOT / "docs/reference/metrics.md").read_text())
    )
    board = json.loads((ROOT / "conf/grafana/dashboards/drc.json").read_text())
    rules = [rule for group in _yaml("conf/alerts.yml")["groups"] for rule in group["rules"]]
    asked = [rule["expr"] for rule in rules]
    asked += [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    shown = {
        s.name: set(s.labels) | {"job", "instance"}
        for s in samples(snapshot(blocked=Hold(what="lock")))
    }
    for expression in asked:
        for metric in re.findall(r"\b(?:drc|process)_\w+", expression):
            assert metric in known, expression
            assert metric in shown, expression
        for metric, matchers in re.findall(r"\b((?:drc|process)_\w+)\{([^}]*)\}", expression):
            assert set(re.findall(r"(\w+)(?:=|!)", matchers)) <= shown[metric], expression
    assert all(rule["annotations"]["action"] for rule in rules)
    (source,) = _yaml("conf/grafana/provisioning/datasources/prometheus.yml")["datasources"]
    assert {panel["datasource"]["uid"] for panel in board["panels"]} == {source["uid"]}
    (provider,) = _yaml("conf/grafana/provisioning/dashboards/drc.yml")["providers"]
    mounted = [v.split(":") for v in SERVICES["grafana"]["volumes"]]
    assert ["./conf/grafana/dashboards", provider["options"]["path"], "ro"] in mounted


def test_the_image_has_the_versions_that_are_tested() -> None:
    def pins(path: str) -> set[str]:
        return set(re.findall(r"^([a-z]\S+==\S+)", (ROOT / path).read_text(), re.MULTILINE))

    image = pins("conf/docker/requirements.lock")
    assert image < pins("requirements.lock")
    assert not any(pin.startswith(("pytest", "mypy", "hatchling")) for pin in image)
