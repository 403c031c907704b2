"""`kubenet-fastpath show`: a node's tables after a replay, in the forms that people know."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .address import ipv4_text, mac_text
from .connection import TcpState
from .explanation import hop_text
from .node import Node
from .node_plan import RouteType
from .replay import replayed

__all__ = ["add_show"]

SAMPLE = Path(__file__).with_name("data") / "sample.pcap"


def _routes(node: Node) -> list[dict[str, Any]]:
    rows = []
    for prefix, index in node.routes.items():
        hop = node.next_hops[index]
        rows.append(
            {
                "dst": "default" if prefix == "0.0.0.0/0" else prefix.removesuffix("/32"),
                "type": hop.type.name.lower(),
                "gateway": ipv4_text(hop.gateway) if hop.gateway else None,
                "dev": hop.dev,
                "prefsrc": ipv4_text(hop.source) if hop.source else None,
                "text": hop_text(hop),
            }
        )
    return rows


def _routes_text(node: Node) -> str:
    """The local and the main table as one, as `ip route show table all` has them."""
    lines = []
    for row in _routes(node):
        kind = row["type"] if row["type"] != RouteType.UNICAST.name.lower() else ""
        words = row["text"].removeprefix(kind).split()
        lines.append(" ".join([*([kind] if kind else []), row["dst"], *words]))
    return "".join(line + "\n" for line in lines)


def _fdb(node: Node) -> list[dict[str, Any]]:
    names = node.devices()
    return [
        {name: (mac_text(row[name]) if name == "mac" else _plain(row[name])) for name in row.dtype.names}
        | {"dev": names.get(int(row["port"]), str(row["port"]))}
        for row in node.fdb.to_records()
    ]


def _conntrack(node: Node) -> list[dict[str, Any]]:
    rows = []
    for row in node.connections.to_records(node.now):
        found = {name: _plain(row[name]) for name in row.dtype.names}
        for name in ("src", "dst", "reply_src", "reply_dst"):
            found[name] = ipv4_text(row[name])
        if row["proto"] == 6:
            found["state"] = TcpState(row["state"]).name
        rows.append(found)
    return rows


def _services(node: Node) -> list[dict[str, Any]]:
    rows = []
    for service in node.services:
        for port in service.ports:
            rows.append(
                {
                    "name": service.name,
                    "cluster_ip": service.cluster_ip,
                    "port": port.port,
                    "protocol": port.protocol,
                    "node_port": port.node_port,
                    "endpoints": [f"{target.ip}:{target.port}" for target in port.targets],
                }
            )
    return rows


def _services_text(node: Node) -> str:
    lines = []
    for row in _services(node):
        outside = f" node port {row['node_port']}" if row["node_port"] else ""
        endpoints = ", ".join(row["endpoints"]) or "none"
        lines.append(
            f"{row['name']} {row['cluster_ip']}:{row['port']}/{row['protocol']}{outside} -> {endpoints}\n"
        )
    return "".join(lines) or "no services: a capture does not tell of any\n"


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


def run_show(args: argparse.Namespace) -> int:
    """Replay, and print one table."""
    node, _ = replayed(
        args.capture or SAMPLE, pod_cidr=args.pod_cidr, cluster_cidr=args.cluster_cidr, node_ip=args.node_ip
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
        help="print a table of the node as it is after a replay",
        description="Replay a capture (see replay) and print one of the node's tables: routes as ip route, fdb as "
        "bridge fdb show, conntrack as conntrack -L, services, counters.",
    )
    parser.add_argument("table", choices=list(TABLES), metavar="TABLE", help=", ".join(TABLES))
    parser.add_argument(
        "capture",
        nargs="?",
        type=Path,
        metavar="IN.pcap",
        help="(default: the one that comes with the package)",
    )
    parser.add_argument("--pod-cidr", metavar="CIDR", help="whose hosts are the pods")
    parser.add_argument("--cluster-cidr", metavar="CIDR", help="pods of all nodes")
    parser.add_argument("--node-ip", metavar="IP[/LEN]", help="address of eth0")
    parser.add_argument("--json", action="store_true", help="print the table as JSON")
    parser.set_defaults(run=run_show)
