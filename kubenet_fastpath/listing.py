"""Connections as text, the way `conntrack -L` of conntrack-tools prints them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .address import ipv4_text
from .connection import CtStatus, SctpState, TcpState

__all__ = ["connections_text"]

_ICMP, _TCP, _GRE, _SCTP = 1, 6, 47, 132
_NAMES = {_ICMP: "icmp", _TCP: "tcp", 17: "udp", _GRE: "gre", _SCTP: "sctp", 136: "udplite"}
_WITH_PORTS = {_TCP, 17, _SCTP, 136}


def connections_text(records: NDArray[np.void], *, extended: bool = False) -> str:
    """Return one line a connection, as `conntrack -L` prints it; with `extended`, as `-o extended`.

    Parameters
    ----------
    records : (N,) structured ndarray
        From `ConnectionTable.to_records(now)`.
    extended : bool
        Begin each line with the family.
    """
    return "".join(_line(record, extended) for record in records)


def _line(record: Any, extended: bool) -> str:
    proto, status = int(record["proto"]), int(record["status"])
    words = ["ipv4     2"] if extended else []
    words += [f"{_NAMES.get(proto, 'unknown'):<8} {proto}", str(max(0, int(record["timeout"])))]
    if proto == _TCP:
        words.append(TcpState(record["state"]).name)
    elif proto == _SCTP:
        words.append(SctpState(record["state"]).name)
    words += _tuple(record, "", proto)
    words += [f"packets={record['packets']}", f"bytes={record['bytes']}"]
    if not status & CtStatus.SEEN_REPLY:
        words.append("[UNREPLIED]")
    words += _tuple(record, "reply_", proto)
    words += [f"packets={record['reply_packets']}", f"bytes={record['reply_bytes']}"]
    if status & CtStatus.ASSURED:
        words.append("[ASSURED]")
    words.append(f"mark={record['mark']}")
    if record["zone"]:
        words.append(f"zone={record['zone']}")
    return " ".join([*words, "use=1\n"])


def _tuple(record: Any, side: str, proto: int) -> list[str]:
    words = [f"src={ipv4_text(record[side + 'src'])}", f"dst={ipv4_text(record[side + 'dst'])}"]
    sport, dport = int(record[side + "sport"]), int(record[side + "dport"])
    if proto in _WITH_PORTS:
        words += [f"sport={sport}", f"dport={dport}"]
    elif proto == _ICMP:
        words += [f"type={dport >> 8}", f"code={dport & 255}", f"id={sport}"]
    elif proto == _GRE:
        words += [f"srckey=0x{sport:x}", f"dstkey=0x{dport:x}"]
    return words
