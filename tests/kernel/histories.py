"""Histories of a node: steps that Hypothesis draws. `world` says which frames they become.

A step says little by itself: `Reply(2)` answers the third latest frame that came out, wherever that was and whatever
it had become. So a history stays one when steps are left out, and the same steps go to two nodes whose random choices
(ports after a clash, IP ids) differ: each gets the answer to its own frame.

What few histories would come to by chance is a script: a few steps that belong together, among others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from frames import ACK, FIN, ICMP, RST, SYN, TCP, UDP
from hypothesis import strategies as st

from kernel.groups import KINDS

UPLINK = "vnet"
PODS = ("pod1", "pod2", "pod3", "pod4")
PORTS = (9, 53, 80, 443, 5000, 5353, 8080, 30080)


@dataclass(frozen=True)
class Fresh:
    """A packet that nothing has asked for."""

    port: str
    src: int  # 0: the pod's own, or a host's; else an odd one
    dst: int
    mac: int  # 0: the node's
    proto: int
    sport: int
    dport: int
    flags: int  # of TCP
    ttl: int
    df: bool
    size: int
    spoil: int
    door: int | None  # of a service or host port, whose address, protocol and port these are then
    tag: int = 0  # of a VLAN
    options: int = 0


@dataclass(frozen=True)
class Reply:
    """The answer to a frame that came out: of a packet's receiver, or of who was asked for by ARP."""

    back: int
    flags: int
    spoil: int
    drift: int = 0  # of TCP's sequence number, from what is due
    size: int = 0


@dataclass(frozen=True)
class Error:
    """An ICMP error about a frame that came out, from who got it or from a router."""

    back: int
    kind: tuple[int, int]
    quoted: int
    by_router: bool
    mtu: int = 1400  # of a link that the frame was too big for


@dataclass(frozen=True)
class Again:
    """A frame that went in once more."""

    back: int
    spoil: int
    bit: int


@dataclass(frozen=True)
class Pieces:
    """A datagram in fragments: in order, backwards, or without the last."""

    port: str
    dst: int
    sport: int
    dport: int
    size: int
    cut: int
    order: int
    door: int | None


@dataclass(frozen=True)
class Scale:
    """A service has these of its endpoints now; None: it is gone."""

    service: int
    kept: tuple[bool, ...] | None


@dataclass(frozen=True)
class Ask:
    """An ARP request, or an announcement."""

    port: str
    target: int
    op: int


@dataclass(frozen=True)
class Group:
    """A message of IGMP or MLD, or data for a group."""

    port: str
    kind: str
    group: int
    six: bool


@dataclass(frozen=True)
class Wait:
    """Nothing for so many ms; timers run."""

    ms: int


@dataclass(frozen=True)
class Change:
    """The node's own settings change while it runs: a line of `CHANGES`."""

    which: int


Step = Fresh | Reply | Error | Again | Pieces | Ask | Scale | Group | Wait | Change

# Routes of the main table as `ip route` says them, without (what is left: the prefix goes), and links.
CHANGES: tuple[tuple[str, ...], ...] = (
    ("route", "198.51.100.0/24", "via 10.240.0.9 dev eth0"),
    ("route", "198.51.100.0/24", ""),
    ("route", "198.51.100.0/24", "unreachable"),
    ("route", "198.51.100.0/24", "prohibit"),
    ("route", "198.51.100.7/32", "blackhole"),
    ("route", "198.51.100.7/32", ""),
    ("route", "default", ""),
    ("route", "default", "via 10.240.0.1 dev eth0"),
    ("route", "default", "via 10.240.0.5 dev eth0"),
    ("route", "10.244.2.0/24", "via 10.240.0.5 dev eth0"),
    ("route", "10.244.2.0/24", ""),
    ("neighbour", "10.240.0.50", "00:0d:3a:00:00:55"),
    ("neighbour", "10.240.0.66", "00:0d:3a:00:00:66"),
    ("mtu", "eth0", "1400"),
    ("mtu", "eth0", "1500"),
    ("mtu", "cbr0", "1300"),
    ("mtu", "cbr0", "1500"),
    ("mtu", "pod2", "1200"),
    ("mtu", "pod2", "1500"),
    ("flap", "eth0"),
    ("flap", "pod3"),
)

ports = st.sampled_from([*PODS, UPLINK])
_spoil = st.sampled_from([0] * 12 + [1, 2, 3, 4, 5, 6])
_small = st.integers(0, 3)
_door = st.one_of(st.none(), st.integers(0, 70), st.integers(0, 70))
_scale = st.builds(
    Scale,
    service=st.integers(0, 16),
    kept=st.one_of(st.none(), *[st.tuples(*[st.booleans()] * 4)] * 5),
)
_flags = st.sampled_from(
    [SYN, SYN, SYN, SYN | ACK, ACK, ACK, FIN | ACK, RST, RST | ACK, 0, SYN | FIN, 8 | ACK]
)
_fresh = st.builds(
    Fresh,
    port=ports,
    src=st.sampled_from([0] * 10 + [1, 2, 3, 4]),
    dst=st.integers(0, 40),
    mac=st.sampled_from([0] * 8 + [1, 1, 2, 3]),
    proto=st.sampled_from([TCP, TCP, TCP, UDP, UDP, UDP, ICMP, ICMP, 47, 50, 132, 253]),
    sport=st.sampled_from([1024, 1025, 40000]),
    dport=st.sampled_from(PORTS),
    flags=_flags,
    ttl=st.sampled_from([64, 64, 64, 64, 2, 1, 255]),
    df=st.booleans(),
    size=st.sampled_from([0, 1, 4, 8, 100, 1440, 1460]),
    spoil=_spoil,
    door=_door,
    tag=st.sampled_from([0] * 20 + [1, 2, 3, 4, 5, 6]),
    options=st.sampled_from([0] * 16 + [*range(1, 10)]),
)
_reply = st.builds(
    Reply,
    back=_small,
    flags=_flags,
    spoil=_spoil,
    drift=st.sampled_from([0] * 12 + [1, -1, 1000, 64240, 70000, -70000, 1 << 31]),
    size=st.sampled_from([0, 0, 0, 1, 1000]),
)
_mtu = st.sampled_from([1400, 1400, 1400, 1300, 1280, 1000, 552, 400, 0])
_error = st.builds(
    Error,
    back=_small,
    kind=st.sampled_from(
        [(3, 0), (3, 1), (3, 3), (3, 4), (3, 13), (11, 0), (11, 1), (12, 0), (4, 0), (5, 1)]
    ),
    quoted=st.sampled_from([0, 4, 7, 8, 16, 28, 100]),
    by_router=st.booleans(),
    mtu=_mtu,
)
_again = st.builds(Again, back=_small, spoil=_spoil, bit=st.integers(0, 600))
_pieces = st.builds(
    Pieces,
    port=ports,
    dst=st.integers(0, 40),
    sport=st.sampled_from([1024, 1025]),
    dport=st.sampled_from(PORTS),
    size=st.sampled_from([100, 1472, 1480, 2900]),
    cut=st.sampled_from([8, 48, 800, 1480]),
    order=st.integers(0, 2),
    door=_door,
)
_ask = st.builds(
    Ask,
    port=ports,
    target=st.one_of(st.integers(0, 12), st.integers(0, 50)),
    op=st.sampled_from([1, 1, 1, 2]),
)

_group = st.builds(Group, port=ports, kind=st.sampled_from(KINDS), group=st.integers(0, 3), six=st.booleans())
_wait = st.builds(Wait, ms=st.sampled_from([150, 150, 150, 1200, 2400]))
_change = st.builds(Change, which=st.integers(0, len(CHANGES) - 1))
_plain = [_fresh] * 8 + [_reply] * 8 + [_error, _error, _again, _again, _pieces, _pieces, _ask, _scale]
steps = st.one_of(*_plain)


def _listening(
    ports: list[str], kinds: tuple[str, str], group: int, six: bool, waits: list[Wait]
) -> list[Step]:
    """A querier, who counts once its listeners had time to answer; somebody who listens or stops; and data."""
    who = [ports[1], ports[1], ports[2]]
    what = ["report", kinds[0], kinds[1]]
    rest = [Group(port, kind, group, six) for port, kind in zip(who, what, strict=True)]
    return [Group(ports[0], "query", group, six), *waits, *rest]


def _visits(first: Fresh, sports: list[int]) -> list[Step]:
    """One client at one door, again and again."""
    return [replace(first, sport=sport) for sport in sports]


def _then(first: Step, steps: list[Step]) -> list[Step]:
    """A step, and what shows what it has done."""
    return [first, *steps]


def _squeezed(port: str, host: int, own: int, error: Error, other: Fresh, sizes: list[int]) -> list[Step]:
    """Somebody pings the node, says how much of an answer gets through, and pings again; another one writes to him."""
    ping = replace(other, port=port, dst=own, proto=ICMP, dport=9, sport=1024)
    pings: list[Step] = [replace(ping, size=size) for size in sizes]
    back = host if port == UPLINK else PODS.index(port)
    return [pings[0], error, *pings[1:], replace(other, dst=back)]


whole = st.builds(
    Fresh,
    port=ports,
    src=st.just(0),
    dst=st.one_of(st.integers(0, 7), st.integers(0, 50)),
    mac=st.sampled_from([0, 0, 0, 1]),
    proto=st.sampled_from([TCP, TCP, TCP, UDP, ICMP, 47]),
    sport=st.sampled_from([1024, 1025, 40000]),
    dport=st.sampled_from(PORTS),
    flags=st.just(SYN),
    ttl=st.just(64),
    df=st.booleans(),
    size=st.sampled_from([0, 0, 100]),
    spoil=st.just(0),
    door=st.one_of(st.none(), st.integers(0, 70)),
)
_turn = st.builds(
    Reply,
    back=st.just(0),
    flags=st.sampled_from([SYN | ACK, ACK, ACK, ACK, FIN | ACK, RST, RST | ACK]),
    spoil=st.just(0),
    drift=st.sampled_from([0] * 9 + [1, 64240, 70000, -70000]),
    size=st.sampled_from([0, 0, 1, 1000]),
)
_handshake = [
    Reply(back=0, flags=SYN | ACK, spoil=0),
    Reply(back=0, flags=ACK, spoil=0),
]
_listenings = st.builds(
    _listening,
    st.lists(ports, min_size=3, max_size=3),
    st.tuples(st.sampled_from(KINDS), st.sampled_from(["data", "data", "report", "leave"])),
    st.integers(0, 3),
    st.booleans(),
    st.sampled_from([[], [Wait(150)], [Wait(150)]]),
)
_visitor = st.builds(
    replace, whole, port=st.sampled_from([*PODS, *[UPLINK] * 4]), door=st.sampled_from(range(71))
)
large = st.builds(
    replace,
    whole,
    df=st.sampled_from([True, True, False]),
    size=st.just(1440),
    flags=st.just(SYN),
    mac=st.just(0),
)
MTUS = [Change(n) for n, (kind, *_) in enumerate(CHANGES) if kind == "mtu"]
_own = st.sampled_from(range(30, 34))  # of `World.targets`: the node's addresses
#: Scripts of packets alone.
scripts = [
    st.builds(_then, whole, st.lists(_turn, min_size=1, max_size=4)),
    st.builds(_then, whole, st.lists(_turn, max_size=4).map(lambda more: [*_handshake, *more])),
    st.builds(_visits, _visitor, st.lists(st.sampled_from([1024, 1025, 40000]), min_size=2, max_size=3)),
    # to the node's address, and not to its MAC
    st.builds(replace, whole, dst=_own, mac=st.sampled_from([2, 3]), door=st.none()).map(lambda step: [step]),
]


def told(host: int, own: list[int]) -> st.SearchStrategy[list[Step]]:
    """Somebody says what gets through of the node's answers; the first host and the node are these of the targets."""
    error = st.builds(
        Error,
        back=st.just(0),
        kind=st.just((3, 4)),
        quoted=st.sampled_from([8, 28, 28, 548]),
        by_router=st.booleans(),
        mtu=st.sampled_from([1400, 1300, 1280, 1000, 551, 400, 400]),
    )
    other = st.builds(replace, whole, door=st.none(), size=st.sampled_from([400, 1200, 1440, 1460]))
    sizes = st.lists(st.sampled_from([600, 1200, 1460, 1460]), min_size=2, max_size=3)
    return st.builds(_squeezed, ports, st.just(host), st.sampled_from(own), error, other, sizes)


_others = [
    _listenings,
    st.builds(_then, st.sampled_from(MTUS), st.lists(large, min_size=1, max_size=2)),
    *[told(26, [30, 30, 31])] * 3,
]
_slow = st.builds(
    _then,
    st.one_of(whole, _pieces),
    st.lists(st.sampled_from([Wait(1200), Wait(2400)]), min_size=1, max_size=2),
)
_single = [each.map(lambda step: [step]) for each in (*[*_plain, _group] * 4, _wait, _change, _change)]
histories = st.lists(
    st.one_of(*_single, *scripts * 4, *_others * 4, _slow, _slow), min_size=14, max_size=40
).map(lambda parts: [step for part in parts for step in part][:64])
