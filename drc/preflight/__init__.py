"""Preflight: checks whether servers, accounts and tables allow replication, and returns findings.

The facts of each site are gathered in a single pass, then pure rules turn facts into findings.
``drc check`` prints all findings, ``drc run`` refuses to start on a fatal finding. Every condition
that replication relies on has a rule here (I8): a new condition needs a new rule.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from drc.config import Config
from drc.errors import ConfigError, DrcError, PreflightError, TransientError
from drc.kafka.client import TopicFacts
from drc.mysql import PEER_TIMEOUT_S
from drc.preflight import accounts, kafka, policies, relation, resume, settings, tables
from drc.preflight.facts import Facts, Finding, SiteFacts
from drc.preflight.gather import ROLES, gather
from drc.schema.version import site_head

__all__ = ["Finding", "as_error", "evaluate", "inspect", "require_ready"]

_ORDER = {"fail": 0, "warn": 1, "info": 2, "ok": 3}


def evaluate(
    config: Config,
    facts: Facts,
    head: str,
    topics: Mapping[str, TopicFacts | DrcError | None] | None = None,
) -> list[Finding]:
    """Return the findings on facts, the worst first; pure.

    Findings of the same level keep the order of the rules.

    :param head: the version of schema ``drc`` that this release needs, for example ``"0001"``.
    :param topics: by site; see :mod:`drc.preflight.kafka`.
    """
    found = [
        *accounts.check(config, facts),
        *settings.check(config, facts, head),
        *relation.check(facts),
        *resume.check(config, facts),
        *tables.check(config, facts),
        *policies.check(config, facts),
        *kafka.check(config, topics or {}),
    ]
    return sorted(found, key=lambda f: _ORDER[f.level])


def inspect(config: Config, sites: Collection[str] = (), *, operator: bool = True) -> list[Finding]:
    """Ask all sites and judge the answers.

    :param sites: the sites to ask with all accounts; every other site is asked with the source
        account only, as a daemon in ``sites`` would ask. Empty: all sites.
    :param operator: whether to try the operator accounts, too.
    """
    deep = set(sites) or set(config.sites)
    roles = [role for role in ROLES if operator or role != "operator"]

    def ask(name: str) -> SiteFacts:
        if name in deep:
            return gather(config, name, roles)
        return gather(config, name, ("source",), PEER_TIMEOUT_S)

    with ThreadPoolExecutor(2 * len(config.sites)) as pool:
        asked = pool.map(ask, config.sites)
        topics = _topics(config, pool)
        facts = dict(zip(config.sites, asked, strict=True))
        if resume.lost(config, facts):
            # Under load a ledger may have been read after the origin's gtid_executed. Only a
            # gtid_executed that was read after all ledgers shows that an origin lost transactions.
            again = zip(facts.items(), pool.map(ask, config.sites), strict=True)
            facts = {
                name: replace(first, gtid_executed=later.gtid_executed) if later.reached else first
                for (name, first), later in again
            }
    return evaluate(config, facts, site_head(), topics)


def _topics(config: Config, pool: ThreadPoolExecutor) -> dict[str, TopicFacts | DrcError | None]:
    if config.log != "kafka":
        return {}
    from drc.kafka.topics import read_topic  # late: Kafka's library loads only where needed

    def ask(site: str) -> TopicFacts | DrcError | None:
        try:
            return read_topic(config, site)
        except DrcError as error:
            return error

    return dict(zip(config.sites, pool.map(ask, config.sites), strict=True))


def require_ready(config: Config, sites: Collection[str]) -> list[Finding]:
    """Check that streams into ``sites`` can run.

    :return: the findings to write to the log: warnings, and sites that are away for now.
    :raises ConfigError: the configuration does not fit the servers.
    :raises PreflightError: a server, account or table does not allow replication.
    """
    found = inspect(config, sites, operator=False)
    fatal = [f for f in found if f.level == "fail" and f.kind != "reach"]
    if fatal:
        raise as_error(min(fatal, key=lambda f: f.kind != "config"))
    return [f for f in found if f.level in ("warn", "fail")]


def as_error(finding: Finding) -> DrcError:
    """Convert a failing finding to an error, of the class that the finding's kind names."""
    kinds: dict[str, type[DrcError]] = {
        "config": ConfigError,
        "reach": TransientError,
        "server": PreflightError,
    }
    return kinds[finding.kind](
        f"{finding.setting}: {finding.found} (wanted: {finding.wanted}); {finding.why}",
        site=finding.site,
        stage="preflight",
        hint=finding.fix,
    )
