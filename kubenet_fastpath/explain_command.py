"""`kubenet-fastpath explain`: one packet's way, stage by stage."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .argument_type import interface_address, prefix
from .batch import PacketBatch
from .carriage import Carriage
from .cluster import Cluster
from .delivery import FABRIC, Delivery, Outcome, Place, reason_name
from .errors import ConfigError
from .explanation import Explanation, explain, explained
from .node import Node
from .reason_text import reason_text
from .replay import replayed
from .result import Result
from .topology import Addressing
from .topology_file import open_topology
from .traffic import answer, parse_flow, question, read_packet

__all__ = ["add_explain"]

START = 10**18  # ns
SPORT = 40_000
SAMPLE = Path(__file__).with_name("data") / "sample.pcap"


@dataclass(frozen=True, kw_only=True)
class _Leg:
    """A packet's way through a cluster: nodes with what happened there, and how the fabric carried it between."""

    packet: str
    hops: list[tuple[str, list[Explanation] | str]]
    end: str

    def text(self) -> str:
        lines = [self.packet, ""]
        for name, what in self.hops:
            lines.append(f"{name}: {what}\n" if isinstance(what, str) else f"{name}:")
            if not isinstance(what, str):
                lines += [part.text() for part in what]
        return "\n".join([*lines, self.end, ""])

    def plain(self) -> dict[str, Any]:
        return {
            "packet": self.packet,
            "hops": [
                {"fabric": what}
                if isinstance(what, str)
                else {"node": name, "packets": [asdict(p) for p in what]}
                for name, what in self.hops
            ],
            "end": self.end,
        }


def _leg(cluster: Cluster, what: str, frame: bytes, place: Place | str, time: int) -> tuple[_Leg, Delivery]:
    place = cluster.places[place] if isinstance(place, str) else place
    names = {id(node): name for name, node in cluster.nodes.items()}
    nics = {nic.name: number for number, nic in enumerate(cluster.fabric.nics)}
    seen: list[tuple[str, list[Explanation]]] = []
    entering: list[tuple[int | None, int]] = []  # of each frame for the fabric: its NIC, and where it goes
    if place.node is None:
        entering.append((nics.get(place.name), read_packet(frame).dst))

    def forward(node: Node, batch: PacketBatch) -> Result:
        result, found = explained(node, batch)
        name = names[id(node)]
        seen.append((name, found))
        headers = result.packets("eth0").headers()
        entering.extend((nics[name] if h["ip_version"] == 4 else None, int(h["dst"])) for h in headers)
        return result

    delivery = cluster.send(PacketBatch.from_frames([frame], time=time), place, forward=forward)
    hops: list[tuple[str, list[Explanation] | str]] = []
    for step in delivery.steps:
        if step["node"] == FABRIC:
            nic, dst = entering.pop(0) if entering else (None, 0)
            hops.append(("VNet", _carried(cluster, Carriage(step["reason"]), nic, dst)))
        elif seen:
            hops.append(seen.pop(0))
    end = f"{Outcome(delivery.outcome[0]).name.lower()}, {reason_name(int(delivery.reason[0]))}"
    if delivery.place[0] >= 0:
        end += f", at {delivery.places[delivery.place[0]].name}"
    return _Leg(packet=what, hops=hops, end=end), delivery


def _carried(cluster: Cluster, how: Carriage, nic: int | None, dst: int) -> str:
    """What the fabric did, by which route of the NIC, and what that means."""
    route = "" if nic is None else f" {cluster.fabric.route_of(nic, dst)}"
    if how is Carriage.OVERLAY:
        route = f" {cluster.fabric.overlay_of(dst)}"
    return f"{how.name}{route} ({reason_text(how.name)})"


def _in_cluster(args: argparse.Namespace) -> list[_Leg]:
    flow = parse_flow(args.packet)
    topology, _ = open_topology(args.cluster)
    mode = (
        topology.addressing or Addressing.KUBENET if args.addressing is None else Addressing(args.addressing)
    )
    cluster = Cluster.from_topology(topology, mode)
    if flow.src in cluster.nodes:
        raise ConfigError(f"{flow.src} is a node, and no process of a node sends: name a pod or a host")
    first, delivery = _leg(cluster, flow.label, question(flow, cluster, SPORT), flow.src, START)
    legs, row = [first], delivery.arrival(0)
    if args.answer:
        if row is None:
            raise ConfigError(f"nobody received {flow.label!r}, so nobody answers: leave --answer out")
        place = delivery.places[delivery.arrived_at[row]]
        back = answer(delivery.arrived[row], place, cluster)
        legs.append(_leg(cluster, f"the answer of {place.name}", back, place, START + 1_000_000_000)[0])
    return legs


def run_explain(args: argparse.Namespace) -> int:
    """Explain a packet of the built-in cluster, or a frame of a capture."""
    if args.frame is None:
        if args.packet is None:
            raise ConfigError("name a packet such as 'pod web -> 10.0.0.50:443', or a frame with --frame N")
        if args.capture is not None:
            raise ConfigError("--capture goes with --frame N: name the frame")
        if args.pod_cidr is not None or args.node_ip is not None:
            raise ConfigError("--pod-cidr and --node-ip are of a capture: name a frame of it with --frame N")
        legs = _in_cluster(args)
        print(
            json.dumps([leg.plain() for leg in legs], indent=2)
            if args.json
            else "\n".join(x.text() for x in legs)
        )
        return 0
    if args.packet is not None or args.answer:
        raise ConfigError("--frame explains a frame of a capture: leave the packet and --answer out")
    if args.cluster or args.addressing is not None:
        raise ConfigError("--cluster and --addressing are of a packet: leave them out with --frame")
    capture = args.capture or SAMPLE
    node, batch = replayed(capture, args.frame, pod_cidr=args.pod_cidr, node_ip=args.node_ip)
    (found,) = explain(node, batch)
    if args.json:
        print(json.dumps({"capture": str(capture), "frame": args.frame} | asdict(found), indent=2))
    else:
        print(f"frame {args.frame} of {capture.name}\n\n{found.text()}", end="")
    return 0


def add_explain(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "explain",
        help="follow one packet: each stage, the entry that decided, the header, the verdict",
        description="One packet of the built-in cluster (see compare), through every node on its way; or one frame of "
        "a capture, through the node that replay makes, which has seen all frames before it.",
    )
    parser.add_argument(
        "packet", nargs="?", metavar="PACKET", help="'pod web -> 10.0.0.50:443', '... -> db:5432/udp'"
    )
    parser.add_argument(
        "--addressing",
        choices=[mode.value for mode in Addressing],
        help="(default: what the cluster has today, or kubenet)",
    )
    parser.add_argument(
        "--cluster",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="as compare takes them; repeatable",
    )
    parser.add_argument("--answer", action="store_true", help="explain the receiver's answer, too")
    parser.add_argument("--frame", type=int, metavar="N", help="frame N of the capture, from 1")
    parser.add_argument(
        "--capture", type=Path, metavar="IN.pcap", help="(default: the one that comes with the package)"
    )
    parser.add_argument(
        "--pod-cidr", type=prefix, metavar="CIDR", help="of a capture: whose hosts are the pods"
    )
    parser.add_argument(
        "--node-ip", type=interface_address, metavar="IP[/LEN]", help="of a capture: address of eth0"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run_explain)
