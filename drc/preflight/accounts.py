"""Account rules: login, missing rights and needless rights of drc's accounts. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from drc.config import Config
from drc.preflight import grants
from drc.preflight.facts import AccountFacts, Facts, Finding, SiteFacts, judge, kind_of


def check(config: Config, facts: Facts) -> Iterator[Finding]:
    """Yield findings on all accounts of all sites, reached or not."""
    # The DDL of an object is repeated at every site, so an object that any site shows counts for
    # all sites.
    programs = frozenset[tuple[str, str]]().union(*(site.programs for site in facts.values()))
    repeated = programs if config.replicate.ddl == "replicate" else frozenset()
    for name, site in facts.items():
        yield from _accounts(config, name, site)
        applier = site.accounts.get("applier")
        if repeated and site.reached and applier and not applier.error:
            yield from _programs(name, site, applier, repeated)


def _accounts(config: Config, name: str, site: SiteFacts) -> Iterator[Finding]:
    for role, account in site.accounts.items():
        setting = f"account {role}"
        if error := account.error:
            yield Finding(
                name,
                setting,
                f"login as {account.user}",
                error.message,
                "fail",
                "drc cannot work without this account",
                error.hint,
                kind_of(error),
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
    missing = have.all_missing(wanted)
    if missing:
        yield Finding(
            name,
            setting,
            "all rights that `drc docs install` lists",
            f"{account.user} lacks {_listed(missing)}",
            "fail",
            "replication would stop at the first change that needs a missing right",
            grants.grant_statements(missing, account.user),
        )
    else:
        yield Finding(name, setting, "login and rights", f"{account.user}: all present", "ok")
    if role == "applier":
        lacks = have.all_missing([grants.EXPLAINS])
        yield judge(
            good=not lacks,
            finding=Finding(
                name,
                setting,
                "SELECT on performance_schema",
                f"{account.user} lacks this right" if lacks else "present",
                "warn",
                "without this right drc cannot name the session that holds a lock for which the"
                " stream waits, nor the sessions that wait for the stream: batches stay short, and"
                " a backlog takes longer",
                grants.grant_statements(lacks, account.user),
            ),
        )
    if too_much := have.everywhere & grants.TOO_MUCH:
        yield Finding(
            name,
            setting,
            "least privilege",
            f"{account.user} has {', '.join(sorted(too_much))}",
            "warn",
            "a stolen password of this account gives control of the whole server",
            "create the account as `drc docs install` shows",
        )


def _programs(
    name: str, site: SiteFacts, applier: AccountFacts, programs: frozenset[tuple[str, str]]
) -> Iterator[Finding]:
    """Yield findings on the rights to repeat DDL of existing views, routines, triggers, events."""
    kinds = {kind for kind, _ in programs}
    missing = grants.parse(applier.grants).all_missing(grants.program_needs(programs, site.version))
    yield judge(
        good=not missing,
        finding=Finding(
            name,
            "account applier",
            f"rights to repeat DDL of {', '.join(f'{kind}s' for kind in sorted(kinds))}",
            f"{applier.user} lacks {_listed(missing)}" if missing else "all present",
            "warn",
            "such objects exist, and the first change of such an object would stop the stream",
            grants.grant_statements(missing, applier.user),
        ),
    )
    if kinds & {"function", "trigger"}:
        trusted = site.variable("log_bin_trust_function_creators") != "OFF"
        yield judge(
            good=trusted,
            finding=Finding(
                name,
                "log_bin_trust_function_creators",
                "ON",
                "ON" if trusted else "OFF",
                "warn",
                "while this variable is OFF, only an account with SUPER can create functions and"
                " triggers, and the applier lacks SUPER",
                "SET PERSIST log_bin_trust_function_creators = ON",
            ),
        )


def _listed(missing: dict[str, set[str]]) -> str:
    return "; ".join(f"{', '.join(sorted(m))} on {place}" for place, m in missing.items())
