"""What `PacketBatch.headers` has to say of one frame, in plain Python: a dict of the fields that are not 0."""

from __future__ import annotations

import struct

QUERIES = {4: (0, 8, 13, 14, 15, 16, 17, 18), 6: (128, 129)}


def checksum_ok(data: bytes) -> int:
    """Whether the 16-bit words sum up to 0xFFFF, as RFC 1071 has it."""
    total = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return int(total == 0xFFFF)


def headers(frame: bytes, wire_length: int) -> dict[str, int | str]:
    """Fields of a frame of which `frame` was captured; `status` by name."""
    found: dict[str, int | str] = {"ip_checksum_ok": -1, "l4_checksum_ok": -1}
    found["status"] = ethernet(frame, wire_length, found)
    return {name: value for name, value in found.items() if value != 0}


def ethernet(frame: bytes, wire_length: int, found: dict[str, int | str]) -> str:
    if len(frame) < 14:
        return "SHORT_ETHERNET"
    found["eth_dst"], found["eth_src"] = int.from_bytes(frame[:6], "big"), int.from_bytes(frame[6:12], "big")
    at, tags = 14, 0
    while True:
        kind = found["eth_type"] = int.from_bytes(frame[at - 2 : at], "big")
        if kind not in (0x8100, 0x88A8) or tags == 2:
            break
        if len(frame) < at + 4:
            return "SHORT_VLAN"
        found[("vlan_id", "inner_vlan_id")[tags]] = int.from_bytes(frame[at : at + 2], "big") % 4096
        at, tags = at + 4, tags + 1
        found["vlan_tags"] = tags
    found["l3_offset"] = at
    parsers = {0x0800: ipv4, 0x86DD: ipv6, 0x0806: arp}
    return parsers[kind](frame[at:], wire_length - at, found) if kind in parsers else "OTHER"


def arp(l3: bytes, on_wire: int, found: dict[str, int | str]) -> str:
    if len(l3) < 8:
        return "SHORT_ARP"
    if l3[:6] != bytes.fromhex("000108000604"):
        return "OTHER"
    if len(l3) < 28:
        return "SHORT_ARP"
    op, sha, spa, tha, tpa = struct.unpack_from("!H6sI6sI", l3, 6)
    found |= {"arp_op": op, "src": spa, "dst": tpa}
    found |= {"arp_sha": int.from_bytes(sha, "big"), "arp_tha": int.from_bytes(tha, "big")}
    return "OK"


def ipv4(l3: bytes, on_wire: int, found: dict[str, int | str]) -> str:
    if len(l3) < 20:
        return "SHORT_IP"
    first, tos, total, ident, field, ttl, proto, _, src, dst = struct.unpack_from("!BBHHHBBHII", l3)
    header = (first & 15) * 4
    found |= {"ip_version": first >> 4, "ip_header_len": header, "tos": tos, "ip_len": total, "ip_id": ident}
    found |= {"df": field >> 14 & 1, "mf": field >> 13 & 1, "frag_offset": field % 8192 * 8}
    found |= {"ttl": ttl, "proto": proto, "src": src, "dst": dst}
    if first >> 4 != 4 or not 20 <= header <= total <= on_wire:
        return "BAD_IP"
    if len(l3) < header:
        return "SHORT_IP"
    found["ip_checksum_ok"] = checksum_ok(l3[:header])
    if field % 8192:
        found["payload_len"] = total - header
        return "OK"
    found["l4_offset"] = int(found["l3_offset"]) + header
    return layer4(l3[header:total], total - header, l3[12:20], found)


def ipv6(l3: bytes, on_wire: int, found: dict[str, int | str]) -> str:
    if len(l3) < 40:
        return "SHORT_IP"
    word, length, proto, hops, *halves = struct.unpack_from("!IHBB4Q", l3)
    found |= {"ip_version": word >> 28, "ip_header_len": 40, "tos": word >> 20 & 255}
    found |= {"ip_len": length, "proto": proto, "ttl": hops}
    found |= zip(("src6_high", "src6_low", "dst6_high", "dst6_low"), halves, strict=True)
    if word >> 28 != 6 or 40 + length > on_wire:
        return "BAD_IP"
    found["l4_offset"] = int(found["l3_offset"]) + 40
    return layer4(l3[40 : 40 + length], length, l3[8:40], found)


def layer4(l4: bytes, length: int, addresses: bytes, found: dict[str, int | str]) -> str:
    version, proto = found["ip_version"], found["proto"]
    whole = len(l4) == length and not found.get("mf")
    names = {6: "tcp", 17: "udp", 132: "sctp", 136: "udplite", {4: 1, 6: 58}[int(version)]: "icmp"}
    name = names.get(int(proto))
    if name is None:
        found["payload_len"] = length
        return "OTHER"
    size = {"tcp": 20, "udp": 8, "sctp": 12, "udplite": 8, "icmp": 8}[name]
    if len(l4) < size:
        return "SHORT_L4"
    if name == "icmp":
        found["icmp_type"], found["icmp_code"] = l4[:2]
        if l4[0] in QUERIES[int(version)]:
            found["icmp_id"], found["icmp_seq"] = struct.unpack_from("!HH", l4, 4)
    else:
        found["sport"], found["dport"] = struct.unpack_from("!HH", l4)
    summed = length
    if name == "tcp":
        seq, ack, words, flags, window = struct.unpack_from("!IIBBH", l4, 4)
        size = (words >> 4) * 4
        found |= {
            "tcp_seq": seq,
            "tcp_ack": ack,
            "tcp_header_len": size,
            "tcp_flags": flags,
            "tcp_window": window,
        }
        if not 20 <= size <= length:
            return "BAD_L4"
    elif name == "udp":
        summed = found["udp_len"] = int.from_bytes(l4[4:6], "big")
        if summed < 8 or (summed > length and not found.get("mf")):
            return "BAD_L4"
    found["payload_len"] = (min(summed, length) if name == "udp" else length) - size
    if whole and (name in ("tcp", "icmp") or (name == "udp" and l4[6:8] != b"\0\0")):
        pseudo = addresses + struct.pack("!II", summed, int(proto))
        found["l4_checksum_ok"] = checksum_ok(
            (b"" if (name, version) == ("icmp", 4) else pseudo) + l4[:summed]
        )
    return "SHORT_L4" if len(l4) < size else "OK"
