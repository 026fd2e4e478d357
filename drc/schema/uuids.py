"""The server UUIDs of a site, now and before a promotion. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Servers:
    """The servers that each site has or had, as UUIDs of 16 bytes.

    After a promotion a site has several: ``Servers.of(("sh", old), ("sh", new), ("bj", uuid))``.
    """

    by_site: Mapping[str, frozenset[bytes]] = field(default_factory=dict)

    @classmethod
    def of(cls, *pairs: tuple[str, bytes]) -> Servers:
        """Return the servers of pairs of site and UUID."""
        sites = {site for site, _ in pairs}
        return cls({site: frozenset(u for name, u in pairs if name == site) for site in sites})

    @classmethod
    def union(cls, several: Iterable[Servers]) -> Servers:
        """Return the servers that are in any of ``several``."""
        return cls.of(
            *((site, u) for each in several for site, uuids in each.by_site.items() for u in uuids)
        )

    def __or__(self, other: Servers) -> Servers:
        return self.union((self, other))

    def at(self, site: str) -> frozenset[bytes]:
        """Return the servers of a site; an empty set if the site was never reached."""
        return self.by_site.get(site, frozenset())

    def foreign_to(self, site: str) -> frozenset[bytes]:
        """Return the servers of all other sites.

        A UUID that was noted for ``site`` and for another site is in the result.
        """
        others = (uuids for name, uuids in self.by_site.items() if name != site)
        return frozenset[bytes]().union(*others)
