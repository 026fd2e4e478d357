"""Rules on our accounts: whether they get in, and what they may do. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from drc.config import Config
from drc.errors import ConfigError, TransientError
from drc.preflight import grants
from drc.preflight.facts import Facts, Finding, SiteFacts


def check(config: Config, facts: Facts) -> Iterator[Finding]:
    """Yield findings on all accounts of all sites, reached or not."""
    for name, site in facts.items():
        yield from _accounts(config, name, site)


def _accounts(config: Config, name: str, site: SiteFacts) -> Iterator[Finding]:
    for role, account in site.accounts.items():
        setting = f"account {role}"
        if error := account.error:
            kind = {ConfigError: "config", TransientError: "reach"}.get(type(error), "server")
            yield Finding(
                name,
                setting,
                f"login as {account.user}",
                error.message,
                "fail",
                "nothing works without it",
                error.hint,
                kind,  # type: ignore[arg-type]
            )
        else:
            yield from _rights(config, name, site, role)


def _rights(config: Config, name: str, site: SiteFacts, role: str) -> Iterator[Finding]:
    account = site.accounts[role]
    have = grants.parse(account.grants)
    setting = f"account {role}"
    replicate = config.replicate
    wanted = grants.needs(
        role,
        replicate.schemas,
        tags=site.version >= (8, 3, 0),
        ddl=replicate.ddl == "replicate",
    )
    missing = {n.place: m for n in wanted if (m := have.missing(n))}
    if missing:
        listed = "; ".join(f"{', '.join(sorted(m))} on {place}" for place, m in missing.items())
        yield Finding(
            name,
            setting,
            "all rights of docs/operations/install.md",
            f"{account.user} lacks {listed}",
            "fail",
            "replication would stop at the first change that needs it",
            grants.grant_statements(missing, account.user),
        )
    else:
        yield Finding(name, setting, "login and rights", f"{account.user}: all present", "ok")
    if too_much := have.everywhere & grants.TOO_MUCH:
        yield Finding(
            name,
            setting,
            "least privilege",
            f"{account.user} has {', '.join(sorted(too_much))}",
            "warn",
            "whoever gets this password gets the server",
            "create the account as in docs/operations/install.md",
        )
