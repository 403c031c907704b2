"""RFC 2236's and the kernel's rules for a bridge that listens to IGMP, as sets and dictionaries.

The bridge is told what a message means; that a frame's bytes mean it is the tests' part.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

LINK = IPv4Network("224.0.0.0/24")
MEMBERSHIP, QUERIER, LAST_MEMBER = 260_000, 255_000, 2_000  #: ms


@dataclass
class Snooper:
    """Who is in which group, where routers are, and whether there is a querier. Times in ms."""

    members: dict[tuple[str, str], int] = field(default_factory=dict)  # (group, port) -> end
    routers: dict[str, int] = field(default_factory=dict)
    querier: str = "0.0.0.0"
    querier_end: int = -1
    querier_heard: int = 0  # hosts have had time to answer

    def join(self, group: str, port: str, now: int) -> None:
        if IPv4Address(group) not in LINK:
            self.members[group, port] = now + MEMBERSHIP

    def leave(self, group: str, port: str, now: int) -> None:
        if now >= self.querier_end and self.members.get((group, port), now) > now:
            self._shorten(group, port, now + LAST_MEMBER)

    def _shorten(self, group: str, port: str, end: int) -> None:
        self.members[group, port] = min(self.members[group, port], end)

    def general_query(self, source: str, delay: int, port: str, now: int) -> None:
        present, known = now < self.querier_end, self.querier != "0.0.0.0"
        if present and known and IPv4Address(source) > IPv4Address(self.querier):
            return
        if not present:
            self.querier_heard = now + delay
        self.querier, self.querier_end = source, now + QUERIER
        self.routers[port] = now + QUERIER

    def group_query(self, group: str, delay: int, now: int) -> None:
        for one, port in self.members:
            if one == group:
                self._shorten(group, port, now + 2 * delay)

    def receivers(self, kind: str, group: str, now: int) -> set[str] | None:
        """Ports that a frame goes to, the one it came in by among them; None: all.

        `kind` is `data`, `report` (of IGMPv1 or IGMPv2) or `flood`.
        """
        if kind == "flood" or (kind == "data" and IPv4Address(group) in LINK):
            return None
        if not self.querier_heard < now < self.querier_end:
            return None
        ports = {port for port, end in self.routers.items() if end > now}
        if kind == "data":
            ports |= {port for (one, port), end in self.members.items() if one == group and end > now}
        return ports
