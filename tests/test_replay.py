"""Replaying a capture: who plays whom, where answers go, and that nothing is lost on the way."""

import runpy
import socket
import struct
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kubenet_fastpath as kf
from kubenet_fastpath.casting import cast_node
from kubenet_fastpath.census import Census, find_pods
from kubenet_fastpath.readdress import redirect
from kubenet_fastpath.replay import replay
from kubenet_fastpath.summary import PATHS

DATA = Path(kf.__file__).with_name("data")
SAMPLE = DATA / "sample.pcap"
MAKE = runpy.run_path(str(DATA / "make_sample.py"))
POD, PEER, SERVER, OTHER = "10.1.2.7", "10.1.2.9", "203.0.113.10", "198.51.100.20"
NODE = "10.240.0.4"
TCP, UDP, ICMP = 6, 17, 1


class Capture(MAKE["Capture"]):
    """The sample's builder, with a file of its own."""

    def file(self, folder):
        path = folder / "in.pcap"
        self.save(path)
        return path


@pytest.fixture
def capture():
    return Capture()


def run(capture, tmp_path, **options):
    """Replay; returns the summary and the outputs by port."""
    out = tmp_path / "out"
    summary = replay(capture.file(tmp_path), out, **options)
    assert sum(t.packets for t in summary.paths.values()) == summary.packets.packets == len(capture.frames)
    return summary, {path.stem: kf.read_pcap(path) for path in out.iterdir()}


def told(summary):
    """The paths that packets took."""
    return {path: traffic.packets for path, traffic in summary.paths.items() if traffic.packets}


def endpoints(batch):
    h = batch.headers()
    return [
        (socket.inet_ntoa(struct.pack(">I", row["src"])), int(row["sport"]),
         socket.inet_ntoa(struct.pack(">I", row["dst"])), int(row["dport"]))
        for row in h
    ]  # fmt: skip


def sound(batch):
    h = batch.headers()
    return bool((h["ip_checksum_ok"] != 0).all() and (h["l4_checksum_ok"] != 0).all())


# --- the sample ---


def test_the_sample_is_what_its_script_makes(tmp_path):
    MAKE["make"]().save(tmp_path / "again.pcap")
    assert (tmp_path / "again.pcap").read_bytes() == SAMPLE.read_bytes()
    assert SAMPLE.stat().st_size < 200_000


@pytest.fixture(scope="module")
def replayed(tmp_path_factory):
    out = tmp_path_factory.mktemp("sample")
    return replay(SAMPLE, out), {path.stem: kf.read_pcap(path) for path in out.iterdir()}


def test_every_packet_of_the_sample_has_one_path(replayed):
    summary, _ = replayed
    assert summary.pod_cidr == "10.244.1.0/24"
    assert len(summary.pods) == 6
    assert (
        sum(t.packets for t in summary.paths.values()) == summary.packets.packets == len(kf.read_pcap(SAMPLE))
    )
    assert sum(t.bytes for t in summary.paths.values()) == summary.packets.bytes
    assert min(summary.paths[path].packets for path in PATHS) > 0
    assert {name: t.packets for name, t in summary.drops.items()} == {"IP_CSUM": 1, "CT_INVALID": 1, "TTL": 1}


def test_outputs_of_the_sample(replayed):
    summary, out = replayed
    assert set(out) == {"eth0", *summary.pods}
    assert {name: len(batch) for name, batch in out.items()} == {
        n: t.packets for n, t in summary.outputs.items()
    }
    assert all(sound(batch) for batch in out.values())


def test_answers_reach_the_pods_as_the_capture_has_them(replayed):
    """What comes back through NAT is, but for the link layer and a TTL less, what the pod got."""
    _, out = replayed

    def contents(batches):
        seen = Counter()
        for batch in batches:
            h = batch.headers()
            outside = (h["ip_version"] == 4) & (h["src"] >> 16 != 0x0AF4) & (h["dst"] >> 8 == 0x0AF401)
            for frame, row in zip(batch[outside], h[outside], strict=True):
                frame = bytes(frame)
                seen[frame[14:22] + frame[23:24] + frame[26 : 14 + row["ip_len"]]] += 1
        return seen

    sent = contents([kf.read_pcap(SAMPLE)])
    got = contents([out[name] for name in out if name != "eth0"])
    invalid = 1  # the reset that belongs to no connection
    assert got.total() == sent.total() - invalid
    assert not got - sent


def test_one_source_port_to_one_server_becomes_two(replayed):
    _, out = replayed
    ends = {e[:2] for e in endpoints(out["eth0"]) if e[2:] == (SERVER, 443)}
    assert (NODE, 40000) in ends
    assert len({port for ip, port in ends if ip == NODE}) == 6  # two of them wanted 40000, four more came
    assert {ip for ip, _ in ends} == {NODE}


@pytest.mark.parametrize("batch_packets", [1, 2, 7, 100])
def test_the_batch_size_changes_nothing(replayed, tmp_path, batch_packets):
    whole, out = replayed
    summary = replay(SAMPLE, tmp_path / "out", batch_packets=batch_packets)
    assert asdict(summary) | {"forward_ns": 0} == asdict(whole) | {"forward_ns": 0}
    assert all(kf.read_pcap(tmp_path / "out" / f"{name}.pcap") == batch for name, batch in out.items())


# --- the cast ---


def census_of(*senders, mac=None):
    """A census of UDP packets to nowhere near, from these addresses in turn."""
    c = Capture()
    for n, src in enumerate(senders):
        c.udp(n * 0.001, src, 1000, "192.0.2.1", 9, b"")
    census = Census()
    census.add(kf.PacketBatch.from_frames([frame for _, frame in c.frames]).headers())
    return census


@pytest.mark.parametrize(
    ("senders", "prefix"),
    [
        ([], "10.244.1.0/24"),
        (["10.1.2.3"], "10.1.2.0/24"),
        (["10.1.2.3", "10.1.9.3", "10.1.9.4", "8.8.8.8", "8.8.8.9", "8.8.8.10"], "10.1.9.0/24"),
        (["10.1.2.3", "192.168.7.7", "192.168.7.7"], "192.168.7.0/24"),  # of equals, the busier one
        (["10.1.2.3", "10.1.3.4", "10.2.0.1"], "10.1.2.0/23"),
        (["10.1.2.3", "10.1.130.4"], "10.1.0.0/16"),
        (["8.8.8.8", "9.9.9.9", "9.9.9.10"], "9.9.9.0/24"),
        (["127.0.0.1"], "127.0.0.0/24"),
        (["0.0.0.0", "224.0.0.1"], "10.244.1.0/24"),
    ],
)
def test_the_prefix_with_most_speakers(senders, prefix):
    assert find_pods(census_of(*senders))[0] == prefix


def test_a_census_does_not_depend_on_batches():
    c = MAKE["make"]()
    whole, parts = Census(), Census()
    batch = kf.PacketBatch.from_frames([frame for _, frame in c.frames])
    whole.add(batch.headers())
    for start in range(0, len(batch), 13):
        parts.add(batch[start : start + 13].headers())
    assert cast_node(whole) == cast_node(parts)


def test_listeners_are_pods_and_the_first_address_is_the_bridge(capture, tmp_path):
    capture.udp(0, POD, 5000, PEER, 514, b"log")
    capture.echo(1, POD, "10.1.2.1", 8, 1, 1)
    summary, out = run(capture, tmp_path)
    assert summary.pods == (POD, PEER)
    assert told(summary) == {"bridged": 1, "local": 1}
    assert len(out[PEER]) == 1
    assert summary.bridge_ip == "10.1.2.1"


def test_a_first_address_that_speaks_is_a_pod(capture, tmp_path):
    capture.udp(0, "10.1.2.1", 53, POD, 5000, b"x")
    capture.udp(1, POD, 5000, "10.1.2.2", 53, b"x")
    summary, _ = run(capture, tmp_path)
    assert summary.pods == ("10.1.2.1", "10.1.2.2", POD)
    assert summary.bridge_ip == "10.1.2.3"
    assert told(summary) == {"bridged": 2}


def test_too_many_hosts_are_refused():
    hosts = [f"10.{n // 200}.{n % 200}.9" for n in range(1024)]
    with pytest.raises(
        kf.ConfigError, match=r"1024 hosts are in 10\.0\.0\.0/8 and a bridge has room for 1023 pods"
    ):
        cast_node(census_of(*hosts), "10.0.0.0/8")
    assert len(cast_node(census_of(*hosts[1:]), "10.0.0.0/8").pods) == 1023


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pod_cidr": "10.1.2.0/31"}, "no room"),
        ({"pod_cidr": "10.1.2.3/24"}, "10.1.2.3/24"),
        ({"pod_cidr": "pods"}, "pods"),
        ({"cluster_cidr": "10.9.0.0/16"}, "not inside cluster_cidr"),
        ({"node_ip": "10.1.2.4"}, "inside cluster_cidr"),
        ({"node_ip": "10.1.2.4/99"}, "10.1.2.4/99"),
    ],
)
def test_a_cast_that_cannot_be(options, message):
    with pytest.raises((kf.ConfigError, kf.AddressError), match=message):
        cast_node(census_of(POD), **options)


def test_the_node_keeps_out_of_the_way():
    assert cast_node(census_of(POD, "10.240.9.9")).config.node_address == "10.224.0.4"


def test_hosts_of_the_nodes_subnet_need_no_arp(capture, tmp_path):
    capture.udp(0, POD, 1000, "10.240.0.77", 53, b"x")
    summary, out = run(capture, tmp_path, node_ip="10.240.0.4/16")
    assert told(summary) == {"routed": 1}
    assert endpoints(out["eth0"]) == [(POD, 1000, "10.240.0.77", 53)]


# --- the link layer ---


def test_strangers_among_themselves_do_not_concern_the_node(capture, tmp_path):
    capture.udp(0, SERVER, 1, OTHER, 2, b"")
    capture.udp(1, POD, 1, OTHER, 2, b"")
    summary, out = run(capture, tmp_path)
    assert told(summary) == {"masqueraded": 1, "dropped": 1}
    assert list(summary.drops) == ["OTHERHOST"]
    assert len(out["eth0"]) == 1


def test_arp_speaks_of_the_nodes_macs(capture, tmp_path):
    capture.arp(0, 1, POD, PEER)
    capture.arp(1, 2, PEER, POD)
    capture.frames = [
        (at, frame.replace(b"\x0a\x58\x0a\xf4\x01\x01", b"\x02\x00\x00\x00\x00\x99"))
        for at, frame in capture.frames
    ]
    summary, out = run(capture, tmp_path)
    assert told(summary) == {"flooded": 1, "bridged": 1}
    answer = out[POD].headers()[0]
    assert (answer["eth_src"], answer["arp_sha"]) == (0x0A580A010209, 0x0A580A010209)
    assert (answer["eth_dst"], answer["arp_tha"]) == (0x0A580A010207, 0x0A580A010207)


def test_other_protocols_are_their_macs(capture, tmp_path):
    """A MAC that speaks for one pod is that pod's; one that speaks for the outside is the way out."""
    here, there, router = (bytes.fromhex(f"02000000000{n}") for n in (1, 2, 3))
    for at, (src, dst, smac, dmac) in enumerate(
        [(POD, PEER, here, there), (PEER, POD, there, here), (SERVER, POD, router, here)]
    ):
        capture.udp(at, src, 1, dst, 2, b"")
        capture.frames[-1] = at, dmac + smac + capture.frames[-1][1][12:]
    for n, (smac, dmac) in enumerate(
        [(here, there), (here, b"\x33\x33\0\0\0\1"), (router, here), (here, router)]
    ):
        capture.add(5 + n, dmac + smac + b"\x86\xdd\x60\0\0\0\0\x08\x3b\1" + bytes(40))  # no next header
    summary, out = run(capture, tmp_path)
    assert told(summary) == {"bridged": 3, "flooded": 1, "routed": 1, "dropped": 2}
    assert {n: t.packets for n, t in summary.drops.items()} == {"UNHANDLED_PROTO": 2}
    assert out[PEER].headers()["eth_dst"].tolist() == [0x0A580A010209, 0x0A580A010209, 0x333300000001]


def test_checksums_left_to_the_network_card(capture, tmp_path):
    capture.udp(0, POD, 1000, SERVER, 53, b"abc")
    capture.tcp(1, POD, 1000, SERVER, 80, 2, 7)
    capture.udp(2, POD, 1001, SERVER, 53, b"abcd")
    for n, (at, frame) in enumerate(capture.frames):
        frame = bytearray(frame)
        field, proto = (40, UDP) if frame[23] == UDP else (50, TCP)
        pseudo = MAKE["pseudo"](POD, SERVER, proto, frame[34:])
        partial = MAKE["checksum"](pseudo) ^ 0xFFFF
        struct.pack_into(">H", frame, field, partial if n < 2 else partial ^ 1)  # the last one is just wrong
        struct.pack_into(">H", frame, 24, 0)
        capture.frames[n] = at, bytes(frame)
    summary, out = run(capture, tmp_path)
    assert told(summary) == {"masqueraded": 2, "dropped": 1}
    assert sound(out["eth0"])
    assert any("checksums of 3 packets" in note for note in summary.notes)


def test_packets_above_segmentation_offload_pass(capture, tmp_path):
    capture.udp(0, POD, 1000, SERVER, 53, bytes(9000))
    summary, _ = run(capture, tmp_path)
    assert told(summary) == {"masqueraded": 1}


# --- answers ---


def test_a_flow_from_outside_is_answered_with_the_pods_address(capture, tmp_path):
    capture.udp(0, SERVER, 53, POD, 5000, b"first")
    capture.udp(1, POD, 5000, SERVER, 53, b"second")
    capture.udp(2, SERVER, 53, POD, 5000, b"third")
    summary, out = run(capture, tmp_path)
    assert told(summary) == {"routed": 3}
    assert endpoints(out["eth0"]) == [(POD, 5000, SERVER, 53)]
    assert summary.redirected == 0


def test_a_flow_that_timed_out_can_turn(capture, tmp_path):
    """The outside began; after a long silence the pod did, and is masqueraded."""
    capture.udp(0, SERVER, 53, POD, 5000, b"")
    capture.udp(1, POD, 5000, SERVER, 53, b"")
    capture.udp(500, POD, 5000, SERVER, 53, b"")
    capture.udp(501, SERVER, 53, POD, 5000, b"")
    summary, out = run(capture, tmp_path)
    assert told(summary) == {"routed": 2, "masqueraded": 1, "nat_reply": 1}
    assert endpoints(out["eth0"]) == [(POD, 5000, SERVER, 53), (NODE, 5000, SERVER, 53)]


def test_a_question_that_never_left_is_not_answered_to_the_node(capture, tmp_path):
    capture.udp(0, POD, 5000, SERVER, 53, b"", ttl=1)
    capture.udp(1, SERVER, 53, POD, 5000, b"")
    summary, _ = run(capture, tmp_path)
    assert told(summary) == {"routed": 1, "dropped": 1}


def test_pings_that_share_an_id(capture, tmp_path):
    for at, pod in enumerate((POD, PEER)):
        capture.echo(at, pod, SERVER, 8, 7, 1)
    for at, pod in enumerate((PEER, POD)):
        capture.echo(5 + at, SERVER, pod, 0, 7, 1)
    capture.echo(9, SERVER, POD, 8, 7, 2)  # now the outside asks, with the same id
    capture.echo(10, POD, SERVER, 0, 7, 2)
    summary, out = run(capture, tmp_path)
    assert told(summary) == {"masqueraded": 2, "nat_reply": 2, "routed": 2}
    assert summary.nat_ports == {"icmp": 2}
    assert out[POD].headers()["icmp_id"].tolist() == out[PEER].headers()["icmp_id"].tolist() + [7] == [7, 7]


def test_fragments_follow_their_first_one(capture, tmp_path):
    capture.udp(0, POD, 5000, SERVER, 53, b"")
    datagram = MAKE["udp"](SERVER, 53, POD, 5000, bytes(range(256)) * 8)
    for at, piece, field in ((2, datagram[1480:], 185), (1, datagram[:1480], 0x2000)):
        capture.ip(at, SERVER, POD, UDP, piece, ident=1, fragment=field)
    summary, out = run(capture, tmp_path)
    assert told(summary) == {"masqueraded": 1, "nat_reply": 1, "held": 1}
    assert len(out[POD]) == 2


def test_an_error_about_a_masqueraded_packet_finds_its_pod(capture, tmp_path):
    for at, pod in enumerate((POD, PEER)):
        probe = capture.udp(at, pod, 5000, SERVER, 53, b"hello")
    capture.icmp(2, OTHER, PEER, struct.pack(">BBHI", 3, 1, 0, 0) + probe)
    summary, out = run(capture, tmp_path)
    assert told(summary) == {"masqueraded": 2, "nat_reply": 1}
    assert bytes(out[PEER][0])[14 + 20 + 8 : 14 + 20 + 8 + 8] == probe[:8]
    assert bytes(out[PEER][0])[14 + 20 + 8 + 12 :] == probe[12:]
    assert sound(out[PEER])


# --- anything ---

ends = st.sampled_from(
    [POD, PEER, "10.1.2.1", "10.1.2.255", SERVER, OTHER, "10.1.9.9", "0.0.0.0", "224.0.0.5"]
)
ports = st.sampled_from([53, 80, 5000])


@st.composite
def frames(draw):
    """A frame of a capture, whole or spoilt."""
    c, src, dst = Capture(), draw(ends), draw(ends)
    kind = draw(st.sampled_from(["udp", "tcp", "echo", "error", "arp", "bytes"]))
    if kind == "udp":
        c.udp(
            0,
            src,
            draw(ports),
            dst,
            draw(ports),
            draw(st.binary(max_size=9)),
            ttl=draw(st.sampled_from([1, 64])),
        )
    elif kind == "tcp":
        c.tcp(0, src, draw(ports), dst, draw(ports), draw(st.integers(0, 63)), 1, 1)
    elif kind == "echo":
        c.echo(0, src, dst, draw(st.sampled_from([0, 8])), 7, 1)
    elif kind == "error":
        quoted = c.udp(0, dst, draw(ports), src, draw(ports), b"")
        c.icmp(0, draw(ends), dst, struct.pack(">BBHI", 3, 1, 0, 0) + quoted[: draw(st.integers(0, 28))])
    elif kind == "arp":
        c.arp(0, draw(st.integers(1, 2)), src, dst)
    else:
        return draw(st.binary(max_size=60))
    frame = bytearray(c.frames[-1][1])
    if draw(st.integers(0, 3)) == 0:
        frame[draw(st.integers(0, len(frame) - 1))] ^= draw(st.integers(1, 255))
    return bytes(frame[: draw(st.integers(0, len(frame)))]) if draw(st.integers(0, 7)) == 0 else bytes(frame)


@given(st.lists(st.tuples(frames(), st.sampled_from([0, 1, 40])), max_size=25), st.integers(1, 5))
def test_nothing_is_lost_whatever_comes(tmp_path_factory, sent, batch_packets):
    """Every packet has one path, in batches of any size; a checksum that was right is right when it leaves."""
    folder, capture, at = tmp_path_factory.mktemp("any"), Capture(), 0
    for frame, gap in sent:
        at += gap
        capture.add(at, frame)
    before = [kf.PacketBatch.from_frames([frame]) for frame, _ in sent]
    summary, out = run(capture, folder)
    again = replay(folder / "in.pcap", folder / "again", batch_packets=batch_packets)
    assert asdict(again) | {"forward_ns": 0} == asdict(summary) | {"forward_ns": 0}
    assert all(kf.read_pcap(folder / "again" / f"{name}.pcap") == batch for name, batch in out.items())
    if all(sound(batch) for batch in before):
        assert all(sound(batch) for batch in out.values())


# --- readdressing ---


@given(
    proto=st.sampled_from([TCP, UDP, ICMP]),
    payload=st.binary(max_size=40),
    address=st.integers(0, 2**32 - 1),
    port=st.integers(0, 2**16 - 1),
    cut=st.integers(0, 60),
    quoted=st.booleans(),
)
def test_redirect_keeps_checksums_right(proto, payload, address, port, cut, quoted):
    c = Capture()
    if proto == TCP:
        packet = c.tcp(0, SERVER, 80, POD, 5000, 16, 1, 1, payload)
    elif proto == UDP:
        packet = c.udp(0, SERVER, 80, POD, 5000, payload)
    else:
        c.echo(0, SERVER, POD, 0, 77, 1)
        packet = c.frames[-1][1][14:]
    if quoted:
        packet = c.udp(0, POD, 5000, SERVER, 80, payload)[: 60 - cut if cut < 32 else None]
        c.icmp(0, OTHER, POD, struct.pack(">BBHI", 11, 0, 0, 0) + packet)
    frame = np.frombuffer(bytearray(c.frames[-1][1]), np.uint8)
    redirect(
        frame,
        np.array([14]),
        np.array([len(frame) - 14]),
        np.array([address], np.uint32),
        np.array([port], np.uint16),
    )
    h = kf.PacketBatch.from_frames([frame.tobytes()]).headers()[0]
    assert h["ip_checksum_ok"] == 1
    assert h["l4_checksum_ok"] == 1
    assert h["dst"] == address
    assert (h["icmp_id"] if proto == ICMP else h["dport"]) == port or quoted


def test_redirect_refuses_what_is_outside():
    data = np.zeros(40, np.uint8)
    one = np.array([1], np.uint32), np.array([1], np.uint16)
    for l3, size in ((-1, 20), (21, 20), (0, 41), (0, 19)):
        with pytest.raises(ValueError, match="outside the data"):
            redirect(data, np.array([l3]), np.array([size]), *one)
    assert not data.any()


# --- the folder ---


def test_a_folder_with_something_in_it_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(kf.ConfigError, match="not empty"):
        replay(SAMPLE, tmp_path)
    replay(SAMPLE, tmp_path, force=True)
    assert (tmp_path / "mine.txt").read_text() == "keep"
    assert (tmp_path / "eth0.pcap").exists()


def test_the_capture_is_never_overwritten(tmp_path):
    capture = tmp_path / "eth0.pcap"
    capture.write_bytes(SAMPLE.read_bytes())
    with pytest.raises(kf.ConfigError, match="could be overwritten"):
        replay(capture, tmp_path, force=True)
    assert capture.read_bytes() == SAMPLE.read_bytes()


def test_an_empty_capture(tmp_path):
    summary = replay(Capture().file(tmp_path), tmp_path / "out")
    assert summary.packets.packets == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["eth0.pcap"]
