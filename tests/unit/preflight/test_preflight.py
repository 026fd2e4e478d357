"""Preflight rules, without a server: on facts that satisfy and on facts that break each rule."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from drc import config as configuration
from drc.config import Config, ConflictsConfig
from drc.errors import ConfigError, DrcError, PreflightError, TransientError
from drc.gtid import GtidSet, format_uuid
from drc.kafka.client import TopicFacts
from drc.policy import TablePolicy
from drc.preflight import as_error, evaluate, kafka, settings
from drc.preflight.facts import AccountFacts, ColumnFacts, Finding, SiteFacts, TableFacts
from drc.schema.facts import LedgerFacts
from drc.schema.uuids import Servers

HEAD = "0001"
UUIDS = {"a": b"\xaa" * 16, "b": b"\xbb" * 16}
A, B = (format_uuid(UUIDS[n]) for n in "ab")
VARIABLES = {
    "log_bin": "ON",
    "binlog_format": "ROW",
    "binlog_row_image": "FULL",
    "binlog_row_metadata": "FULL",
    "gtid_mode": "ON",
    "enforce_gtid_consistency": "ON",
    "log_replica_updates": "ON",
    "binlog_row_value_options": "",
    "sync_binlog": "1",
    "innodb_flush_log_at_trx_commit": "1",
    "read_only": "OFF",
    "lower_case_table_names": "0",
    "max_allowed_packet": str(64 << 20),
    "binlog_expire_logs_seconds": "604800",
    "binlog_expire_logs_auto_purge": "ON",
    "auto_increment_increment": "2",
    "auto_increment_offset": "1",
    "innodb_native_foreign_keys": "OFF",
}
GRANTS = {
    "applier": (
        "GRANT REPLICATION CLIENT ON *.* TO `u`@`%`",
        "GRANT REPLICATION_APPLIER,TRANSACTION_GTID_TAG ON *.* TO `u`@`%`",
        "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, REFERENCES, INDEX, ALTER"
        " ON `shop`.* TO `u`@`%`",
        "GRANT SELECT, INSERT, UPDATE ON `drc`.* TO `u`@`%`",
        "GRANT SELECT ON `performance_schema`.* TO `u`@`%`",
    ),
    "source": (
        "GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO `u`@`%`",
        "GRANT SELECT ON `drc`.* TO `u`@`%`",
    ),
    "operator": (
        "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, INDEX, ALTER ON `drc`.* TO `u`@`%`",
    ),
}
ORDERS = TableFacts(
    columns=(ColumnFacts("id", "bigint", nullable=False, auto_increment=True),),
    primary_key=("id",),
)


def _config(**replicate: Any) -> Config:
    account = {"user": "u", "password_env": "X"}
    site = {"source": account, "applier": account, "operator": account}
    return configuration.parse(
        {
            "name": "shop",
            "sites": {"a": {"host": "one", **site}, "b": {"host": "two", **site}},
            "replicate": {"schemas": ["shop"], **replicate},
        },
        Path("/"),
    )


def _facts(**changes: dict[str, Any]) -> dict[str, SiteFacts]:
    """Return facts of two sites, without a fault but for the changes ``a=`` and ``b=``."""
    out = {}
    for number, name in enumerate("ab", 1):
        out[name] = SiteFacts(
            {role: AccountFacts("u", None, lines) for role, lines in GRANTS.items()},
            version=(9, 7, 4),
            server_uuid=UUIDS[name],
            server_id=number,
            variables=VARIABLES | {"auto_increment_offset": str(number)},
            schema_version=HEAD,
            ledger={},
            tables={("shop", "orders"): ORDERS},
            collations=frozenset({"utf8mb4_0900_ai_ci"}),
        )
        out[name] = replace(out[name], **changes.get(name, {}))
    return out


def _with(name: str, **variables: str) -> dict[str, SiteFacts]:
    facts = _facts()
    return {**facts, name: replace(facts[name], variables=facts[name].variables | variables)}


def _bad(found: Iterable[Finding]) -> list[Finding]:
    return [f for f in found if f.level != "ok"]


def _only(facts: dict[str, SiteFacts], level: str, **replicate: Any) -> Finding:
    """Return the only finding that is not ok, checked for ``level`` and a remedy."""
    bad = _bad(evaluate(_config(**replicate), facts, HEAD))
    assert len(bad) == 1, bad
    assert bad[0].level == level
    assert bad[0].fix or level == "info"
    assert bad[0].why
    return bad[0]


def test_good_sites_have_no_finding() -> None:
    assert _bad(evaluate(_config(), _facts(), HEAD)) == []


@pytest.mark.parametrize(
    ("variable", "value", "level"),
    [
        ("log_bin", "OFF", "fail"),
        ("binlog_format", "MIXED", "fail"),
        ("binlog_format", "STATEMENT", "fail"),
        ("binlog_row_image", "MINIMAL", "fail"),
        ("binlog_row_metadata", "MINIMAL", "fail"),
        ("gtid_mode", "ON_PERMISSIVE", "fail"),
        ("enforce_gtid_consistency", "WARN", "fail"),
        ("log_replica_updates", "OFF", "fail"),
        ("binlog_row_value_options", "PARTIAL_JSON", "warn"),
        ("sync_binlog", "0", "warn"),
        ("innodb_flush_log_at_trx_commit", "2", "warn"),
        ("read_only", "ON", "warn"),
        ("binlog_expire_logs_seconds", "3600", "warn"),
    ],
)
def test_a_setting(variable: str, value: str, level: str) -> None:
    found = _only(_with("b", **{variable: value}), level)
    assert (found.site, found.setting) == ("b", variable)
    assert value in found.found


def test_settings_that_are_good_in_more_than_one_way() -> None:
    for variables in (
        {"binlog_expire_logs_seconds": "0"},
        {"binlog_expire_logs_seconds": "60", "binlog_expire_logs_auto_purge": "OFF"},
    ):
        assert _bad(evaluate(_config(), _with("a", **variables), HEAD)) == []
    old = _facts()["a"]
    variables = dict(old.variables)
    variables["log_slave_updates"] = variables.pop("log_replica_updates")
    facts = _facts(a={"variables": variables})  # before 8.0.26
    assert _bad(evaluate(_config(), facts, HEAD)) == []


def test_packets() -> None:
    small = str(16 << 20)
    bad = _bad(evaluate(_config(), _with("a", max_allowed_packet=small), HEAD))
    assert [(f.site, f.level) for f in bad] == [("a", "warn"), ("a, b", "warn")]


def test_binlog_filters_and_xa() -> None:
    assert "binlog_do_db=x" in _only(_facts(a={"binlog_filters": "binlog_do_db=x"}), "fail").found
    assert _only(_facts(a={"xa_prepares": 3}), "info").setting == "XA transactions"


# ------------------------------------------------------------ accounts


def _account(role: str, account: AccountFacts, **more: Any) -> dict[str, SiteFacts]:
    facts = _facts(a=more)
    return {**facts, "a": replace(facts["a"], accounts={**facts["a"].accounts, role: account})}


@pytest.mark.parametrize(
    ("error", "kind", "exit_code"),
    [
        (ConfigError("no", hint="password"), "config", 2),
        (TransientError("away", hint="start it"), "reach", 1),
        (PreflightError("denied", hint="grant"), "server", 1),
    ],
)
def test_an_account_that_cannot_log_in(error: Any, kind: str, exit_code: int) -> None:
    found = _only(_account("source", AccountFacts("u", error)), "fail")
    assert (found.kind, found.found, found.fix) == (kind, error.message, error.hint)
    assert type(as_error(found)) is type(error)
    assert as_error(found).exit_code == exit_code


def test_a_site_that_is_away_silences_the_rules_on_it() -> None:
    away = AccountFacts("u", TransientError("away", hint="start it"))
    facts = {**_facts(), "b": SiteFacts({"applier": away}, reached=False)}
    assert _only(facts, "fail").site == "b"


@pytest.mark.parametrize(
    ("role", "line", "right"),
    [
        ("source", 0, "REPLICATION SLAVE"),
        ("applier", 0, "REPLICATION CLIENT"),
        ("applier", 1, "REPLICATION_APPLIER"),
        ("applier", 1, "TRANSACTION_GTID_TAG"),
        ("applier", 2, "DELETE"),
        ("applier", 2, "INDEX"),
        ("applier", 3, "UPDATE"),
        ("operator", 0, "CREATE"),
    ],
)
def test_a_missing_right_is_named_with_its_grant(role: str, line: int, right: str) -> None:
    lines = list(GRANTS[role])
    lines[line] = lines[line].replace(right, "USAGE")
    found = _only(_account(role, AccountFacts("u", None, tuple(lines))), "fail")
    assert f"lacks {right} on" in found.found
    assert f"GRANT {right} ON" in found.fix


def test_rights_come_in_other_shapes() -> None:
    for applier in (
        ("GRANT ALL PRIVILEGES ON *.* TO `u`@`%`",),
        (
            *GRANTS["applier"][:2],
            GRANTS["applier"][2].replace("`shop`", r"`sho\_`"),
            GRANTS["applier"][2].replace("`shop`", "`s%p`"),
            *GRANTS["applier"][3:],
        ),
        (
            *GRANTS["applier"][:2],
            GRANTS["applier"][2].replace("`shop`.*", "*.*"),
            "REVOKE DELETE ON `mysql`.* FROM `u`@`%`",
        ),
    ):
        found = evaluate(_config(), _account("applier", AccountFacts("u", None, applier)), HEAD)
        assert [f for f in found if f.level == "fail"] == []


def test_rights_that_do_not_reach() -> None:
    whole = GRANTS["applier"][2].replace("`shop`.*", "*.*")
    revoked = (*GRANTS["applier"], whole, "REVOKE DELETE ON `shop`.* FROM `u`@`%`")
    # A grant on the schema still holds against a partial revoke of the global grant.
    assert not _bad(
        evaluate(_config(), _account("applier", AccountFacts("u", None, revoked)), HEAD)
    )
    partial = (*GRANTS["applier"][:2], whole, *revoked[-1:])
    found = _only(_account("applier", AccountFacts("u", None, partial)), "fail")
    assert "DELETE on shop.*" in found.found
    escaped = (*GRANTS["applier"][:2], GRANTS["applier"][2].replace("shop", r"sho\_"))
    found = _only(
        _account("applier", AccountFacts("u", None, (*escaped, *GRANTS["applier"][3:]))), "fail"
    )
    assert "shop.*" in found.found


def test_needs_follow_the_configuration_and_the_version() -> None:
    no_tag = GRANTS["applier"][1].replace(",TRANSACTION_GTID_TAG", "")
    lines = (GRANTS["applier"][0], no_tag, *GRANTS["applier"][2:])
    old = _account("applier", AccountFacts("u", None, lines), version=(8, 0, 31))
    assert not _bad(evaluate(_config(), old, HEAD))
    rows = GRANTS["applier"][2].replace(", CREATE, DROP, REFERENCES, INDEX, ALTER", "")
    lines = (*GRANTS["applier"][:2], rows, *GRANTS["applier"][3:])
    facts = _account("applier", AccountFacts("u", None, lines))
    assert not _bad(evaluate(_config(ddl="skip"), facts, HEAD))
    assert "CREATE" in _only(facts, "fail").found
    found = [f for f in evaluate(_config(schemas=[]), _facts(), HEAD) if f.level == "fail"]
    assert [f.site for f in found] == ["a", "b"]
    assert all("on *.*" in f.found for f in found)


@pytest.mark.parametrize(
    ("kind", "rights"),
    [
        ("view", "CREATE VIEW"),
        ("procedure", "ALTER ROUTINE, CREATE ROUTINE"),
        ("function", "ALTER ROUTINE, CREATE ROUTINE"),
        ("trigger", "TRIGGER"),
        ("event", "EVENT"),
    ],
)
def test_rights_on_views_and_stored_programs_are_needed_where_there_are_any(
    kind: str, rights: str
) -> None:
    """Check both sites: a view at a is changed at b, too, even if b's account cannot see views."""
    facts = _facts(a={"programs": frozenset({(kind, "shop")}), "version": (8, 0, 31)})
    bad = _bad(evaluate(_config(), facts, HEAD))
    assert [(f.site, f.level) for f in bad] == [("a", "warn"), ("b", "warn")]
    for found, definer in zip(bad, ("SET_USER_ID", "SET_ANY_DEFINER"), strict=True):
        assert found.found == f"u lacks {rights} on shop.*; {definer} on *.*"
        assert f"GRANT {rights} ON `shop`.* TO 'u'" in found.fix
        assert f"GRANT {definer} ON *.* TO 'u'" in found.fix
    assert not _bad(evaluate(_config(ddl="skip"), facts, HEAD))

    lines = (f"GRANT {rights} ON `shop`.* TO `u`@`%`", "GRANT SET_ANY_DEFINER ON *.* TO `u`@`%`")
    account = AccountFacts("u", None, (*GRANTS["applier"], *lines))
    facts["b"] = replace(facts["b"], accounts={"applier": account})
    assert _only(facts, "warn").site == "a"


def test_functions_and_triggers_need_trust() -> None:
    lines = (
        "GRANT CREATE ROUTINE, ALTER ROUTINE, TRIGGER, EVENT ON `shop`.* TO `u`@`%`",
        "GRANT SET_ANY_DEFINER ON *.* TO `u`@`%`",
    )
    account = AccountFacts("u", None, (*GRANTS["applier"], *lines))
    for kind, bad in (("function", 1), ("trigger", 1), ("procedure", 0), ("event", 0)):
        facts = _with("a", log_bin_trust_function_creators="OFF")
        for name in "ab":
            facts[name] = replace(
                facts[name],
                accounts={"applier": account},
                programs=frozenset({(kind, "shop")}),
            )
        found = _bad(evaluate(_config(), facts, HEAD))
        assert [(f.site, f.level) for f in found] == [("a", "warn")] * bad
        assert all("log_bin_trust_function_creators = ON" in f.fix for f in found)


def test_too_many_rights_are_a_warning() -> None:
    lines = (*GRANTS["source"], "GRANT SUPER ON *.* TO `u`@`%`")
    assert "SUPER" in _only(_account("source", AccountFacts("u", None, lines)), "warn").found


# ------------------------------------------------------------ schema drc, identity, relation


def test_schema_drc() -> None:
    assert _only(_facts(a={"schema_version": ""}), "fail").fix == "run `drc migrate`"
    assert _only(_facts(a={"schema_version": "0000"}), "fail").fix == "run `drc migrate`"
    assert _only(_facts(a={"ledger": None}), "fail").setting == "schema drc"


def test_equal_identities() -> None:
    assert _only(_facts(b={"server_id": 1}), "fail").setting == "server_id"
    found = evaluate(_config(), _facts(b={"server_uuid": UUIDS["a"]}), HEAD)
    assert "server_uuid" in [f.setting for f in found if f.level == "fail"]


def test_our_readers_id_must_be_free() -> None:
    ours = _config().dump_server_id("a", "b")
    for facts in (_facts(b={"server_id": ours}), _facts(a={"replica_ids": frozenset({ours})})):
        found = _only(facts, "fail")
        assert (found.site, found.kind) == ("a", "config")
        assert "sites.a.server_id" in found.fix


def test_relation() -> None:
    found = _only(_with("b", lower_case_table_names="1"), "fail")
    assert found.found == "0 and 1"
    assert _only(_facts(b={"clock_offset_us": -1_500_000}), "warn").setting == "clocks"
    assert not _bad(evaluate(_config(), _facts(b={"clock_offset_us": 900_000}), HEAD))


@pytest.mark.parametrize(
    ("offsets", "steps", "meet"),
    [
        (("1", "2"), ("2", "2"), False),
        (("1", "1"), ("1", "1"), True),
        (("1", "3"), ("2", "2"), True),
        (("1", "2"), ("2", "4"), False),
        (("1", "2"), ("2", "3"), True),  # 5, 11, 17 …
    ],
)
def test_auto_increment(offsets: tuple[str, str], steps: tuple[str, str], *, meet: bool) -> None:
    facts = _facts()
    for name, offset, step in zip("ab", offsets, steps, strict=True):
        own = {"auto_increment_offset": offset, "auto_increment_increment": step}
        facts[name] = replace(facts[name], variables=facts[name].variables | own)
    if meet:
        assert "shop.orders" in _only(facts, "warn").why
        plain = TableFacts(columns=(ColumnFacts("id", "int"),), primary_key=("id",))
        for name in "ab":
            facts[name] = replace(facts[name], tables={("shop", "orders"): plain})
    assert not _bad(evaluate(_config(), facts, HEAD))


# ------------------------------------------------------------ decided and purged sets


def _positions(
    purged: str, applied: str | None, executed: str = f"{A}:1-10"
) -> dict[str, SiteFacts]:
    ledger = {} if applied is None else {"a": LedgerFacts(GtidSet.parse(applied))}
    return _facts(
        a={"gtid_executed": GtidSet.parse(executed), "gtid_purged": GtidSet.parse(purged)},
        b={"ledger": ledger},
    )


def test_purged_binlogs_that_are_still_needed_name_the_missing_set() -> None:
    found = _only(_positions(f"{A}:1-7", f"{A}:1-5"), "fail")
    assert found.site == "a"
    assert f"{A}:6-7" in found.found
    assert not _bad(evaluate(_config(), _positions(f"{A}:1-5", f"{A}:1-5"), HEAD))


def test_purged_transactions_that_are_not_shipped_do_not_matter() -> None:
    purged = f"{A}:1-5:drc:1-9,{B}:1-3"
    facts = _positions(purged, f"{A}:1-5", f"{A}:1-10:drc:1-9,{B}:1-3")
    assert not _bad(evaluate(_config(), facts, HEAD))


def test_those_of_a_server_before_a_promotion_do_not_matter_either() -> None:
    old = b"\xcc" * 16
    facts = _positions(f"{A}:1-5,{format_uuid(old)}:1-3", f"{A}:1-5")
    assert "purged" in _only(facts, "fail").found
    facts["b"] = replace(facts["b"], servers=Servers.of(("b", old)))
    assert not _bad(evaluate(_config(), facts, HEAD))


@pytest.mark.parametrize(
    ("servers", "level"), [(Servers(), "warn"), (Servers.of(("b", UUIDS["b"])), "ok")]
)
def test_a_site_that_is_away_and_was_never_seen(servers: Servers, level: str) -> None:
    facts = _facts(a={"servers": servers}, b={"reached": False})
    config = msgspec.structs.replace(_config(), log="kafka")
    found = [f for f in settings.check(config, facts, HEAD) if f.setting.startswith("servers of")]
    assert [(f.site, f.level) for f in found] == [("a", level)]


def test_a_new_stream_begins_where_it_is_told() -> None:
    facts = _positions(f"{A}:1-7", None)
    assert not _bad(evaluate(_config(start="now"), facts, HEAD))
    assert f"{A}:1-7" in _only(facts, "fail", start="earliest").found
    assert f"{A}:7" in _only(facts, "fail", start=f"{A}:1-6").found
    assert not _bad(evaluate(_config(start=f"{A}:1-7"), facts, HEAD))


def test_a_source_that_lost_transactions() -> None:
    assert f"{A}:11-12" in _only(_positions("", f"{A}:1-12"), "fail").found


# ------------------------------------------------------------ tables


def _tables(a: dict[str, TableFacts], b: dict[str, TableFacts], **more: Any) -> Any:
    def keyed(tables: dict[str, TableFacts]) -> Any:
        return {("shop", name): table for name, table in tables.items()}

    return _facts(a={"tables": keyed(a)}, b={"tables": keyed(b), **more})


@pytest.mark.parametrize(
    ("change", "setting"),
    [({"primary_key": ()}, "primary key"), ({"engine": "MyISAM"}, "engine")],
)
def test_tables_that_cannot_be_replicated_are_named(change: Any, setting: str) -> None:
    bad = replace(ORDERS, **change)
    found = _bad(evaluate(_config(), _tables({"x": bad}, {"x": bad}), HEAD))
    fails = [f for f in found if f.level == "fail"]
    assert [(f.site, f.setting) for f in fails] == [("a", setting), ("b", setting)]
    assert all("shop.x" in f.found and "shop.x" in f.fix for f in fails)


def test_cascades_matter_where_the_binlog_does_not_tell_of_them() -> None:
    table = replace(ORDERS, cascades=("fk_1",), foreign_keys=("fk_1",))
    assert not _bad(evaluate(_config(), _tables({"x": table}, {"x": table}), HEAD))
    found = _only(_tables({"x": table}, {"x": table}, version=(8, 4, 0)), "fail")
    assert (found.site, found.found) == ("b", "shop.x: fk_1")
    native = VARIABLES | {"innodb_native_foreign_keys": "ON", "auto_increment_offset": "2"}
    found = _only(_tables({"x": table}, {"x": table}, variables=native), "fail")
    assert found.found == "shop.x: fk_1"


def test_what_the_peer_cannot_hold_is_named() -> None:
    vector = TableFacts(columns=(ColumnFacts("v", "vector(3)"),), primary_key=("v",))
    found = _only(_tables({"x": vector}, {}, version=(8, 0, 31)), "fail")
    assert "shop.x.v is VECTOR(3), and b runs 8.0.31" in found.found
    newer = TableFacts(columns=(ColumnFacts("v", "text", "utf8mb4_new"),), primary_key=("v",))
    assert "utf8mb4_new" in _only(_tables({"x": newer}, {}), "fail").found


def test_drift_is_named_column_by_column() -> None:
    found = _only(_tables({"x": ORDERS, "y": ORDERS}, {"x": ORDERS}), "fail")
    assert (found.site, found.found) == ("b", "shop.y does not exist")
    for column, text in (
        (ColumnFacts("id", "int", nullable=False), "type bigint and int"),
        (ColumnFacts("key", "bigint", nullable=False), "name id and key"),
        (ColumnFacts("id", "bigint"), "nullable False and True"),
        (
            ColumnFacts("id", "bigint", "c", nullable=False),
            "collation  and c",
        ),  # not a text key at both sites
        (
            ColumnFacts("id", "bigint", nullable=False, generated="STORED 1"),
            "generated  and STORED 1",
        ),
    ):
        facts = _tables({"x": ORDERS}, {"x": replace(ORDERS, columns=(column,))})
        facts["b"] = replace(facts["b"], collations=frozenset({"c"}))
        facts["a"] = replace(facts["a"], collations=frozenset({"c"}))
        assert text in _only(facts, "fail").found
    more = (*ORDERS.columns, ColumnFacts("n", "int"))
    found = _only(_tables({"x": ORDERS}, {"x": replace(ORDERS, columns=more)}), "fail")
    assert "column 2 (n) is at one site only" in found.found
    found = _only(_tables({"x": ORDERS}, {"x": replace(ORDERS, primary_key=("n",))}), "fail")
    assert "primary key (id) and (n)" in found.found


@pytest.mark.parametrize(
    ("primary", "unique"),
    [(("id",), frozenset()), (("n",), frozenset({("n", "id")}))],
)
def test_key_columns_must_have_one_collation(primary: Any, unique: Any) -> None:
    def table(collation: str) -> TableFacts:
        columns = (ColumnFacts("n", "int"), ColumnFacts("id", "varchar(9)", collation))
        return TableFacts(columns=columns, primary_key=primary, unique_keys=unique)

    facts = _tables({"x": table("c_ci")}, {"x": table("c_bin")})
    for name in "ab":
        facts[name] = replace(facts[name], collations=frozenset({"c_ci", "c_bin"}))
    found = _only(facts, "fail")
    assert (found.site, found.setting) == ("a, b", "key collations")
    assert found.found == "shop.x.id has c_ci at a and c_bin at b"
    assert "ALTER TABLE shop.x MODIFY id" in found.fix

    behind = {"a": LedgerFacts(GtidSet.parse(f"{A}:1-9"))}
    facts["a"] = replace(facts["a"], gtid_executed=GtidSet.parse(f"{A}:1-10"))
    facts["b"] = replace(facts["b"], ledger=behind)
    assert _only(facts, "warn").setting == "key collations"  # the ALTER may still arrive
    assert _only(facts, "fail", ddl="skip").setting == "key collations"


def test_drift_under_way_is_a_warning() -> None:
    facts = _tables({"x": ORDERS, "y": ORDERS}, {"x": ORDERS})
    behind = {"a": LedgerFacts(GtidSet.parse(f"{A}:1-9"))}
    facts["b"] = replace(facts["b"], ledger=behind)
    for executed, level in ((f"{A}:1-9:drc:1-5", "fail"), (f"{A}:1-10", "warn")):
        facts["a"] = replace(facts["a"], gtid_executed=GtidSet.parse(executed))
        assert _only(facts, level).found == "shop.y does not exist"


def test_keys_that_differ_are_warned_of() -> None:
    more = replace(ORDERS, unique_keys=frozenset({("n",)}))
    assert _only(_tables({"x": ORDERS}, {"x": more}), "warn").setting == "unique keys"
    more = replace(ORDERS, foreign_keys=("f",))
    facts = _tables({"x": ORDERS}, {"x": more})
    assert _only(facts, "warn").setting == "foreign keys"
    facts["b"] = replace(facts["b"], sees_foreign_keys=False)
    assert not _bad(evaluate(_config(), facts, HEAD))


def test_a_site_whose_tables_cannot_be_seen_is_not_compared() -> None:
    facts = _tables({"x": ORDERS}, {})
    facts["b"] = replace(facts["b"], sees_tables=False)
    assert not _bad(evaluate(_config(), facts, HEAD))


def test_triggers_are_information() -> None:
    table = replace(ORDERS, triggers=("t",))
    facts = _tables({"x": table}, {"x": ORDERS})
    assert _only(facts, "info").found == "shop.x"


@pytest.mark.parametrize(
    ("columns", "fault"),
    [
        ({"n": "max", "d": "delta", "t": "min"}, ""),
        ({"N": "delta"}, "no column N; the column's name is n"),
        ({"id": "max"}, "id is part of the primary key"),
        ({"g": "max"}, "g is generated"),
        ({"t": "delta"}, "t is datetime(6); delta is for"),
        ({"v": "max"}, "v is varchar(9); max is for"),
    ],
)
def test_policies_fit_their_columns(columns: dict[str, str], fault: str) -> None:
    kinds = {"n": "int unsigned", "d": "decimal(9,2)", "t": "datetime(6)", "v": "varchar(9)"}
    more = [ColumnFacts(name, kind) for name, kind in kinds.items()]
    table = replace(
        ORDERS, columns=(*ORDERS.columns, *more, ColumnFacts("g", "int", generated="STORED n"))
    )
    policy = TablePolicy(columns=columns)  # type: ignore[arg-type]
    conflicts = ConflictsConfig(tables={"shop.x": policy})
    config = msgspec.structs.replace(_config(), conflicts=conflicts)
    found = _bad(evaluate(config, _tables({"x": table}, {"x": table}), HEAD))
    assert [f.level for f in found] == (["fail", "fail"] if fault else [])
    assert all(f.kind == "config" and fault in f.found for f in found)


@pytest.mark.parametrize(
    ("column", "fault"), [("id", ""), ("unit", "no column unit"), ("at", "at is datetime")]
)
def test_the_column_that_tells_the_owner_is_there(column: str, fault: str) -> None:
    table = replace(ORDERS, columns=(*ORDERS.columns, ColumnFacts("at", "datetime")))
    policy = TablePolicy(policy="owner_unit", owner_column=column, owners={"7": "a"})
    config = msgspec.structs.replace(
        _config(), conflicts=ConflictsConfig(tables={"shop.x": policy})
    )
    found = _bad(evaluate(config, _tables({"x": table}, {"x": table}), HEAD))
    assert [fault in f.found for f in found] == ([True, True] if fault else [])


def test_a_policy_for_a_table_that_is_not_there_is_a_warning() -> None:
    conflicts = ConflictsConfig(tables={"shop.x": TablePolicy(columns={"n": "max"})})
    config = msgspec.structs.replace(_config(), conflicts=conflicts)
    found = _bad(evaluate(config, _facts(), HEAD))
    assert {(f.level, f.found) for f in found} == {("warn", "shop.x: no such table")}


def test_the_worst_comes_first() -> None:
    facts = _with("b", sync_binlog="0", binlog_format="MIXED")
    levels = [f.level for f in evaluate(_config(), facts, HEAD)]
    assert levels == sorted(levels, key=["fail", "warn", "info", "ok"].index)
    assert levels[:2] == ["fail", "warn"]


def topic(**changes: int | str) -> TopicFacts:
    sound: dict[str, Any] = {
        "partitions": 1,
        "replicas": 3,
        "retention_ms": 168 * 3_600_000,
        "retention_bytes": -1,
        "message_bytes_max": 1_001_024,
        "min_insync_replicas": 2,
        "cleanup": "delete",
    }
    return TopicFacts(**(sound | changes))


@pytest.mark.parametrize(
    ("facts", "setting", "level"),
    [
        (None, "topic", "fail"),
        (topic(partitions=2), "partitions", "fail"),
        (topic(cleanup="compact"), "cleanup.policy", "fail"),
        (topic(message_bytes_max=999_999), "max.message.bytes", "fail"),
        (topic(min_insync_replicas=1), "min.insync.replicas", "warn"),
        (topic(retention_ms=1000), "retention.ms", "warn"),
        (topic(retention_bytes=1), "retention.bytes", "warn"),
        (TransientError("away", hint="start it"), "Kafka", "fail"),
    ],
)
def test_topics(facts: TopicFacts | DrcError | None, setting: str, level: str) -> None:
    found = list(kafka.check(_config(), {"a": facts, "b": topic()}))
    wrong = [f for f in found if f.level != "ok"]
    assert [(f.site, f.setting, f.level) for f in wrong] == [("a", setting, level)]
    assert wrong[0].fix
