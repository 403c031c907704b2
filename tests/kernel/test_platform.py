"""What AKS and CNS add to the rules for Azure's own addresses, in the running kernel and in our node."""

from __future__ import annotations

import itertools
import time

import pytest
from frames import ACK, SYN, TCP, UDP, fields, ipv4, packet, tcp, udp
from golden_node import GoldenNode

from kernel.agreement import agree, by_port, text
from kernel.namespaces import KernelNode, why_not
from kernel.nodes import recorded
from kernel.world import GATEWAY_MAC

REASON = why_not()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))

DNS, METADATA, ELSEWHERE = "168.63.129.16", "169.254.169.254", "198.51.100.7"
WIRESERVER = "".join(f"-I FORWARD -d {DNS}/32 -p tcp -m tcp --dport {port} -j DROP\n" for port in (80, 32526))


def swift(source: str, to: str) -> str:
    """The chain that CNS writes for pods with addresses of a subnet of their own."""
    whom = ((DNS, "udp", 53), (DNS, "tcp", 53), (METADATA, "tcp", 80))
    rules = [
        f"-A SWIFT-POSTROUTING -m addrtype ! --dst-type LOCAL -s {source} -d {dst}/32 -p {proto} -m {proto} "
        f"--dport {port} -j SNAT --to-source {to}"
        for dst, proto, port in whom
    ]
    return "\n".join([":SWIFT-POSTROUTING - [0:0]", "-A POSTROUTING -j SWIFT-POSTROUTING", *rules, ""])


@pytest.mark.parametrize("mode", ["kubenet", "azcni", "pod subnet"])
def test_azures_own_addresses(mode: str) -> None:
    """Every protocol and port of them, and the answers."""
    node, rules = recorded("kubenet" if mode == "kubenet" else "azcni")
    node = node | {"extra_rules": [WIRESERVER]}
    nat, filtered = rules.split("*filter")
    if mode == "pod subnet":
        source, to = node["eth0"]["ip"], node["eth0"]["ip"].split("/")[0]
        node |= {"pod_subnet": "10.240.0.0/16", "masq": "none"}
        nat = "\n".join(
            line for line in nat.splitlines() if not line.startswith("-A POSTROUTING") or "kube" in line
        )
        nat = nat.replace("COMMIT", swift(source, to) + "COMMIT") + "\n"
    kernel = KernelNode(node, nat + "*filter" + filtered.replace("COMMIT", WIRESERVER + "COMMIT"))
    mine, began, ports = GoldenNode(node), time.monotonic(), dict[int, int]()
    pod = node["pods"][0]
    translated = dropped = 0
    try:
        asked = itertools.product((DNS, METADATA, ELSEWHERE), (TCP, UDP), (53, 80, 443, 32526))
        for sport, (dst, proto, dport) in enumerate(asked, 40000):
            host = node["cbr0"]["mac"] if mode == "kubenet" else pod["host_mac"]
            l4 = tcp(sport, dport, SYN) if proto == TCP else udp(sport, dport)
            ways = [(pod["port"], packet(host, pod["mac"], ipv4(pod["ip"], dst, proto, l4)))]
            while ways:
                port, frame = ways.pop()
                out = kernel.inject(port, frame) or []
                got = mine.inject(port, frame, 1000 * (time.monotonic() - began))
                said = [
                    f"{who} {p}: {text(f)}" for who, them in (("kernel", out), ("ours", got)) for p, f in them
                ]
                assert agree(out, got, frame, ports), "\n".join(
                    [f"{mode} {dst} {proto} {dport}", text(frame), *said]
                )
                if port != "vnet":
                    left = [fields(f) for f in by_port(out).get("vnet", [])]
                    dropped += not left
                    translated += any(f["src"] != pod["ip"] for f in left)
                    for f in left:
                        to, back = str(f["src"]), int(str(f["sport"]))
                        l4 = tcp(dport, back, SYN | ACK, 9, 1) if proto == TCP else udp(dport, back)
                        answer = packet(node["eth0"]["mac"], GATEWAY_MAC, ipv4(dst, to, proto, l4))
                        ways.append(("vnet", answer))
        assert (dropped, translated) == (2, 3 if mode == "pod subnet" else 22)
    finally:
        kernel.close()
