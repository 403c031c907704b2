"""Linux's bridge FDB as a dict: net/bridge/br_fdb.c, br_fdb_cleanup for its garbage collection."""

from __future__ import annotations

from dataclasses import dataclass

MS = 1_000_000
UNKNOWN, LOCAL = -1, -2


@dataclass
class Entry:
    port: int
    updated: int
    static: bool = False
    local: bool = False
    sticky: bool = False


class Fdb:
    """MAC -> entry, on VLAN 0."""

    def __init__(self, ageing_ns: int, limit: int, now: int) -> None:
        self.ageing, self.limit, self.created = ageing_ns, limit, now
        self.due = now + 100 * MS
        self.entries: dict[int, Entry] = {}

    def learned(self) -> list[int]:
        return [mac for mac, e in self.entries.items() if not e.static and not e.local]

    def age(self, now: int) -> None:
        """Every collection that is due by now, each at its own time."""
        while self.due <= now:
            wait = self.ageing
            for mac in self.learned():
                left = self.entries[mac].updated + self.ageing - self.due
                if left <= 0:
                    del self.entries[mac]
                else:
                    wait = min(wait, left)
            self.due += max(wait, 10 * MS)

    def learn(self, mac: int, port: int, now: int) -> None:
        self.age(now)
        if self.ageing == 0 or mac == 0 or mac >> 40 & 1:
            return
        entry = self.entries.get(mac)
        if entry is None:
            if not self.limit or len(self.learned()) < self.limit:
                self.entries[mac] = Entry(port, now)
        elif not entry.local:
            if not entry.sticky:
                entry.port = port
            entry.updated = now

    def lookup(self, mac: int) -> int:
        entry = self.entries.get(mac)
        if entry is None:
            return UNKNOWN
        return LOCAL if entry.local else entry.port

    def flush(self, port: int) -> None:
        self.entries = {mac: e for mac, e in self.entries.items() if e.port != port}
