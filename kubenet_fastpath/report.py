"""Results as tables: aligned text, or rich's where it is installed and somebody looks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TextIO

from .summary import Summary
from .verdict import Reason

__all__ = ["Table", "labelled", "replay_tables", "show"]

MEANING = {
    "bridged": "from pod to pod on this node",
    "flooded": "to every other pod: broadcast, multicast, or nobody known has the MAC",
    "routed": "routed with its own addresses",
    "masqueraded": "routed, and sent with the node's address",
    "nat_reply": "an answer to that, brought back to its pod",
    "local": "for the node itself",
    "held": "waits for a MAC, or for the other fragments",
    "dropped": "see below",
}

BECAUSE = {
    Reason.PKT_TOO_SMALL: "shorter than an Ethernet header",
    Reason.TRUNCATED: "the capture cut off what the node would have to read",
    Reason.SOURCE_MAC: "the source MAC is a group's, or zero",
    Reason.PAUSE: "an Ethernet pause frame",
    Reason.LINK_LOCAL: "a link-local group MAC, for the bridge alone",
    Reason.SAME_PORT: "its receiver is where it came from",
    Reason.NO_PORT: "nowhere to go on the bridge",
    Reason.OTHERHOST: "not for this node: another's MAC or VLAN",
    Reason.IP_INHDR: "malformed IPv4 header",
    Reason.IP_CSUM: "wrong IPv4 header checksum",
    Reason.UNHANDLED_PROTO: "an EtherType that the node does not speak",
    Reason.CT_INVALID: "conntrack says INVALID: kube-proxy's rule drops it",
    Reason.SOURCE_RANGE: "not from the sources that the load balancer's service lets in",
    Reason.WIRESERVER: "to Azure's WireServer, which is kept from pods",
    Reason.CT_CLASH: "another connection has its addresses and ports",
    Reason.CT_FULL: "the conntrack table is full",
    Reason.NAT_FAILED: "could not be translated",
    Reason.MARTIAN_SOURCE: "a source address that cannot be",
    Reason.MARTIAN_DESTINATION: "a destination address that cannot be",
    Reason.IP_RPFILTER: "no route back to its source",
    Reason.IP_INNOROUTES: "no route",
    Reason.BLACKHOLE: "a blackhole route",
    Reason.PROHIBIT: "a prohibiting route",
    Reason.TTL: "TTL ran out",
    Reason.PKT_TOO_BIG: "larger than the MTU, and must not be cut",
    Reason.DEDUP: "the routed duplicate of a bridged packet",
    Reason.NEIGH_FAILED: "nobody answered ARP for the next hop",
    Reason.NEIGH_QUEUEFULL: "too many waited for the same MAC",
    Reason.ARP_INVALID: "ARP that makes no sense",
    Reason.NO_MULTICAST_ROUTE: "multicast is not routed",
    Reason.DIRECTED_BROADCAST: "a broadcast is not routed",
    Reason.FRAG_REASM: "fragments that do not fit together",
    Reason.FRAG_TIMEOUT: "the other fragments never came",
    Reason.NO_SUCH_PORT: "the port is not attached",
    Reason.UNICAST_IN_L2_MULTICAST: "another host's address in a broadcast frame",
    Reason.MASQUERADE_MOVED: "its masqueraded connection left by another interface before",
    Reason.NO_DEVICE: "the interface is gone",
    Reason.NOMEM: "no memory",
}


ENOUGH = 10_000  # packets, for a rate to mean something


@dataclass(frozen=True)
class Table:
    """Rows under a title; columns of numbers stand to the right."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str | int, ...]]

    def text(self) -> str:
        """The table in plain characters."""
        cells = [self.columns, *[tuple(map(_cell, row)) for row in self.rows]]
        widths = [max(len(row[k]) for row in cells) for k in range(len(self.columns))]
        right = [bool(self.rows) and isinstance(self.rows[0][k], int) for k in range(len(self.columns))]
        lines = [
            "  ".join(
                cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(row, widths, right, strict=True)
            ).rstrip()
            for row in cells
        ]
        return "\n".join([self.title, *("  " + line for line in lines)]) + "\n"


def _cell(value: str | int) -> str:
    return value if isinstance(value, str) else f"{value:,}"


def show(parts: Sequence[Table | str], stream: TextIO) -> None:
    """Print tables and paragraphs: in colours on a terminal if rich is installed, else as text."""
    if stream.isatty():
        try:
            from rich.console import Console
            from rich.table import Table as RichTable
        except ImportError:
            pass
        else:
            console = Console(file=stream, highlight=False)
            for part in parts:
                if isinstance(part, str):
                    console.print(part, markup=False)
                    continue
                table = RichTable(title=part.title, title_justify="left")
                for k, name in enumerate(part.columns):
                    number = bool(part.rows) and isinstance(part.rows[0][k], int)
                    table.add_column(name, justify="right" if number else "left")
                for row in part.rows:
                    table.add_row(*map(_cell, row))
                console.print(table)
            return
    stream.write("\n".join(part if isinstance(part, str) else part.text() for part in parts))


def replay_tables(summary: Summary) -> list[Table | str]:
    """What `kubenet-fastpath replay` prints."""
    total = summary.packets
    parts: list[Table | str] = [_cast_text(summary)]
    rows = [
        (path.replace("_", " "), MEANING[path], traffic.packets, traffic.bytes)
        for path, traffic in summary.paths.items()
        if traffic.packets
    ]
    rows.append(
        (
            "all",
            "",
            sum(t.packets for t in summary.paths.values()),
            sum(t.bytes for t in summary.paths.values()),
        )
    )
    parts.append(
        Table(f"{total.packets:,} packets in, one path each", ("path", "", "packets", "bytes"), rows)
    )
    if summary.drops:
        drops = sorted(summary.drops.items(), key=lambda item: -item[1].packets)
        parts.append(
            Table(
                "dropped because",
                ("reason", "", "packets", "bytes"),
                [(name, BECAUSE.get(Reason[name], ""), t.packets, t.bytes) for name, t in drops],
            )
        )
    parts.append(_cost_text(summary))
    return parts


def labelled(rows: Sequence[tuple[str, str]]) -> str:
    """Lines of a label and a text."""
    return "".join(f"{label:<13} {text}\n" for label, text in rows)


def _cast_text(summary: Summary) -> str:
    pods = summary.pods
    shown = ", ".join(pods if len(pods) <= 8 else (*pods[:7], f"... {pods[-1]}")) or "none"
    return labelled(
        [
            ("capture", f"{summary.capture} ({summary.seconds:,.3f} s)"),
            ("pods", f"{summary.pod_cidr} ({summary.why})"),
            ("", f"{len(pods)}: {shown}"),
            ("node", f"eth0 {summary.node_ip}, cbr0 {summary.bridge_ip}"),
            ("other nodes", f"pods in {summary.cluster_cidr}"),
            *(("note", note) for note in summary.notes),
        ]
    )


def _cost_text(summary: Summary) -> str:
    names = {"icmp": "ICMP ids", "tcp": "TCP", "udp": "UDP"}
    ports = ", ".join(f"{names[proto]} {n:,}" for proto, n in summary.nat_ports.items()) or "none"
    out = sum(traffic.packets for traffic in summary.outputs.values())
    rows = [
        ("connections", f"{summary.connections:,} made, {summary.connections_open:,} open at the end"),
        ("NAT ports", f"{ports}; {summary.redirected:,} answers came to the node's address"),
        ("packets out", f"{out:,} with copies of flooded ones; {summary.generated:,} made by the node"),
    ]
    if summary.packets.packets:
        speed = f"{summary.ns_per_packet:,.0f} ns a packet, {summary.packets_per_s:,.0f} packets/s"
        short = "" if summary.packets.packets >= ENOUGH else "; so few packets show a cold start"
        rows.append(("forwarding", f"{speed} (one core, in memory{short})"))
    return labelled(rows)
