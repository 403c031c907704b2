"""Connections and counters as text, the way `conntrack -L` and `-S` of conntrack-tools print them; and read back."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .address import ipv4, ipv4_text, ipv6_text
from .connection import CtEvent, CtStatus, SctpState, TcpState
from .errors import AddressError

__all__ = ["connections_of", "connections_text", "events_text", "statistics_text"]

_ICMP, _TCP, _GRE, _ICMP6, _SCTP = 1, 6, 47, 58, 132
_NAMES = {_ICMP: "icmp", _ICMP6: "icmpv6", _TCP: "tcp", 17: "udp", _GRE: "gre", _SCTP: "sctp", 136: "udplite"}
_WITH_PORTS = {_TCP, 17, _SCTP, 136}


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
    words += [f"{_NAMES.get(proto, 'unknown'):<8} {proto}", str(max(0, int(record["timeout"])))]
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
    if proto in _WITH_PORTS:
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


_STATISTICS = (
    "found invalid insert insert_failed drop early_drop error search_restart clash_resolve chaintoolong"
)


def statistics_text(counters: Mapping[str, int]) -> str:
    """Return the line of `conntrack -S`. What cannot happen here (search_restart, chaintoolong) is 0."""
    words = " ".join(f"{name}={counters.get(name, 0)}" for name in _STATISTICS.split())
    return f"cpu=0   \t{words} \n"


def connections_of(text: str) -> Iterator[dict[str, int]]:
    """Read what `conntrack -L` printed, with or without `-o extended` and accounting.

    Yields
    ------
    dict
        Fields of a record of `ConnectionTable.to_records`, one for each line.

    Raises
    ------
    ValueError
        With the number of a line that is none.
    """
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                yield _record_of(line.split())
            except (ValueError, KeyError, IndexError, AddressError) as error:
                raise ValueError(
                    f"line {number} is no connection of `conntrack -L`: {line.strip()!r}"
                ) from error


def _record_of(words: list[str]) -> dict[str, int]:
    if words[0] in ("ipv4", "ipv6"):
        if words[:2] != ["ipv4", "2"]:
            raise ValueError(words[0])
        del words[:2]
    name, proto, timeout = words[0], _number(words[1], 255), _number(words[2], 2**31 - 1)
    if name != _NAMES.get(proto, "unknown"):
        raise ValueError(name)
    record = {
        "proto": proto,
        "timeout": timeout,
        "status": int(CtStatus.SEEN_REPLY),
        "state": 0,
        "zone": 0,
        "mark": 0,
    }
    at = 3
    if proto in (_TCP, _SCTP):
        record["state"] = int((TcpState if proto == _TCP else SctpState)[words[3]])
        at = 4
    sides: list[dict[str, str]] = []
    for word in words[at:]:
        flag = re.fullmatch(r"\[(UNREPLIED|ASSURED)\]", word)
        if flag:
            record["status"] ^= int(CtStatus.SEEN_REPLY if flag[1] == "UNREPLIED" else CtStatus.ASSURED)
            continue
        key, equals, value = word.partition("=")
        if not equals:
            raise ValueError(word)
        if key in ("mark", "zone", "use"):
            record[key] = _number(value, 0xFFFF if key == "zone" else 0xFFFFFFFF)
            continue
        if key == "src":
            sides.append({})
        if key in sides[-1]:
            raise ValueError(word)
        sides[-1][key] = value
    del record["use"]
    if len(sides) != 2:
        raise ValueError("tuples")
    for side, prefix in zip(sides, ("", "reply_"), strict=True):
        record |= {prefix + key: value for key, value in _side_of(side, proto).items()}
    return record


def _side_of(side: dict[str, str], proto: int) -> dict[str, int]:
    found = {"src": ipv4(side.pop("src")), "dst": ipv4(side.pop("dst")), "sport": 0, "dport": 0}
    if proto in _WITH_PORTS:
        found |= {name: _number(side.pop(name), 0xFFFF) for name in ("sport", "dport")}
    elif proto == _ICMP:
        found["sport"] = _number(side.pop("id"), 0xFFFF)
        found["dport"] = _number(side.pop("type"), 255) << 8 | _number(side.pop("code"), 255)
    elif proto == _GRE:
        for name in ("sport", "dport"):
            found[name] = _number(str(int(side.pop("srckey" if name == "sport" else "dstkey"), 16)), 0xFFFF)
    for name in ("packets", "bytes"):
        found[name] = _number(side.pop(name, "0"), 2**64 - 1)
    if side:
        raise ValueError(str(side))
    return found


def _number(text: str, most: int) -> int:
    if not re.fullmatch(r"[0-9]{1,20}", text) or int(text) > most:
        raise ValueError(text)
    return int(text)
