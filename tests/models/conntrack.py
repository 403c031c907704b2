"""Connection tracking in plain Python, from the description of nf_conntrack: tuples, states, timeouts.

TCP is judged by flags alone, as `ConnectionTable.track` does without sequence numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

SECOND = 10**9
ICMP, TCP, UDP = 1, 6, 17
NEW, ESTABLISHED, REPLY, INVALID = "NEW", "ESTABLISHED", "ESTABLISHED_REPLY", "INVALID"
QUERIES = {8: 0, 13: 14, 15: 16, 17: 18}
INVERSE = QUERIES | {answer: query for query, answer in QUERIES.items()}

STATES = ("NO", "SS", "SR", "ES", "FW", "CW", "LA", "TW", "CL", "S2")
TABLE = {  # nf_conntrack_proto_tcp.c, tcp_conntracks
    ("orig", "syn"): "SS SS IG IG IG IG IG SS SS S2",
    ("orig", "synack"): "IV IV SR IV IV IV IV IV IV SR",
    ("orig", "fin"): "IV IV FW FW LA LA LA TW CL IV",
    ("orig", "ack"): "ES IV ES ES CW CW TW TW CL IV",
    ("orig", "rst"): "IV CL CL CL CL CL CL CL CL CL",
    ("orig", "none"): "IV IV IV IV IV IV IV IV IV IV",
    ("reply", "syn"): "IV S2 IV IV IV IV IV SS IV S2",
    ("reply", "synack"): "IV SR IG IG IG IG IG IG IG SR",
    ("reply", "fin"): "IV IV FW FW LA LA LA TW CL IV",
    ("reply", "ack"): "IV IG SR ES CW CW TW TW CL IG",
    ("reply", "rst"): "IV CL CL CL CL CL CL CL CL CL",
    ("reply", "none"): "IV IV IV IV IV IV IV IV IV IV",
}
NAMES = {
    "SS": "SYN_SENT", "SR": "SYN_RECV", "ES": "ESTABLISHED", "FW": "FIN_WAIT", "CW": "CLOSE_WAIT",
    "LA": "LAST_ACK", "TW": "TIME_WAIT", "CL": "CLOSE", "S2": "SYN_SENT2",
}  # fmt: skip
TIMEOUT = {  # seconds
    "SYN_SENT": 120, "SYN_RECV": 60, "ESTABLISHED": 432000, "FIN_WAIT": 120, "CLOSE_WAIT": 60,
    "LAST_ACK": 30, "TIME_WAIT": 120, "CLOSE": 10, "SYN_SENT2": 120,
}  # fmt: skip


def step(state: str, direction: str, kind: str) -> str:
    """The table's word for a segment: a state, IG (ignored) or IV (invalid)."""
    return TABLE[direction, kind].split()[STATES.index(state)]


Tuple = tuple[int, int, int, int, int]  # src, dst, sport, dport, proto


def inverse(t: Tuple) -> Tuple | None:
    src, dst, sport, dport, proto = t
    if proto != ICMP:
        return dst, src, dport, sport, proto
    kind, code = dport >> 8, dport & 255
    return (dst, src, sport, INVERSE[kind] << 8 | code, proto) if kind in INVERSE else None


@dataclass
class Connection:
    original: Tuple
    expires: int
    stream_after: int
    seen_reply: bool = False
    assured: bool = False
    packets: tuple[int, int] = (0, 0)


class Connections:
    """UDP, ICMP queries and protocols without ports; nothing is translated."""

    def __init__(self, udp_s: int = 30, stream_s: int = 120, icmp_s: int = 30, generic_s: int = 600) -> None:
        self.udp, self.stream = udp_s * SECOND, stream_s * SECOND
        self.icmp, self.generic = icmp_s * SECOND, generic_s * SECOND
        self.held: list[Connection] = []

    def live(self, now: int) -> list[Connection]:
        return [c for c in self.held if c.expires > now]

    def find(self, t: Tuple, now: int) -> tuple[Connection, bool] | None:
        """The connection of a tuple, and whether it is that of the answers.

        A tuple that is its own inverse counts as an answer: the kernel puts the reply's entry in front of the
        original's in their common chain (nf_conntrack_hash_insert).
        """
        for c in self.live(now):
            if inverse(c.original) == t:
                return c, True
            if c.original == t:
                return c, False
        return None

    def track(self, t: Tuple, now: int) -> str:
        self.held = self.live(now)
        found = self.find(t, now)
        if found is None:
            if inverse(t) is None or (t[4] == ICMP and t[3] >> 8 not in QUERIES):
                return INVALID
            found = Connection(t, 0, now + 2 * SECOND), False
            self.held.append(found[0])
        c, reply = found
        info = REPLY if reply else ESTABLISHED if c.seen_reply else NEW
        timeout = self.icmp if t[4] == ICMP else self.generic
        if t[4] == UDP:
            timeout = self.udp
            if c.seen_reply and now > c.stream_after:
                timeout, c.assured = self.stream, True
        c.expires = now + timeout
        c.seen_reply |= reply
        c.packets = (c.packets[0] + (not reply), c.packets[1] + reply)
        return info
