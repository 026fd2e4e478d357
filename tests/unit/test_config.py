"""The configuration: an error is explained, and a secret is never shown."""

from __future__ import annotations

import copy
import json
import os
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from drc import config
from drc.errors import ConfigError

ROOT = Path(__file__).parents[2]


def _account() -> dict[str, Any]:
    return {"user": "u", "password_env": "DRC_TEST_PASSWORD"}


def _raw() -> dict[str, Any]:
    return {
        "name": "shop",
        "sites": {
            "a": {"host": "one", "source": _account(), "applier": _account()},
            "b": {"host": "two", "source": _account(), "applier": _account()},
        },
    }


def _parse(change: Any = None) -> config.Config:
    raw = _raw()
    if change:
        change(raw)
    return config.parse(raw, Path("/etc/drc"))


def _refused(change: Any) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        _parse(change)
    assert caught.value.exit_code == 2
    assert caught.value.hint
    return caught.value


def test_example_loads_and_names_every_key() -> None:
    path = ROOT / "conf" / "pair.toml"
    loaded = config.load(path)
    assert list(loaded.sites) == ["shanghai", "beijing"]
    assert loaded.sites["shanghai"].tls.ca == "/etc/drc/ca.pem"
    text = path.read_text()
    for struct in (
        config.Config,
        config.SiteConfig,
        config.Account,
        config.Tls,
        config.ReplicateConfig,
        config.ApplyConfig,
        config.SourceConfig,
        config.KafkaConfig,
        config.WebConfig,
        config.MonitorConfig,
        config.AlertsConfig,
    ):
        for field in msgspec.structs.fields(struct):
            assert field.name in text, f"{struct.__name__}.{field.name} is not in the example"


def test_commented_defaults_of_the_example_are_the_defaults() -> None:
    """Uncomment the defaults: the file must still load and change nothing but the names."""
    lines = (ROOT / "conf" / "pair.toml").read_text().splitlines()
    shown: dict[str, dict[str, Any]] = {"apply": {}, "source": {}, "kafka": {}, "alerts": {}}
    section = ""
    for line in lines:
        if line.startswith("["):
            section = line.strip("[] ")
        elif line.startswith("# ") and " = " in line and section in shown:
            shown[section].update(tomllib.loads(line[2:]))
    defaults = {
        "apply": config.ApplyConfig(),
        "source": config.SourceConfig(),
        "kafka": config.KafkaConfig(),
        "alerts": config.AlertsConfig(),
    }
    samples = ("brokers", "account", "tls")  # no default is possible
    for name, values in shown.items():
        wanted = msgspec.to_builtins(defaults[name])
        assert values | {k: wanted[k] for k in samples if k in wanted} == wanted, name


@pytest.mark.parametrize(
    ("policy", "path", "expected"),
    [
        ({"policy": "newest"}, ".policy", "newest"),
        ({"columns": {"n": "sum"}}, ".columns", "sum"),
        ({"policy": "function"}, "", "module:name"),
        ({"policy": "function", "function": "rules.parcel"}, ".function", "match"),
        ({"policy": "owner_unit", "owner_column": "u"}, "", "owners"),
        (
            {"policy": "owner_unit", "owner_column": "u", "owners": {"7": "x"}},
            ".owners",
            "x is not a site",
        ),
    ],
)
def test_a_wrong_policy_names_its_table(policy: Any, path: str, expected: str) -> None:
    error = _refused(lambda raw: raw.update(conflicts={"tables": {"shop.t": policy}}))
    assert error.message.startswith(f'conflicts.tables."shop.t"{path}')
    assert expected in error.message
    assert error.hint


def test_policies_by_table_are_read() -> None:
    raw = _raw()
    owned = {"policy": "owner_unit", "owner_column": "u", "owners": {"7": "a", "8": "b"}}
    raw["conflicts"] = {"policy": "column_merge", "tables": {"shop.t": owned}}
    policies = config.parse(raw, ROOT).conflicts.policies()
    assert policies.of("shop.t").owners == {"7": "a", "8": "b"}
    assert policies.asks_columns("shop.other")
    assert not policies.asks_columns("shop.t")


def test_an_unknown_key_names_its_path_and_the_nearest() -> None:
    error = _refused(lambda raw: raw["sites"]["b"].update(hsot="x"))
    assert "sites.b.hsot" in error.message
    assert error.hint == "did you mean host?"
    error = _refused(lambda raw: raw["sites"]["a"]["source"].update(pasword_file="x"))
    assert "sites.a.source.pasword_file" in error.message
    assert "password_file" in error.hint
    error = _refused(lambda raw: raw.update(zzz=1))
    assert "sites" in error.hint  # no key is similar: all keys are listed


@pytest.mark.parametrize(
    ("change", "path", "expected"),
    [
        (lambda r: r["sites"]["b"].update(port="3306"), "sites.b.port", "int"),
        (lambda r: r["sites"]["b"].update(port=0), "sites.b.port", "1"),
        (lambda r: r["sites"]["a"].pop("host"), "sites.a", "host"),
        (lambda r: r["sites"]["a"].update(tls={"mode": "on"}), "sites.a.tls.mode", "on"),
        (lambda r: r.update(apply={"lanes": 9}), "apply.lanes", "8"),
        (lambda r: r.update(replicate={"ddl": "never"}), "replicate.ddl", "never"),
        (lambda r: r.update(replicate={"start": "then"}), "replicate", "GTID"),
        (lambda r: r.update(replicate={"exclude_tables": ["t"]}), "exclude_tables[0]", "regex"),
        (lambda r: r.update(name="Shop!"), "name", "regex"),
        (lambda r: r["sites"]["a"]["source"].update(password_file="x"), "sites.a.source", "one"),
        (lambda r: r["sites"]["a"]["source"].pop("password_env"), "sites.a.source", "one"),
    ],
)
def test_a_wrong_value_names_its_path_and_what_is_expected(
    change: Any, path: str, expected: str
) -> None:
    error = _refused(change)
    assert path in error.message
    assert expected in error.message


def test_contradictions_are_refused() -> None:
    assert "two" in _refused(lambda r: r["sites"].pop("b")).message
    assert "same server" in _refused(lambda r: r["sites"]["b"].update(host="one")).message
    error = _refused(lambda r: r.update(state_url="postgresql://drc:secret@h/db"))
    assert "secret" not in str(error)
    with_name = copy.deepcopy(_raw()["sites"]["a"]) | {"host": "three"}
    assert "UP" in _refused(lambda r: r["sites"].update(UP=with_name)).message


def test_missing_file_and_broken_toml(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nope\.toml"):
        config.load(tmp_path / "nope.toml")
    bad = tmp_path / "bad.toml"
    bad.write_text("name = \n")
    with pytest.raises(ConfigError, match="not valid TOML"):
        config.load(bad)


def test_relative_paths_are_relative_to_the_file() -> None:
    def change(raw: dict[str, Any]) -> None:
        raw["sites"]["a"]["source"] = {"user": "u", "password_file": "secrets/a"}
        raw["sites"]["a"]["tls"] = {"ca": "ca.pem"}

    parsed = _parse(change)
    assert parsed.sites["a"].source.password_file == "/etc/drc/secrets/a"
    assert parsed.sites["a"].tls.ca == "/etc/drc/ca.pem"
    assert parsed.state_url == "sqlite:////etc/drc/shop.state.db"
    assert _parse(lambda r: r.update(state_url="sqlite:////x.db")).state_url == "sqlite:////x.db"


def test_the_index_spills_beside_the_checkpoint_store_or_where_it_is_told() -> None:
    def folder(change: Any) -> str:
        return _parse(change).conflicts.index_spill_folder

    assert folder(lambda r: None) == "/etc/drc"
    assert folder(lambda r: r.update(state_url="sqlite:////var/lib/drc/x.db")) == "/var/lib/drc"
    assert folder(lambda r: r.update(state_url="postgresql+psycopg://drc@h/db")) == "/var/tmp"
    wanted = {"index_spill_folder": "spill"}
    assert folder(lambda r: r.update(conflicts=wanted)) == "/etc/drc/spill"


def test_password_by_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    account = _parse().sites["a"].source
    with pytest.raises(ConfigError, match="DRC_TEST_PASSWORD is not set"):
        account.password()
    monkeypatch.setenv("DRC_TEST_PASSWORD", "hush")
    assert account.password() == "hush"
    assert "hush" not in repr(account)


def test_password_file_must_be_its_owners_alone(tmp_path: Path) -> None:
    file = tmp_path / "p"
    account = config.Account(user="u", password_file=str(file))
    with pytest.raises(ConfigError, match="cannot be read"):
        account.password()
    file.write_text("hush \n")
    for mode in (0o640, 0o604, 0o620, 0o601):
        os.chmod(file, mode)
        with pytest.raises(ConfigError) as caught:
            account.password()
        assert caught.value.hint == f"run `chmod 600 {file}`"
    os.chmod(file, 0o600)
    assert account.password() == "hush "  # only the line end is cut


def test_dump_server_ids_are_stable_and_all_different() -> None:
    parsed = _parse()
    ids = {(o, r): parsed.dump_server_id(o, r) for o in "ab" for r in ("a", "b", "tail") if o != r}
    assert len(set(ids.values())) == len(ids)
    assert ids == {(o, r): _parse().dump_server_id(o, r) for o, r in ids}
    assert all(0x40000000 <= i < 0x80000000 for i in ids.values())
    fixed = _parse(lambda r: r["sites"]["a"].update(server_id=700))
    assert [fixed.dump_server_id("a", r) for r in ("a", "b", "tail")] == [700, 701, 702]


def test_unknown_site_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="no site 'c'"):
        _parse().site("c")


def test_schema_covers_the_file() -> None:
    schema = json.loads(json.dumps(config.dump_schema()))
    tables = schema["$defs"]
    assert tables["SiteConfig"]["additionalProperties"] is False
    assert set(tables["ApplyConfig"]["properties"]) == {
        f.name for f in msgspec.structs.fields(config.ApplyConfig)
    }


@pytest.mark.parametrize("listen", ["0.0.0.0:9464", "[::]:9464", "10.1.2.3:9464", "drc.example:1"])
def test_others_may_ask_with_a_token_only(listen: str) -> None:
    error = _refused(lambda raw: raw.update(web={"listen": listen}))
    assert "without a token" in str(error)
    open_to_all = {"listen": "127.0.0.1:9464", "token_env": ""}
    _refused(lambda raw: (raw.update(web=open_to_all), raw["sites"]["b"].update(listen=listen)))
    loaded = _parse(lambda raw: raw.update(web={"listen": listen, "token_env": "DRC_TOKEN"}))
    assert loaded.listen("a") == loaded.listen("b")


def test_where_a_daemon_listens() -> None:
    assert _parse().listen("a") is None
    loaded = _parse(
        lambda raw: (
            raw.update(web={"listen": "localhost:9464"}),
            raw["sites"]["b"].update(listen="[::1]:9465"),
        )
    )
    assert (loaded.listen("a"), loaded.listen("b")) == (("localhost", 9464), ("::1", 9465))
    _refused(lambda raw: raw.update(web={"listen": "9464"}))
    _refused(lambda raw: raw.update(web={"token_env": "X", "token_file": "y"}))


def test_a_short_token_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRC_TOKEN", "short")
    with pytest.raises(ConfigError, match="fewer than 16"):
        config.WebConfig(token_env="DRC_TOKEN").token()
