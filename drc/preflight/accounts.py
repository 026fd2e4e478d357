"""Rules on our accounts: whether they get in, and what they may do. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from drc.config import Config
from drc.preflight import grants
from drc.preflight.facts import AccountFacts, Facts, Finding, SiteFacts, judge, kind_of


def check(config: Config, facts: Facts) -> Iterator[Finding]:
    """Yield findings on all accounts of all sites, reached or not."""
    # An object that one site has, or shows, is changed at the others too.
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
                "nothing works without it",
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
            "all rights of docs/operations/install.md",
            f"{account.user} lacks {_listed(missing)}",
            "fail",
            "replication would stop at the first change that needs it",
            grants.grant_statements(missing, account.user),
        )
    else:
        yield Finding(name, setting, "login and rights", f"{account.user}: all present", "ok")
    if role == "applier":
        untold = have.all_missing([grants.EXPLAINS])
        yield judge(
            good=not untold,
            finding=Finding(
                name,
                setting,
                "SELECT on performance_schema",
                f"{account.user} lacks it" if untold else "present",
                "warn",
                "without it nobody tells who holds a lock that the stream waits for, and who waits"
                " for the stream: batches stay short, and a backlog takes longer",
                grants.grant_statements(untold, account.user),
            ),
        )
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


def _programs(
    name: str, site: SiteFacts, applier: AccountFacts, programs: frozenset[tuple[str, str]]
) -> Iterator[Finding]:
    """Yield what would refuse a change of views, routines, triggers and events that exist."""
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
            "there are such objects, and the first change of one would stop the stream",
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
                "without it only SUPER creates functions and triggers, which the applier lacks",
                "SET PERSIST log_bin_trust_function_creators = ON",
            ),
        )


def _listed(missing: dict[str, set[str]]) -> str:
    return "; ".join(f"{', '.join(sorted(m))} on {place}" for place, m in missing.items())
