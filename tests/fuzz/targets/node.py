"""A node's histories: frames of any kind at any port, answers to what came out, time, and changes of pods and services.

Every packet is accounted for: one verdict and one reason, counters that add up to what went in, frames that lie within
their buffers. In the end the same packets go through a second node one at a time, which has to give the same; the first
may have had two workers. A quarter of all nodes are dual-stack (see `dual_stack`). Longer than its neighbours: bytes
choose among all that a node can be told.
"""

from __future__ import annotations

import pickle
import struct
from dataclasses import dataclass, field

import frames as made
import numpy as np
from golden_compare import with_checksums

import kubenet_fastpath as kf
from kubenet_fastpath.fragment_table import FragmentFate

from ..choices import Choices
from ..dual_stack import HOSTS6, NODE6, PODS6, VIPS6, answer6, fresh6

LONGEST = 1024
LINES = False
START, SECOND = 10**18, 10**9
GATEWAY, NODE_MAC = "12:34:56:78:9a:bc", "00:0d:3a:00:00:04"
GAPS = (0, 1, 10**6, 10**8, 2 * 10**8, SECOND, 3 * SECOND, 10 * SECOND, 30 * SECOND, 31 * SECOND, 60 * SECOND)
GAPS += (119 * SECOND, 121 * SECOND, 301 * SECOND, 600 * SECOND, 432_000 * SECOND, -SECOND)
PODS = 4
HOSTS = ("10.240.0.1", "10.240.0.9", "10.240.0.50", "198.51.100.7", "10.244.2.10", "10.241.9.9")
VIPS = ("10.0.0.10", "10.0.0.20", "10.0.0.30", "10.0.0.40", "20.60.1.1")
ODD = (
    "0.0.0.0",
    "127.0.0.1",
    "224.0.0.1",
    "239.1.2.3",
    "255.255.255.255",
    "10.244.1.255",
    "240.0.0.1",
    "169.254.1.1",
)
MACS = (
    "ff:ff:ff:ff:ff:ff",
    "01:00:5e:00:00:01",
    "01:80:c2:00:00:00",
    "02:00:00:00:77:77",
    "00:00:00:00:00:00",
)
PORTS = (0, 9, 53, 80, 443, 1000, 1024, 30080, 30081, 40000, 65535)
SIZES = (0, 1, 7, 8, 20, 64, 512, 1440, 1452, 1472, 1480, 2000, 8000)
PROTOCOLS = (made.TCP, made.TCP, made.UDP, made.UDP, made.ICMP, 2, 33, 47, 50, 132, 136, 253)
ETHERTYPES = (0x0800, 0x0806, 0x86DD, 0x8100, 0x88A8, 0x8808, 5)
OPTIONS = (
    b"",
    b"",
    b"",
    bytes(4),
    b"\7\7\4\0\0\0\0\0",
    b"\x83\7\4\1\2\3\4\0",
    b"\x44\x0c\5\1" + bytes(8),
    b"\x94\4\0\0",
)


def _service(
    name: str, ip: str, proto: str, endpoints: tuple[str, ...], node_port: int, **rest: object
) -> kf.Service:
    port = kf.ServicePort(port=80, protocol=proto, endpoints=endpoints, node_port=node_port)
    return kf.Service(name=name, cluster_ip=ip, ports=(port,), **rest)


def services(pods: list[str], which: int) -> tuple[kf.Service, ...]:
    """Some services: endpoints here, elsewhere, several, none; affinity, both policies, addresses from outside."""
    outside = {"load_balancer_ips": (VIPS[4],), "source_ranges": ("198.51.100.0/24", "10.240.0.0/15")}
    here, there = tuple(f"{ip}:8080" for ip in pods[:3]), ("10.244.2.10:80", "10.240.0.9:53")
    local = kf.TrafficPolicy.LOCAL
    every = (
        _service("d/a", VIPS[0], "tcp", here, 30080),
        _service("d/b", VIPS[1], "udp", here[:1] + there, 30081, affinity_s=10),
        _service("d/c", VIPS[2], "tcp", (), 30082),
        _service("d/d", VIPS[3], "udp", there, 30083, external_traffic_policy=local, external_ips=(VIPS[4],)),
        _service("d/e", VIPS[3], "tcp", here + there, 30083, internal_traffic_policy=local, **outside),
        _service("d/f", VIPS[0], "sctp", here[1:2], 30080, external_traffic_policy=local, affinity_s=1),
    )
    return tuple(service for bit, service in enumerate(every) if which >> bit & 1)


def services6(pods: list[str], which: int) -> tuple[kf.Service, ...]:
    """The same of IPv6, fewer."""
    here = tuple(f"[{ip}]:8080" for ip in pods[:3])
    every = (
        _service("d/a6", VIPS6[0], "tcp", here, 30080),
        _service("d/b6", VIPS6[1], "udp", (*here[:1], "[fd00:10::9]:53"), 30081, affinity_s=10),
        _service("d/c6", VIPS6[2], "tcp", (), 30082),
    )
    return tuple(service for bit, service in enumerate(every) if which >> bit & 1)


def build(first: int, second: int, third: int, workers: int = 1) -> kf.Node:
    """The node that three bytes describe."""
    dual = second >> 2 & 3 == 3 and first & 3 != 1
    common = {
        "node_ip": "10.240.0.4/16",
        "gateway": "10.240.0.1",
        "masquerade": (kf.Masquerade.AGENT, kf.Masquerade.AGENT, kf.Masquerade.KUBENET, kf.Masquerade.NONE)[
            first >> 2 & 3
        ],
        "gateway_mac": None if first & 16 else GATEWAY,
        "permanent_neighbours": not first & 16,
        "conntrack_max": 8 if first & 32 else 1 << 12,
        "random_fully": bool(first & 64),
        "to_ports": (2000, 2002) if first & 128 else None,
        "kube_proxy": not second & 1,
        "port_mapper": kf.PortMapper.KUBELET if second & 2 else kf.PortMapper.PORTMAP,
        "rp_filter": second >> 2 & 3 if second >> 2 & 3 < 3 else 0,
        "send_redirects": not second & 16,
        "mtu": (1280 if dual else 576) if second & 32 else 1500,
        "tcp_loose": not second & 64,
        "tcp_be_liberal": bool(second & 128),
        "neighbours_max": 3 if third & 1 else 1024,
        "route_localnet": not third & 2,
        "conntrack_checksum": not third & 4,
        "icmp_msgs_burst": 1 if third & 8 else 50,
        "seed": 5,
    }
    if dual:
        common |= NODE6
    if first & 3 == 1:
        config: kf.NodeConfig = kf.AzureCniNodeSubnet(**common, proxy_arp=not third & 16)
    elif first & 3 == 2:
        config = kf.AzureCniOverlay(
            **common,
            pod_cidr="10.244.1.0/24",
            cluster_cidr="10.244.0.0/16",
            pod_cidr6=PODS6 if dual else None,
        )
    else:
        config = kf.Kubenet(
            **common,
            pod_cidr="10.244.1.0/24",
            cluster_cidr="10.244.0.0/16",
            pod_cidr6=PODS6 if dual else None,
            hairpin=(kf.Hairpin.PROMISC, kf.Hairpin.PROMISC, kf.Hairpin.VETH, kf.Hairpin.NONE)[
                third >> 4 & 3
            ],
            bridge_nf_call_iptables=not third & 64,
            arp_notify=not third & 128,
            group_fwd_mask=0x4000 if first & 3 == 3 else 0,
        )
    node = kf.Node(config, workers=workers)
    if workers > 1:
        node._pipeline.shape(5, 2, 1, 1)
    prefix = "10.240.3." if first & 3 == 1 else "10.244.1."
    for number in range(PODS):
        mapped = (
            (kf.HostPort(port=8000 + number, pod_port=80, protocol="tcp" if number else "udp"),)
            if number < 2
            else ()
        )
        node.attach(kf.Pod(f"pod{number}", ip=f"{prefix}{number + 2}", host_ports=mapped))
    return node


@dataclass
class History:
    """A node, what was sent and seen, and what waits to be forwarded as one batch."""

    node: kf.Node
    shape: tuple[int, int, int]
    now: int = START
    waiting: list[tuple[int, bytes, int, int]] = field(default_factory=list)  # port, frame, time, bytes lost
    seen: list[tuple[int, bytes]] = field(default_factory=list)
    steps: list[tuple[str, object, object]] = field(
        default_factory=list
    )  # to be repeated: what, its input, its result
    packets: int = 0

    def __post_init__(self) -> None:
        self.pods = [port.pod for port in self.node.ports.values() if port.pod]
        self.by_port = {port.index: port.pod for port in self.node.ports.values()}
        node_ips = ["10.240.0.4", "10.244.1.1"]
        self.dual = self.node.config.node_ip6 is not None
        self.hosts6 = [*(pod.ip6 or "" for pod in self.pods), *HOSTS6] if self.dual else []
        self.hosts = [
            *(pod.ip for pod in self.pods),
            *node_ips,
            *HOSTS,
            *VIPS,
            *(pod.ip for pod in self.pods),
            *ODD,
        ]

    def put(self, port: int, frame: bytes, lost: int = 0) -> None:
        """Add a frame to the batch."""
        self.waiting.append((port, frame, self.now, lost))

    def flush(self) -> None:
        """Forward the batch."""
        if self.waiting:
            rows, self.waiting = self.waiting, []
            self.packets += len(rows)
            got = forwarded(self.node, rows, notes=len(rows) == 3)
            self.steps.append(("forward", rows, got))
            self.seen = (self.seen + [(port, frame) for port, frame, *_ in got[2]])[-16:]

    def advance(self) -> None:
        """Let time pass."""
        got = outputs_of(self.node, self.node.advance(self.now))
        self.steps.append(("advance", self.now, got))
        self.seen = (self.seen + [(port, frame) for port, frame, *_ in got])[-16:]

    def account(self) -> None:
        """Every packet has a verdict and a reason; what is held is held by a table."""
        counters, tables = self.node.counters, (self.node.fragments, self.node.fragments6)
        assert sum(counters[verdict.name.lower()] for verdict in kf.Verdict) == self.packets
        assert (
            sum(counters[f"reason.{reason.name.lower()}"] for reason in kf.Reason if reason < 64)
            + counters["drop"]
            == self.packets
        )
        for table in tables:
            assert table.arrived[FragmentFate.HELD] == table.held + sum(table.ended.values())
        waiting = self.node.neighbours.held + self.node.neighbours6.held
        assert counters["held_now"] == sum(table.held for table in tables) + waiting
        assert len(self.node.connections) <= self.node.config.conntrack_max

    def control(self, what: str, argument: object) -> None:
        """Tell the node something."""
        self.flush()
        told(self.node, what, argument)
        self.steps.append((what, argument, None))


def told(node: kf.Node, what: str, argument: object) -> None:
    """What kubelet, kube-proxy and `conntrack` tell a node; what it refuses changes nothing."""
    try:
        if what == "services":
            pods = [port.pod for port in node.ports.values() if port.pod]
            every = services([pod.ip or "" for pod in pods], argument)
            if node.config.node_ip6 is not None:
                every += services6([pod.ip6 or "" for pod in pods], argument >> 3)
            node.set_services(every)
        elif what == "detach":
            node.detach(f"pod{argument}")
        elif what == "attach":
            node.attach(kf.Pod(f"pod{argument}"))
        elif what == "delete":
            node.connections.delete(proto=argument)
        else:
            node.connections.flush()
    except (KeyError, kf.ConfigError, kf.TableFull):
        pass  # there is no such pod, no kube-proxy, or no room


def outputs_of(node: kf.Node, result: kf.Result) -> list[tuple[int, bytes, int, int, int]]:
    """(port, frame, wire length, time, source) of all that left, in order."""
    rows = result.outputs
    known = {port.index for port in node.ports.values()}
    assert set(rows["port"].tolist()) <= known
    batch = result.packets(None)  # refuses what lies outside its buffer
    columns = (rows["port"], batch.frames(), batch.wire_length, rows["time"], rows["source"])
    return list(zip(*(c.tolist() if isinstance(c, np.ndarray) else c for c in columns), strict=True))


def forwarded(
    node: kf.Node, rows: list[tuple[int, bytes, int, int]], notes: bool = False
) -> tuple[list[int], list[int], list[tuple[int, bytes, int, int, int]]]:
    """Verdicts, reasons and what left."""
    port, frames, time, lost = zip(*rows, strict=True)
    wire = [len(frame) + more for frame, more in zip(frames, lost, strict=True)]
    batch = kf.PacketBatch.from_frames(frames, np.array(port, np.uint16), np.array(time, np.int64), wire)
    result = node.record(batch)[0] if notes else node.forward(batch)
    verdict, reason = result.verdict.tolist(), result.reason.tolist()
    left = outputs_of(node, result)
    sources = {source for *_, source in left}
    for i, (v, r) in enumerate(zip(verdict, reason, strict=True)):
        kf.Reason(r)
        assert (kf.Verdict(v) is kf.Verdict.DROP) == (r >= 64), (v, r)
        assert v not in (kf.Verdict.BRIDGED, kf.Verdict.FLOODED, kf.Verdict.ROUTED) or i in sources
    assert sources <= {-1, *range(len(rows))}
    return verdict, reason, left


def _transport(choices: Choices) -> tuple[int, bytes]:
    proto = choices.one(PROTOCOLS)
    sport, dport, data = choices.one(PORTS), choices.one(PORTS), bytes(choices.one(SIZES))
    if proto == made.TCP:
        return proto, made.tcp(sport, dport, choices.number(), choices.number(), choices.number(), data)
    if proto in (made.UDP, 136):
        return proto, made.udp(sport, dport, data)
    if proto == made.ICMP:
        return proto, made.icmp(choices.number() % 20, choices.number() % 16, sport, dport, data)
    if proto == 2:
        return proto, struct.pack("!BBH", choices.number(), choices.number(), 0) + choices.take(12)
    return proto, struct.pack("!HHI", sport, dport, 0) + choices.take(choices.number() % 40)


def _fresh(history: History, choices: Choices, pieces: int = 0) -> None:
    port = choices.number() % (PODS + 2)
    pod = history.by_port.get(port)
    src_mac = (pod.mac if pod else GATEWAY) or GATEWAY
    dst = choices.one(history.hosts)
    own = NODE_MAC if pod is None else (pod.host_mac or "")
    kind = choices.number() % 16
    bridged = "0a:58:0a:f4:01:01" if pod and isinstance(history.node.config, kf.Kubenet) else own
    neighbour = next((other.mac for other in history.pods if other.ip == dst), None)
    dst_mac = (neighbour or bridged) if kind < 4 else MACS[kind - 11] if kind > 10 else bridged
    odd = choices.number()
    if history.dual and odd & 1:
        own6 = (pod.ip6 if pod else HOSTS6[1]) or ""
        history.put(port, fresh6(choices, own6, history.hosts6, src_mac, dst_mac))
        return
    src = history.hosts[odd % len(history.hosts)] if odd & 0x80 else (pod.ip if pod else HOSTS[1]) or ""
    proto, body = _transport(choices)
    bits = choices.number()
    l3 = made.ipv4(
        src, dst, proto, body, ttl=(64, 64, 64, 2, 1, 0, 255, 64)[bits & 7], ident=bits >> 3 & 3,
        flags=0x4000 if bits & 32 and not pieces else 0, options=OPTIONS[choices.number() % 8 if bits & 64 else 0],
    )  # fmt: skip
    tags = (bits >> 3,) if bits & 0x80 and odd & 1 else ()
    whole = with_checksums(made.eth(dst_mac, src_mac, l3, tags=tags))
    if not pieces:
        history.put(port, whole)
        return
    at = 14 + 4 * len(tags)
    cut = (8, 16, 24, 512, 1480)[pieces % 5]
    parts = made.fragments(whole[at : at + 20] + body, cut)[:8] if l3[0] == 0x45 else [whole[at:]]
    for number in range(len(parts)):
        part = parts[number * (1 + pieces // 5 % 3) % len(parts)]
        history.put(port, with_checksums(whole[:at] + part))


def _answer(history: History, choices: Choices) -> None:
    """A frame that goes back to where one came from: an answer, or an ICMP error about it."""
    history.flush()
    if not history.seen:
        return
    port, frame = history.seen[-1 - choices.number() % len(history.seen)]
    how = choices.number()
    if frame[12:14] == b"\x08\x06" and len(frame) >= 42:
        mac, ip = bytes.fromhex("0a0000000000") if how & 1 else frame[:6], frame[38:42]
        pod = history.by_port.get(port)
        mac = made.mac((pod.mac if pod else GATEWAY) or GATEWAY) if not how & 1 else mac
        history.put(port, frame[6:12] + mac + frame[12:20] + b"\0\2" + mac + ip + frame[22:32])
        return
    if frame[12:14] == b"\x86\xdd" and len(frame) >= 54:
        history.put(port, answer6(choices, frame))
        return
    if frame[12:14] != b"\x08\x00" or len(frame) < 42:
        return
    at, back = 14 + (frame[14] & 15) * 4, frame[6:12] + frame[:6] + frame[12:14]
    if how & 0x80:
        body = (
            struct.pack("!BBHI", (3, 11, 12, 5, 4, 3, 3, 3)[how & 7], how >> 3 & 15, 0, choices.number(2))
            + frame[14 : at + choices.number()]
        )
        head = made.ipv4("198.51.100.1", "0.0.0.0", made.ICMP, body)
        l3 = head[:12] + (frame[30:34] if how & 8 else head[12:16]) + frame[26:30] + head[20:]
    else:
        l3 = (
            frame[14:26]
            + frame[30:34]
            + frame[26:30]
            + frame[34:at]
            + frame[at + 2 : at + 4]
            + frame[at : at + 2]
        )
        if frame[23] == made.TCP and len(frame) >= at + 14:
            numbers = frame[at + 8 : at + 12] + frame[at + 4 : at + 8] + frame[at + 12 : at + 13]
            l3 += numbers + bytes([choices.number()]) + frame[at + 14 :]
        elif frame[23] == made.ICMP:
            l3 = l3[:-4] + bytes([{8: 0, 13: 14, 17: 18}.get(frame[at], frame[at])]) + frame[at + 1 :]
        else:
            l3 += frame[at + 4 :]
    history.put(port, with_checksums(back + l3))


def _again(history: History, choices: Choices) -> None:
    """A frame that is waiting or has come out, with octets changed; its checksums made right, or not."""
    pool = [(port, frame) for port, frame, *_ in history.waiting] or history.seen
    if not pool:
        return
    port, frame = pool[-1 - choices.number() % len(pool)]
    changed = bytearray(frame)
    how = choices.number()
    for _ in range(how & 3):
        at = choices.number()
        if at < len(changed):
            changed[at] = choices.number()
    if how & 4:
        del changed[choices.number(2) :]
    if how & 8:
        changed += choices.take(choices.number() % 16)
    lost = choices.number() if how & 16 else 0
    frame = with_checksums(bytes(changed)) if how & 32 else bytes(changed)
    history.put(choices.number() % (PODS + 3) if how & 64 else port, frame, lost)


def _arp(history: History, choices: Choices) -> None:
    port, op = choices.number() % (PODS + 2), choices.number()
    pod = history.by_port.get(port)
    mac, ip = (
        ((pod.mac, pod.ip) if pod else (GATEWAY, HOSTS[1]))
        if not op & 4
        else (MACS[3], choices.one(history.hosts))
    )
    target = choices.one(history.hosts)
    dst = MACS[op >> 3 & 3 if op & 32 else 0] if not op & 64 else NODE_MAC
    history.put(port, made.arp(op & 3, mac or GATEWAY, ip or "", MACS[4], target, dst))


def step(history: History, choices: Choices) -> None:
    """Whatever the next byte chooses."""
    what = choices.number() & 31
    if what < 8:
        _fresh(history, choices)
    elif what < 16:
        _answer(history, choices)
    elif what < 20:
        _again(history, choices)
    elif what < 22:
        _fresh(history, choices, 1 + choices.number() % 15)
    elif what == 22:
        _arp(history, choices)
    elif what == 23:
        ethertype = choices.one(ETHERTYPES)
        frame = made.mac(choices.one((NODE_MAC, "0a:58:0a:f4:01:01", *MACS))) + made.mac(
            choices.one((GATEWAY, *MACS))
        )
        port = choices.number() % (PODS + 3)
        history.put(port, frame + struct.pack("!H", ethertype) + choices.take(choices.number()))
    elif what == 24:
        history.put(choices.number() % (PODS + 3), choices.take(choices.number()))
    elif what < 28:
        history.now += choices.one(GAPS)
        if what == 25:
            history.flush()
            history.advance()
    elif what == 28:
        history.flush()
    elif what == 29:
        history.control("services", choices.number())
    elif what == 30:
        number = choices.number()
        history.control("attach" if number & 8 else "detach", number % PODS)
    else:
        number = choices.number()
        history.control("delete" if number & 1 else "flush", (6, 17, 1, 132)[number >> 1 & 3])


def run(data: bytes) -> None:
    choices = Choices(data)
    shape = choices.number(), choices.number(), choices.number()
    which, how = choices.number(), choices.number()
    history = History(build(*shape, workers=2 if how & 4 else 1), shape)
    history.control("services", which)
    compare = how & 3 == 0
    while choices:
        step(history, choices)
    history.flush()
    history.account()
    if not compare:
        return
    other = build(*shape)
    for what, argument, result in history.steps:
        if what == "forward":
            rows = argument
            verdicts, reasons, left = [], [], []
            for number, row in enumerate(rows):
                one = forwarded(other, [row])
                verdicts += one[0]
                reasons += one[1]
                left += [(*output[:4], number if output[4] == 0 else -1) for output in one[2]]
            assert (verdicts, reasons, left) == result
        elif what == "advance":
            assert outputs_of(other, other.advance(argument)) == result
        else:
            told(other, what, argument)
    assert dict(other.counters) == dict(history.node.counters)
    records = [node.connections.to_records(node.now).tolist() for node in (history.node, other)]
    assert records[0] == records[1]
    table = pickle.loads(pickle.dumps(other.connections, protocol=5))
    assert table.to_records(other.now).tolist() == records[0]
    if other.now is not None:
        table.to_text(other.now)


EXAMPLES = [
    bytes([shape, six, 0, services_, six and 4]) + steps
    for shape, six in ((0, 0), (1, 0), (2, 0), (16, 0), (0, 12), (2, 12))
    for services_ in (0, 63)
    for steps in (
        b"",
        bytes([0, 2, 9, 5, 0, 0, 6, 3, 4, 2, 1, 1, 0, 28, 8, 0, 18, 8, 0, 16]),
        bytes([0, 2, 12, 5, 0, 2, 6, 3, 4, 0, 28, 8, 0, 0, 25, 8, 8, 0, 0x80, 1, 20]),
        bytes([0, 0, 0, 5, 0, 4, 6, 3, 4, 8, 0, 0, 28, 8, 0, 1, 30, 1, 31, 0]),
        bytes([20, 4, 3, 9, 5, 0, 2, 6, 3, 8, 0, 28, 22, 2, 1, 1, 25, 8, 16, 0, 37, 14, 5, 9]),
        bytes([24, 3, 40, *range(60), 16, 0, 8, 3, 1, 2, 3]),
    )
]
