"""Path MTUs in plain Python: net/ipv4/route.c's and net/ipv6/route.c's rules over a dict, without a bound."""

from __future__ import annotations

from dataclasses import dataclass, field

EXPIRES = 600_000_000_000
LEAST, LEAST6 = 552, 1280


@dataclass
class Path:
    mtu: int
    locked: bool
    expires: int


@dataclass
class Paths:
    """What is known, by (hop, destination)."""

    known: dict[tuple[int, int], Path] = field(default_factory=dict)

    def find(self, hop: int, ip: int, now: int) -> Path | None:
        path = self.known.get((hop, ip))
        if path is not None and path.expires <= now:
            del self.known[hop, ip]
            return None
        return path

    def mtu(self, hop: int, ip: int, link: int, now: int, *, forwarded: bool = False) -> int:
        path = self.find(hop, ip, now)
        return link if path is None or (forwarded and not path.locked) else path.mtu

    def tell(self, hop: int, ip: int, link: int, mtu: int, now: int, *, family: int = 4) -> bool:
        path, old = self.find(hop, ip, now), self.mtu(hop, ip, link, now)
        if family == 6:
            if not LEAST6 <= mtu < old:
                return False
            self.known[hop, ip] = Path(mtu, False, now + EXPIRES)
            return True
        if (path is not None and path.locked) or old < mtu:
            return False
        locked = mtu < LEAST
        if locked:
            mtu = min(old, LEAST)
        if path is not None and path.mtu == mtu and not locked and now < path.expires - EXPIRES // 2:
            return False
        self.known[hop, ip] = Path(mtu, locked, now + EXPIRES)
        return locked

    def forget(self, hop: int) -> None:
        self.known = {key: path for key, path in self.known.items() if key[0] != hop}

    def set_link(self, hop: int, before: int, mtu: int) -> None:
        for (of, _), path in self.known.items():
            if of != hop:
                continue
            if path.locked:
                if mtu <= path.mtu:
                    path.mtu, path.locked = mtu, False
            elif mtu < path.mtu or path.mtu == before:
                path.mtu = mtu
