"""`kubenet-fastpath show`: a node's tables after a replay, in the forms that people know."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .address import ipv4, ipv4_text, mac_text
from .argument_type import interface_address, prefix
from .cluster import Cluster
from .errors import ConfigError
from .listing import connections_named
from .node import Node
from .node_plan import RouteType
from .replay import replayed
from .topology import Addressing
from .topology_file import open_topology
from .traffic_class import traffic_classes
from .workload import carry, mixed_sessions

__all__ = ["add_show"]

START = 10**18  # ns
SAMPLE = Path(__file__).with_name("data") / "sample.pcap"


def _routes(node: Node) -> list[dict[str, Any]]:
    """The main table, then the local one; what is of no table in a kernel (255.255.255.255) is left out."""
    rows = []
    for dst, index in node.routes.items():
        hop = node.next_hops[index]
        if dst == "255.255.255.255/32":
            continue
        local = hop.type in (RouteType.LOCAL, RouteType.BROADCAST)
        dev, source = _addressed(node, dst) if local else (hop.dev, hop.source)
        rows.append(
            {
                "dst": "default" if dst == "0.0.0.0/0" else dst.removesuffix("/32"),
                "type": hop.type.name.lower(),
                "gateway": ipv4_text(hop.gateway) if hop.gateway else None,
                "dev": dev,
                "table": "local" if local else "main",
                "scope": "host"
                if hop.type is RouteType.LOCAL
                else None
                if hop.gateway or not dev
                else "link",
                "prefsrc": ipv4_text(source) if source else None,
            }
        )
    return sorted(rows, key=lambda row: row["table"] == "local")


def _addressed(node: Node, dst: str) -> tuple[str, int]:
    """Interface and address that a local route or a broadcast address is there for."""
    wanted = ipv4(dst.partition("/")[0])
    for interface in node.plan.interfaces:
        for address, mask in interface.addresses:
            if wanted in (address, address & mask, address | ~mask & 0xFFFFFFFF):
                return interface.name, address
    return "lo", 0x7F000001


def _routes_text(node: Node) -> str:
    """As `ip -4 route show table all` prints them."""
    lines = []
    for row in _routes(node):
        words = [] if row["type"] == "unicast" else [row["type"]]
        words.append(row["dst"])
        words += ["via", row["gateway"]] if row["gateway"] else []
        words += ["dev", row["dev"]] if row["dev"] else []
        words += ["table", "local"] if row["table"] == "local" else []
        words += ["proto", "kernel"] if row["prefsrc"] else []
        words += ["scope", row["scope"]] if row["scope"] else []
        words += ["src", row["prefsrc"]] if row["prefsrc"] else []
        lines.append(" ".join(words) + "\n")
    return "".join(lines)


def _fdb(node: Node) -> list[dict[str, Any]]:
    names = node.devices()
    return [
        {name: (mac_text(row[name]) if name == "mac" else _plain(row[name])) for name in row.dtype.names}
        | {"dev": names.get(int(row["port"]), str(row["port"]))}
        for row in node.fdb.to_records()
    ]


def _conntrack(node: Node) -> list[dict[str, Any]]:
    records = (node.connections.to_records(node.now, family=family) for family in (4, 6))
    return [row for rows in records for row in connections_named(rows)]


def _services(node: Node) -> list[dict[str, Any]]:
    rows = []
    for service in node.services:
        for port in service.ports:
            rows.append(
                {
                    "name": service.name,
                    "cluster_ip": service.cluster_ip,
                    "external_ips": list(service.outside),
                    "port": port.port,
                    "protocol": port.protocol,
                    "node_port": port.node_port,
                    "external_traffic_policy": service.external_traffic_policy.value,
                    "endpoints": [f"{target.ip}:{target.port}" for target in port.targets],
                }
            )
    return rows


def _services_text(node: Node) -> str:
    """As `kubectl get services -A` and their endpoints, side by side."""
    rows = [
        (
            *(row["name"].split("/", 1) if "/" in row["name"] else ("default", row["name"])),
            row["cluster_ip"],
            ",".join(row["external_ips"]) or "<none>",
            f"{row['port']}{':' + str(row['node_port']) if row['node_port'] else ''}/{row['protocol'].upper()}",
            ",".join(row["endpoints"]) or "<none>",
        )
        for row in _services(node)
    ]
    if not rows:
        return "no services: a capture does not tell of any; --node NAME shows those of a cluster's node\n"
    table = [("NAMESPACE", "NAME", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "ENDPOINTS"), *rows]
    widths = [max(len(row[k]) for row in table) for k in range(6)]
    return "".join(
        "   ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() + "\n"
        for row in table
    )


def _counters(node: Node) -> dict[str, int]:
    return {name: value for name, value in node.counters.items() if value}


def _counters_text(node: Node) -> str:
    counters = _counters(node)
    width = max(map(len, counters), default=0)
    return "".join(f"{name:<{width}}  {value:>12,}\n" for name, value in counters.items())


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


#: Table -> as text, as data.
TABLES: dict[str, tuple[Callable[[Node], str], Callable[[Node], Any]]] = {
    "routes": (_routes_text, _routes),
    "fdb": (lambda node: node.fdb.show(node.devices()), _fdb),
    "conntrack": (lambda node: node.connections.to_text(node.now or 0), _conntrack),
    "services": (_services_text, _services),
    "counters": (_counters_text, _counters),
}


def _of_cluster(args: argparse.Namespace) -> Node:
    """A node of a cluster, after the mix of connections that compare has for it."""
    topology, _ = open_topology(args.cluster)
    mode = topology.addressing or Addressing.KUBENET
    cluster = Cluster.from_topology(topology, Addressing(args.addressing) if args.addressing else mode)
    name = args.node or next(iter(cluster.nodes))
    if name not in cluster.nodes:
        some = ", ".join(list(cluster.nodes)[:5])
        raise ConfigError(f"--node {name} is none of the cluster's {len(cluster.nodes):,} nodes: {some} ...")
    carry(cluster, mixed_sessions(traffic_classes(topology), len(cluster.nodes)), START)
    return cluster.nodes[name]


def run_show(args: argparse.Namespace) -> int:
    """Replay, and print one table."""
    if args.node is not None or args.cluster or args.addressing:
        for option in ("capture", "pod_cidr", "cluster_cidr", "node_ip"):
            if getattr(args, option) is not None:
                said = option if option == "capture" else f"--{option.replace('_', '-')}"
                raise ConfigError(
                    f"--node, --cluster and --addressing are of a cluster: leave the {said} out"
                )
        node = _of_cluster(args)
    else:
        node, _ = replayed(
            args.capture or SAMPLE,
            pod_cidr=args.pod_cidr,
            cluster_cidr=args.cluster_cidr,
            node_ip=args.node_ip,
        )
    text, data = TABLES[args.table]
    if args.json:
        print(json.dumps(data(node), indent=2))
    else:
        sys.stdout.write(text(node))
    return 0


def add_show(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "show",
        help="print a table of a node as it is after a replay, or of a cluster's node after a mix of traffic",
        description="Replay a capture (see replay), or carry a mix of connections through a cluster (see compare), "
        "and print one of the node's tables: routes as ip route, fdb as bridge fdb show, conntrack as conntrack -L, "
        "services as kubectl get services, counters.",
    )
    parser.add_argument("table", choices=list(TABLES), metavar="TABLE", help=", ".join(TABLES))
    parser.add_argument(
        "capture",
        nargs="?",
        type=Path,
        metavar="IN.pcap",
        help="(default: the one that comes with the package)",
    )
    parser.add_argument(
        "--pod-cidr", type=prefix, metavar="CIDR", help="of a capture: whose hosts are the pods"
    )
    parser.add_argument("--cluster-cidr", type=prefix, metavar="CIDR", help="of a capture: pods of all nodes")
    parser.add_argument(
        "--node-ip", type=interface_address, metavar="IP[/LEN]", help="of a capture: address of eth0"
    )
    parser.add_argument("--node", metavar="NAME", help="a node of the cluster instead of a capture")
    parser.add_argument(
        "--cluster",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="as compare takes them; repeatable (default: the built-in cluster)",
    )
    parser.add_argument(
        "--addressing",
        choices=[mode.value for mode in Addressing],
        help="of the cluster (default: what it has today, or kubenet)",
    )
    parser.add_argument("--json", action="store_true", help="print the table as JSON")
    parser.set_defaults(run=run_show)
