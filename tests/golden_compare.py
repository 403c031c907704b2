"""Judging a run against a recorded case, by the rules of golden/README.md.

A case is replayed with two callables, `inject(port, frame, t_ms)` and `advance(t_ms)`, that return the frames which
came out as (port, bytes); what they returned is then held against each accepted alternative.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

Frames = list[tuple[str, bytes]]
Case = dict[str, Any]


def ones_sum(data: bytes) -> int:
    """Folded one's complement sum of big-endian words: 0xFFFF when a checksum among them is right (RFC 1071)."""
    number = int.from_bytes(data, "big") << 8 * (len(data) % 2)
    return number and (
        number % 0xFFFF or 0xFFFF
    )  # 2**16 is 1 modulo 0xFFFF, so a word counts the same anywhere


def ip_offset(frame: bytes) -> int | None:
    """Offset of the IPv4 header behind VLAN tags; None if there is none."""
    at = 12
    while frame[at : at + 2] in (b"\x81\x00", b"\x88\xa8"):
        at += 4
    return at + 2 if frame[at : at + 2] == b"\x08\x00" and len(frame) >= at + 22 else None


CHECK_FIELD = {1: 2, 6: 16, 17: 6}  # protocol -> offset of its checksum


def l4_parts(frame: bytes, at: int) -> tuple[int, int, int, bytes] | None:
    """(offset, end, protocol, pseudo header) of the transport of an unfragmented packet that is all there."""
    header, total = (frame[at] & 15) * 4, int.from_bytes(frame[at + 2 : at + 4], "big")
    protocol = frame[at + 9]
    if (
        int.from_bytes(frame[at + 6 : at + 8], "big") & 0x3FFF
        or len(frame) < at + total
        or protocol not in CHECK_FIELD
        or total < header + CHECK_FIELD[protocol] + 2
    ):
        return None
    start, end = at + header, at + total
    pseudo = (
        b""
        if protocol == 1
        else frame[at + 12 : at + 20] + bytes([0, protocol]) + (end - start).to_bytes(2, "big")
    )
    return start, end, protocol, pseudo


def wrong_checksums(frame: bytes, kinds: list[str]) -> list[str]:
    """Which of the checksums `ip` and `l4` are wrong; one that cannot be judged is not."""
    at = ip_offset(frame)
    if at is None:
        return []
    wrong = []
    if "ip" in kinds and ones_sum(frame[at : at + (frame[at] & 15) * 4]) != 0xFFFF:
        wrong.append("ip")
    parts = l4_parts(frame, at)
    if "l4" in kinds and parts is not None:
        start, end, protocol, pseudo = parts
        blank = protocol == 17 and frame[start + 6 : start + 8] == b"\0\0"
        if not blank and ones_sum(pseudo + frame[start:end]) != 0xFFFF:
            wrong.append("l4")
    return wrong


def with_checksums(frame: bytes) -> bytes:
    """The frame with its IPv4 and transport checksums computed anew; UDP's 0 stays."""
    at = ip_offset(frame)
    if at is None:
        return frame
    made = bytearray(frame)
    header = (made[at] & 15) * 4
    made[at + 10 : at + 12] = b"\0\0"
    made[at + 10 : at + 12] = (0xFFFF - ones_sum(bytes(made[at : at + header]))).to_bytes(2, "big")
    parts = l4_parts(bytes(made), at)
    if parts is None:
        return bytes(made)
    start, end, protocol, pseudo = parts
    field = start + CHECK_FIELD[protocol]
    if protocol == 17 and made[field : field + 2] == b"\0\0":
        return bytes(made)
    made[field : field + 2] = b"\0\0"
    value = 0xFFFF - ones_sum(pseudo + bytes(made[start:end]))
    made[field : field + 2] = (0xFFFF if protocol == 17 and value == 0 else value).to_bytes(2, "big")
    return bytes(made)


def step_input(step: dict[str, Any], outputs: list[Frames]) -> tuple[str, bytes] | None:
    """Where a step's frame goes in, and the frame after its patches; None if an output that it needs is not there."""
    port, frame = step["in"], bytearray.fromhex(step["hex"])
    try:
        if "in_from" in step:
            earlier, index = step["in_from"]
            port = outputs[earlier][index][0]
        for patch in step.get("patch", ()):
            source = outputs[patch["step"]][patch["out"]][1]
            frame[patch["dst"] : patch["dst"] + patch["len"]] = source[
                patch["src"] : patch["src"] + patch["len"]
            ]
    except IndexError:
        return None
    return port, with_checksums(bytes(frame)) if step.get("patch") else bytes(frame)


def replay(
    case: Case, inject: Callable[[str, bytes, float], Frames], advance: Callable[[float], Frames]
) -> list[Frames]:
    """Run a case's steps in virtual time; the frames that came out, by step."""
    outputs: list[Frames] = []
    now = 0.0
    for step in case["steps"]:
        if "wait_ms" in step:
            now += step["wait_ms"]
            outputs.append(advance(now))
        elif "cmd" in step:
            raise NotImplementedError(f"step command {step['cmd']}")
        else:
            if step.get("gap_ms"):
                now += step["gap_ms"]
                late = advance(now)
                if outputs:
                    outputs[-1] = outputs[-1] + late
            ready = step_input(step, outputs)
            outputs.append([] if ready is None else inject(*ready, now))
    return outputs


class Bindings(dict[str, int]):
    """Random values by name: the first frame that shows one fixes it for the case."""

    def refuse(self, want: dict[str, Any], frame: bytes, limits: dict[str, Any]) -> str | None:
        for variable in want.get("vars", ()):
            name, at = variable["name"], variable["off"]
            value = int.from_bytes(frame[at : at + variable["len"]], "big")
            if self.setdefault(name, value) != value:
                return f"{name} is {value} and was {self[name]}"
            if name.startswith("port") and "port" in limits:
                low, high = limits["port"]
                if not low <= value <= high:
                    return f"{name} {value} is not in {low}..{high}"
        return None


def refuse_frame(want: dict[str, Any], frame: bytes, bound: Bindings, limits: dict[str, Any]) -> str | None:
    """Why a frame is not the one that was recorded; None if it is."""
    expected = bytes.fromhex(want["hex"])
    if len(frame) != len(expected):
        return f"{len(frame)} bytes, not {len(expected)}"
    mask = bytes.fromhex(want["mask"]) if "mask" in want else b"\xff" * len(expected)
    differing = [i for i, (a, b, m) in enumerate(zip(frame, expected, mask, strict=True)) if (a ^ b) & m]
    if differing:
        i = differing[0]
        return (
            f"byte {i} is {frame[i]:02x}, not {expected[i]:02x} ({len(differing)} differ): {want['summary']}"
        )
    wrong = wrong_checksums(frame, want.get("valid", []))
    if wrong:
        return f"wrong checksum: {', '.join(wrong)}"
    return bound.refuse(want, frame, limits)


def by_port(frames: Iterator[tuple[str, Any]]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = defaultdict(list)
    for port, frame in frames:
        found[port].append(frame)
    return found


def refuse_step(
    want: list[dict[str, Any]], got: Frames, bound: Bindings, limits: dict[str, Any]
) -> str | None:
    """Frames are compared in order within a port."""
    expected, came = by_port((w["port"], w) for w in want), by_port(iter(got))
    for port in sorted(expected | came):
        if len(expected[port]) != len(came[port]):
            return f"{port}: {len(came[port])} frames, not {len(expected[port])}"
        for i, (w, frame) in enumerate(zip(expected[port], came[port], strict=True)):
            reason = refuse_frame(w, frame, bound, limits)
            if reason:
                return f"{port} frame {i}: {reason}"
    return None


def refuse_alternative(
    case: Case, alternative: dict[str, Any], outputs: list[Frames]
) -> tuple[list[str], Bindings]:
    bound, limits = Bindings(), case.get("limits", {})
    want = alternative["out"]
    if case.get("merge_steps"):
        want = [*([] for _ in want[1:]), [frame for step in want for frame in step]]
        outputs = [*([] for _ in outputs[1:]), [frame for step in outputs for frame in step]]
    reasons = []
    for i, (step, got) in enumerate(zip(want, outputs, strict=True)):
        reason = refuse_step(step, got, bound, limits)
        if reason:
            reasons.append(f"step {i}: {reason}")
    for a, b in alternative.get("distinct", ()):
        if a in bound and bound[a] == bound.get(b):
            reasons.append(f"{a} and {b} are both {bound[a]}")
    return reasons, bound


def flat(entry: dict[str, Any], bound: Bindings) -> dict[str, Any]:
    """A connection's fields by name, random values filled in; what may be anything is left out."""
    fields = {"proto": entry["proto"], "state": entry.get("state"), "mark": entry.get("mark", 0)}
    fields["status"] = sorted({"ASSURED", "UNREPLIED"} & set(entry["status"]))
    for side in ("orig", "reply"):
        for name, value in entry[side].items():
            if isinstance(value, str) and value.startswith("$"):
                if value == "$any":
                    continue
                value = bound.get(value[1:], value)
            fields[f"{side}.{name}"] = value
    return fields


def refuse_conntrack(
    alternative: dict[str, Any], entries: list[dict[str, Any]], bound: Bindings
) -> list[str]:
    """Differences of the connections afterwards: tuples, states, marks, counters, and timeouts within 1 s."""
    want = alternative.get("conntrack")
    if want is None:
        return []
    left = [(flat(entry, bound), entry["timeout"]) for entry in entries]
    reasons = []
    for entry in want:
        fields = flat(entry, bound)
        found = [i for i, (came, _) in enumerate(left) if fields.items() <= came.items()]
        if not found:
            reasons.append(f"missing connection {fields}")
            continue
        _, timeout = left.pop(found[0])
        low, high = entry["timeout"]
        if not low - 1 <= timeout <= high + 1:
            reasons.append(f"timeout {timeout} is not in {low}..{high}: {fields}")
    return reasons + [f"extra connection {fields}" for fields, _ in left]


def refuse_fdb(alternative: dict[str, Any], entries: set[tuple[str, str, str]]) -> list[str]:
    """Differences of the bridge's table afterwards."""
    if alternative.get("fdb") is None:
        return []
    want = {(e["mac"], e["dev"], e["state"]) for e in alternative["fdb"]}
    return [f"missing FDB entry {e}" for e in sorted(want - entries)] + [
        f"extra FDB entry {e}" for e in sorted(entries - want)
    ]


def judge(
    case: Case,
    outputs: list[Frames],
    conntrack: list[dict[str, Any]] | None = None,
    fdb: set[tuple[str, str, str]] | None = None,
) -> list[str]:
    """Why a run is none of the case's accepted outcomes; empty if it is one. The tables are judged if given."""
    best: list[str] | None = None
    for alternative in case["alternatives"]:
        reasons, bound = refuse_alternative(case, alternative, outputs)
        if conntrack is not None:
            reasons += refuse_conntrack(alternative, conntrack, bound)
        if fdb is not None:
            reasons += refuse_fdb(alternative, fdb)
        if best is None or len(reasons) < len(best):
            best = reasons
    return best or []
