"""Connections and counters as text, the way `conntrack -L`, `-E` and `-S` print them; and with names."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .address import ipv4_text, ipv6_text
from .connection import CtEvent, CtStatus, SctpState, TcpState

__all__ = [
    "NAMES",
    "STATISTICS",
    "WITH_PORTS",
    "connections_named",
    "connections_text",
    "events_text",
    "statistics_text",
]

_ICMP, _TCP, _GRE, _ICMP6, _SCTP = 1, 6, 47, 58, 132
#: Protocols as the tool calls them.
NAMES = {_ICMP: "icmp", _ICMP6: "icmpv6", _TCP: "tcp", 17: "udp", _GRE: "gre", _SCTP: "sctp", 136: "udplite"}
WITH_PORTS = {_TCP, 17, _SCTP, 136}


def connections_text(records: NDArray[np.void], *, extended: bool = False, accounting: bool = True) -> str:
    """Return one line a connection, as `conntrack -L` prints it; with `extended`, as `-o extended`.

    Parameters
    ----------
    records : (N,) structured ndarray
        From `ConnectionTable.to_records(now)`, of either family.
    extended : bool
        Begin each line with the family.
    accounting : bool
        Packets and bytes of both directions, as with the sysctl nf_conntrack_acct.
    """
    return "".join(_line(record, extended, accounting) for record in records)


def _line(record: Any, extended: bool, accounting: bool) -> str:
    proto, status = int(record["proto"]), int(record["status"])
    six = record["src"].ndim == 1
    words = [("ipv6     10" if six else "ipv4     2")] if extended else []
    words += [f"{NAMES.get(proto, 'unknown'):<8} {proto}", str(max(0, int(record["timeout"])))]
    if proto == _TCP:
        words.append(TcpState(record["state"]).name)
    elif proto == _SCTP:
        words.append(SctpState(record["state"]).name)
    words += _tuple(record, "", proto)
    if accounting:
        words += [f"packets={record['packets']}", f"bytes={record['bytes']}"]
    if not status & CtStatus.SEEN_REPLY:
        words.append("[UNREPLIED]")
    words += _tuple(record, "reply_", proto)
    if accounting:
        words += [f"packets={record['reply_packets']}", f"bytes={record['reply_bytes']}"]
    if status & CtStatus.ASSURED:
        words.append("[ASSURED]")
    words.append(f"mark={record['mark']}")
    if record["zone"]:
        words.append(f"zone={record['zone']}")
    return " ".join([*words, "use=1\n"])


def _address(value: Any) -> str:
    return ipv4_text(value) if value.ndim == 0 else ipv6_text(int.from_bytes(value.tobytes(), "big"))


def _tuple(record: Any, side: str, proto: int) -> list[str]:
    words = [f"{end}={_address(record[side + end])}" for end in ("src", "dst")]
    sport, dport = int(record[side + "sport"]), int(record[side + "dport"])
    if proto in WITH_PORTS:
        words += [f"sport={sport}", f"dport={dport}"]
    elif proto in (_ICMP, _ICMP6):
        words += [f"type={dport >> 8}", f"code={dport & 255}", f"id={sport}"]
    elif proto == _GRE:
        words += [f"srckey=0x{sport:x}", f"dstkey=0x{dport:x}"]
    return words


def events_text(events: NDArray[np.void], *, accounting: bool = True) -> str:
    """Return one line an event, as `conntrack -E` prints it.

    Packets and bytes (with `accounting`) are told of what has ended alone, its timeout if time was left, a mark if
    there is one. Who ended it is not known here ([USERSPACE]).
    """
    return "".join(_event(event, accounting) for event in events)


def _event(event: Any, accounting: bool) -> str:
    ended = event["kind"] == CtEvent.DESTROY
    words = _line(event, False, accounting and ended).split(" ")
    number = words.index(str(int(event["proto"])))
    if ended and words[number + 1] == "0":
        del words[number + 1]
    kind = f"[{CtEvent(event['kind']).name}]"
    kept = (word for word in words if not word.startswith("use=") and word != "mark=0")
    return f"{kind:>9} {' '.join(kept)}\n"


#: Counters of `conntrack -S`, in its order.
STATISTICS = [
    "found",
    "invalid",
    "insert",
    "insert_failed",
    "drop",
    "early_drop",
    "error",
    "search_restart",
    "clash_resolve",
    "chaintoolong",
]


def statistics_text(counters: Mapping[str, int]) -> str:
    """Return the line of `conntrack -S`. What cannot happen here (search_restart, chaintoolong) is 0."""
    words = " ".join(f"{name}={counters.get(name, 0)}" for name in STATISTICS)
    return f"cpu=0   \t{words} \n"


def connections_named(records: NDArray[np.void]) -> list[dict[str, Any]]:
    """Return a dict for each record of `ConnectionTable.to_records`, of either family, for JSON.

    Its fields, with addresses as text, the state of TCP and SCTP by its name, and `flags`, the names of what `status`
    has.
    """
    return [_named(record) for record in records]


def _named(record: Any) -> dict[str, Any]:
    found = {name: record[name].tolist() for name in record.dtype.names}
    for name in ("src", "dst", "reply_src", "reply_dst"):
        found[name] = _address(record[name])
    states: Any = {_TCP: TcpState, _SCTP: SctpState}.get(found["proto"])
    if states:
        found["state"] = states(found["state"]).name
    return found | {"flags": [flag.name for flag in CtStatus if flag & found["status"]]}
