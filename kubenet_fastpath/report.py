"""Results as tables: aligned text, or rich's where it is installed and somebody looks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TextIO

from .reason_text import BECAUSE
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

ENOUGH = 10_000  # packets, for a rate to mean something


@dataclass(frozen=True)
class Table:
    """Rows under a title; columns of numbers stand to the right. Without columns' names it has no head, nor a frame."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str | int, ...]]

    def text(self) -> str:
        """The table in plain characters."""
        cells = [self.columns] if any(self.columns) else []
        cells += [tuple(map(_cell, row)) for row in self.rows]
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
            from rich import box
            from rich.console import Console
            from rich.markup import escape
            from rich.table import Table as RichTable
        except ImportError:
            pass
        else:
            console = Console(file=stream, highlight=False)
            for part in parts:
                if isinstance(part, str):
                    console.print(part, markup=False)
                    continue
                head = any(part.columns)
                table = RichTable(
                    title=part.title,
                    title_justify="left",
                    title_style="bold",
                    show_header=head,
                    box=box.HEAVY_HEAD if head else None,
                    padding=(0, 1) if head else (0, 2),
                )
                for k, name in enumerate(part.columns):
                    number = bool(part.rows) and isinstance(part.rows[0][k], int)
                    table.add_column(name, justify="right" if number else "left")
                for row in part.rows:
                    table.add_row(*(escape(_cell(cell)) for cell in row))
                console.print(table, "")
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
