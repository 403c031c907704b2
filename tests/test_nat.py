"""Masquerading on a kubenet node, frame by frame: the bytes of known packets, and which port a flow gets."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kubenet_fastpath as kf

SECOND = 10**9
NODE, POD_A, POD_B = "10.224.0.4", "10.244.0.5", "10.244.0.6"
INTERNET, OTHER = "203.0.113.10", "203.0.113.11"
UDP, TCP, ICMP = 17, 6, 1
SYN, RST, ACK, FIN = 2, 4, 16, 1

# An IPv4 packet of pod A as it was sent, and as it leaves eth0 (computed by hand, all checksums anew).
MASQUERADED = {
    "port kept": (
        "45000020123440004011e1950af40005cb00710a9c400035000c579661626364",
        "45000020123440003f11e2aa0ae00004cb00710a9c400035000c57ab61626364",
    ),
    "UDP checksum 0 stays 0": (
        "45000020123440004011e1950af40005cb00710a9c410035000c000061626364",
        "45000020123440003f11e2aa0ae00004cb00710a9c410035000c000061626364",
    ),
    "UDP checksum that becomes 0 is written FFFF": (
        "4500001e123440004011e1970af40005cb00710a9c420035000affea1c74",
        "4500001e123440003f11e2ac0ae00004cb00710a9c420035000affff1c74",
    ),
    "echo identifier kept, its checksum covers no address": (
        "45000020123440004001e1a50af40005cb00710a0800d6eb4242000170696e67",
        "45000020123440003f01e2ba0ae00004cb00710a0800d6eb4242000170696e67",
    ),
}
TIME_EXCEEDED = (
    "4500003c0077000032015332c63364010ae000040b003c0c0000000045000020123440000111"
    "20ab0ae00004cb00710a9c400035000c57ab61626364",
    "4500003c007700003101541dc63364010af400050b003c210000000045000020123440000111"
    "20960af40005cb00710a9c400035000c579661626364",
)


def checksum(data):
    total = sum(struct.unpack(f">{len(data) // 2 + len(data) % 2}H", data + b"\0" * (len(data) % 2)))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def address(text):
    return bytes(map(int, text.split(".")))


def packet(src, dst, proto, l4):
    """An IPv4 packet; the checksum of `l4`, 0 in there, is filled in."""
    at = {UDP: 6, TCP: 16, ICMP: 2}[proto]
    pseudo = b"" if proto == ICMP else address(src) + address(dst) + struct.pack(">HH", proto, len(l4))
    l4 = l4[:at] + struct.pack(">H", checksum(pseudo + l4)) + l4[at + 2 :]
    header = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(l4), 1, 0x4000, 64, proto, 0)
    header += address(src) + address(dst)
    return header[:10] + struct.pack(">H", checksum(header)) + header[12:] + l4


def udp(src, dst, sport, dport=53):
    return packet(src, dst, UDP, struct.pack(">HHHH", sport, dport, 12, 0) + b"data")


def tcp(src, dst, sport, dport, flags, seq=1000, ack=0):
    return packet(src, dst, TCP, struct.pack(">HHIIBBHHH", sport, dport, seq, ack, 0x50, flags, 8192, 0, 0))


def echo(src, dst, identifier):
    return packet(src, dst, ICMP, struct.pack(">BBHHH", 8, 0, 0, identifier, 1) + b"ping")


class Router:
    """A node with two pods; packets in and out without their Ethernet headers."""

    def __init__(self, **settings):
        self.node = kf.Node(
            kf.Kubenet(
                node_ip=NODE,
                pod_cidr="10.244.0.0/24",
                cluster_cidr="10.244.0.0/16",
                gateway="10.224.0.1",
                **settings,
            )
        )
        self.port = {ip: self.node.attach(kf.Pod(name, ip=ip)) for name, ip in (("a", POD_A), ("b", POD_B))}
        self.now = 0

    def send(self, data, port=None, wait=0):
        """What leaves by eth0, or by the pods' ports for a packet that came in by eth0."""
        self.now += wait
        pod = self.port.get(".".join(map(str, data[12:16])))
        if pod is not None:
            frame = bytes.fromhex("0a580af40001") + b"\x0a\x58" + data[12:16]
        else:
            frame = bytes.fromhex("000d3a000004123456789abc")
        batch = kf.PacketBatch.from_frames([frame + b"\x08\x00" + data], port=pod or 0, time=self.now)
        result = self.node.forward(batch)
        out = ["eth0"] if pod is not None else ["a", "b"]
        frames = [frame for name in out for frame in result.packets(name).frames()]
        return frames[0][14:] if frames else None


def key(data):
    """Source port of UDP and TCP, identifier of an echo."""
    return struct.unpack_from(">H", data, 24 if data[9] == ICMP else 20)[0]


def assert_checksums(data):
    assert checksum(data[:20]) == 0
    pseudo = b"" if data[9] == ICMP else data[12:20] + struct.pack(">HH", data[9], len(data) - 20)
    assert checksum(pseudo + data[20:]) == 0


@pytest.mark.parametrize(("sent", "left"), MASQUERADED.values(), ids=MASQUERADED)
def test_bytes_of_masqueraded_packets(sent, left):
    assert Router().send(bytes.fromhex(sent)).hex() == left


def test_an_icmp_error_is_translated_outside_and_inside():
    router = Router()
    router.send(bytes.fromhex(MASQUERADED["port kept"][0]))
    came, delivered = TIME_EXCEEDED
    assert router.send(bytes.fromhex(came)).hex() == delivered


def test_an_icmp_error_with_a_wrong_checksum_is_not():
    router = Router()
    router.send(bytes.fromhex(MASQUERADED["port kept"][0]))
    came = bytearray.fromhex(TIME_EXCEEDED[0])
    came[22] ^= 1
    assert router.send(bytes(came)) is None


def test_an_answer_finds_its_pod():
    router = Router()
    router.send(udp(POD_A, INTERNET, 40000))
    answer = router.send(udp(INTERNET, NODE, 53, 40000))
    assert answer[12:20] == address(INTERNET) + address(POD_A)
    assert_checksums(answer)


@pytest.mark.parametrize(
    ("sport", "low", "high"),
    [
        (40000, 1024, 65535),
        (1024, 1024, 65535),
        (1023, 600, 1023),
        (512, 600, 1023),
        (511, 1, 511),
        (80, 1, 511),
    ],
)
def test_a_taken_port_is_replaced_by_one_of_its_class(sport, low, high):
    router = Router()
    assert key(router.send(udp(POD_A, INTERNET, sport))) == sport
    other = router.send(udp(POD_B, INTERNET, sport))
    assert low <= key(other) <= high
    assert key(other) != sport
    assert_checksums(other)


def test_a_port_is_taken_for_one_destination_only():
    router = Router()
    for dst, dport in ((INTERNET, 53), (OTHER, 53), (INTERNET, 54)):
        for pod, kept in ((POD_A, True), (POD_B, False)):
            assert (key(router.send(udp(pod, dst, 40000, dport))) == 40000) is kept


def test_a_source_keeps_the_port_that_it_was_given():
    router = Router()
    router.send(udp(POD_A, INTERNET, 40000))
    given_port = key(router.send(udp(POD_B, INTERNET, 40000)))
    assert key(router.send(udp(POD_B, OTHER, 40000))) == given_port


def test_a_taken_echo_identifier_is_replaced():
    router = Router()
    assert key(router.send(echo(POD_A, INTERNET, 0x4242))) == 0x4242
    other = router.send(echo(POD_B, INTERNET, 0x4242))
    assert key(other) != 0x4242
    assert_checksums(other)


def test_random_fully_ignores_the_port():
    router = Router(random_fully=True)
    ports = [key(router.send(udp(POD_A, INTERNET, sport))) for sport in range(40000, 40040)]
    assert len(set(ports)) == 40
    assert min(ports) >= 1024
    assert max(ports) - min(ports) > 10_000


def test_exhausted_ports_drop_new_flows_alone():
    router = Router(to_ports=(40000, 40001))
    ports = {key(router.send(udp(POD_A, INTERNET, sport))) for sport in (1111, 1112)}
    assert ports == {40000, 40001}
    assert router.send(udp(POD_B, INTERNET, 1111)) is None
    assert key(router.send(udp(POD_A, INTERNET, 1111))) in ports
    assert key(router.send(udp(POD_B, OTHER, 1111))) in ports


def test_ports_come_back_when_flows_expire():
    router = Router(to_ports=(40000, 40001))
    for sport in (1111, 1112):
        router.send(udp(POD_A, INTERNET, sport))
    assert router.send(udp(POD_B, INTERNET, 1111), wait=30 * SECOND - 1) is None
    assert router.send(udp(POD_B, INTERNET, 1111), wait=1) is not None


@pytest.mark.parametrize(("seq", "reused"), [(999, False), (2000, True)])
def test_a_syn_takes_the_port_of_a_closed_connection_that_it_is_past(seq, reused):
    router = Router(to_ports=(40000, 40001))
    for sport in (1111, 1112):
        port = key(router.send(tcp(POD_A, INTERNET, sport, 80, SYN)))
        router.send(tcp(INTERNET, NODE, 80, port, SYN | ACK, 5000, 1001))
        router.send(tcp(POD_A, INTERNET, sport, 80, ACK, 1001, 5001))
        router.send(tcp(POD_A, INTERNET, sport, 80, RST | ACK, 1001, 5001))
    assert (router.send(tcp(POD_B, INTERNET, 1111, 80, SYN, seq)) is not None) is reused


def test_a_refused_connection_leaves_no_entry():
    router = Router()
    router.send(tcp(POD_A, INTERNET, 1111, 80, SYN))
    assert router.send(tcp(INTERNET, NODE, 80, 1111, RST | ACK, 0, 1001)) is not None
    assert len(router.node.connections) == 0


flows = st.lists(
    st.tuples(
        st.sampled_from([POD_A, POD_B]),
        st.sampled_from([INTERNET, OTHER]),
        st.sampled_from([80, 511, 512, 1023, 1024, 40000, 40001, 65535]),
        st.sampled_from([53, 54]),
    ),
    max_size=40,
)


@given(flows, st.integers(0, 3))
def test_every_flow_has_a_mapping_of_its_own(flows, seed):
    router = Router(seed=seed)
    mapped = {}
    for flow in flows:
        pod, dst, sport, dport = flow
        sent = router.send(udp(pod, dst, sport, dport))
        assert_checksums(sent)
        assert sent[12:20] == address(NODE) + address(dst)
        assert mapped.setdefault(flow, key(sent)) == key(sent)
    outside = [(dst, dport, port) for (_, dst, _, dport), port in mapped.items()]
    assert len(set(outside)) == len(outside)
    for (pod, dst, sport, dport), port in mapped.items():
        answer = router.send(udp(dst, NODE, dport, port))
        assert answer[16:24] == address(pod) + struct.pack(">HH", dport, sport)
