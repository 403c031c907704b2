"""What conntrack-tools print, read back: connections of `conntrack -L` of either family, counters of `-S`."""

import re
from collections.abc import Iterator
from typing import Any

from .address import ipv4, ipv6
from .connection import CtStatus, SctpState, TcpState
from .errors import AddressError
from .listing import NAMES, STATISTICS, WITH_PORTS

__all__ = ["connections_of", "statistics_of"]

_ICMP, _TCP, _GRE, _ICMP6, _SCTP = 1, 6, 47, 58, 132
_FAMILIES = {"ipv4": ("2", 4), "ipv6": ("10", 6)}


def statistics_of(text: str) -> dict[str, int]:
    """Read the lines of `conntrack -S`, one for each CPU: the sum of each counter.

    Raises
    ------
    ValueError
        With the number of a line that is none.
    """
    found = dict.fromkeys(STATISTICS, 0)
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        cpu, *words = line.split()
        pairs = [word.partition("=") for word in words]
        if not re.fullmatch(r"cpu=[0-9]{1,9}", cpu) or [name for name, _, _ in pairs] != STATISTICS:
            raise ValueError(f"line {number} is none of `conntrack -S`: {line.strip()!r}")
        for name, _, value in pairs:
            try:
                found[name] += _number(value, 2**64 - 1)
            except ValueError as error:
                raise ValueError(f"line {number} is none of `conntrack -S`: {line.strip()!r}") from error
    return found


def connections_of(text: str) -> Iterator[dict[str, int]]:
    """Read what `conntrack -L` printed, with or without `-o extended` and accounting.

    Yields
    ------
    dict
        Fields of a record of `ConnectionTable.to_records`, one for each line, and `family`; addresses as numbers.

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
    family = 6 if any(word.startswith("src=") and ":" in word for word in words) else 4
    if words[0] in _FAMILIES:
        if (words[1], family) != _FAMILIES[words[0]]:
            raise ValueError(words[0])
        del words[:2]
    name, proto, timeout = words[0], _number(words[1], 255), _number(words[2], 2**31 - 1)
    if name != NAMES.get(proto, "unknown"):
        raise ValueError(name)
    record = {
        "family": family,
        "proto": proto,
        "timeout": timeout,
        "state": 0,
        "zone": 0,
        "mark": 0,
    }
    at = 3
    if proto in (_TCP, _SCTP):
        states: Any = TcpState if proto == _TCP else SctpState
        record["state"] = int(states[words[3]])
        at = 4
    sides: list[dict[str, str]] = []
    flags: list[str] = []
    for word in words[at:]:
        key, equals, value = word.partition("=")
        if word in ("[UNREPLIED]", "[ASSURED]"):
            flags.append(word)
        elif not equals:
            raise ValueError(word)
        elif key in ("mark", "zone", "use"):
            record[key] = _number(value, 0xFFFF if key == "zone" else 0xFFFFFFFF)
        else:
            if key == "src":
                sides.append({})
            if key in sides[-1]:
                raise ValueError(word)
            sides[-1][key] = value
    del record["use"]
    if len(sides) != 2 or len(set(flags)) != len(flags):
        raise ValueError("tuples, or flags")
    record["status"] = int("[UNREPLIED]" not in flags and CtStatus.SEEN_REPLY) | int(
        "[ASSURED]" in flags and CtStatus.ASSURED
    )
    for side, prefix in zip(sides, ("", "reply_"), strict=True):
        record |= {prefix + key: value for key, value in _side_of(side, proto, family).items()}
    return record


def _side_of(side: dict[str, str], proto: int, family: int) -> dict[str, int]:
    address: Any = ipv6 if family == 6 else ipv4
    found = {"src": address(side.pop("src")), "dst": address(side.pop("dst")), "sport": 0, "dport": 0}
    if proto in WITH_PORTS:
        found |= {name: _number(side.pop(name), 0xFFFF) for name in ("sport", "dport")}
    elif proto in (_ICMP, _ICMP6):
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
