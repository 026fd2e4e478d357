"""Errors of the driver: translated into errors of drc, without a server."""

from __future__ import annotations

import ssl

import pymysql
import pytest

from drc import mysql
from drc.config import Account, Config, SiteConfig, Tls
from drc.errors import ConfigError, DataError, PreflightError, TransientError


@pytest.mark.parametrize(
    ("text", "version"),
    [("9.7.4-2", (9, 7, 4)), ("8.0.31", (8, 0, 31)), ("8.4.10-log", (8, 4, 10))],
)
def test_versions(text: str, version: tuple[int, int, int]) -> None:
    assert mysql.parse_version(text) == version


@pytest.mark.parametrize("text", ["11.4.2-MariaDB", "what"])
def test_other_servers_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="not MySQL"):
        mysql.parse_version(text)


def test_quote() -> None:
    assert mysql.quote("a`b") == "`a``b`"


@pytest.mark.parametrize(
    ("errno", "kind"),
    [(1045, ConfigError), (1142, PreflightError), (2013, TransientError), (9999, TransientError)],
)
def test_translate(errno: int, kind: type[Exception]) -> None:
    out = mysql.translate(pymysql.OperationalError(errno, "text"), site="a", stage="s")
    assert type(out) is kind
    assert (out.errno, out.site, out.stage) == (errno, "a", "s")
    assert "text" in out.message


def test_translate_defaults() -> None:
    unlisted = pymysql.OperationalError(9999, "t")
    assert type(mysql.translate(unlisted, default=DataError)) is DataError
    torn = pymysql.InternalError("Packet sequence number wrong")
    assert type(mysql.translate(torn, default=DataError)) is TransientError


def test_tls_modes() -> None:
    assert mysql.tls_options(Tls(mode="disabled")) == {"ssl_disabled": True}
    checked = {
        mode: mysql.tls_options(Tls(mode=mode))["ssl"]
        for mode in ("required", "verify_ca", "verify_identity")
    }
    assert checked["required"].verify_mode is ssl.CERT_NONE
    assert checked["verify_ca"].verify_mode is ssl.CERT_REQUIRED
    assert not checked["verify_ca"].check_hostname
    assert checked["verify_identity"].verify_mode is ssl.CERT_REQUIRED
    assert checked["verify_identity"].check_hostname
    assert all(c.minimum_version >= ssl.TLSVersion.TLSv1_2 for c in checked.values())
    assert Tls().mode == "verify_identity"


def test_tls_files_that_cannot_be_loaded() -> None:
    with pytest.raises(ConfigError, match="TLS files") as caught:
        mysql.tls_options(Tls(ca="/nonexistent/ca.pem"), "a")
    assert caught.value.site == "a"


def test_an_unreachable_server_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRC_TEST_PASSWORD", "hush")
    account = Account(user="u", password_env="DRC_TEST_PASSWORD")
    site = SiteConfig(
        host="127.0.0.1", port=1, source=account, applier=account, tls=Tls(mode="disabled")
    )
    config = Config(name="t", sites={"a": site})
    with pytest.raises(TransientError) as caught:
        mysql.connect(config, "a", "applier")
    assert caught.value.message == "127.0.0.1:1 is not reachable: Connection refused"
    assert "firewall" in caught.value.hint
    assert "hush" not in str(caught.value)
    with pytest.raises(ConfigError, match="no operator account is configured") as missing:
        mysql.connect(config, "a", "operator")
    assert (missing.value.site, "[sites.a]" in missing.value.hint) == ("a", True)
