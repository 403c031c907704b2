"""Headers of one frame, read from the RFCs' pictures with `struct`; nothing of the package is used."""

from __future__ import annotations

import struct

Row = dict[str, int]


def ones_sum(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def parse(frame: bytes) -> Row:
    """Fields by name for whole Ethernet frames with IPv4 or ARP; what cannot be read is not there."""
    row: Row = {}
    if len(frame) < 14:
        return row
    row["eth_dst"], row["eth_src"] = int.from_bytes(frame[:6], "big"), int.from_bytes(frame[6:12], "big")
    at, kind, tags = 14, int.from_bytes(frame[12:14], "big"), 0
    while kind in (0x8100, 0x88A8) and tags < 2:
        if len(frame) < at + 4:
            return row
        kind, tags, at = int.from_bytes(frame[at + 2 : at + 4], "big"), tags + 1, at + 4
    row |= {"eth_type": kind, "vlan_tags": tags, "l3_offset": at}
    if kind == 0x0800:
        row |= parse_ipv4(frame[at:])
    return row


def parse_ipv4(p: bytes) -> Row:
    if len(p) < 20:
        return {}
    first, tos, total, ident, frag, ttl, proto, _, src, dst = struct.unpack("!BBHHHBBHII", p[:20])
    header = (first & 15) * 4
    row = {"tos": tos, "ip_len": total, "ip_id": ident, "ttl": ttl, "proto": proto, "src": src, "dst": dst}
    row |= {
        "df": frag >> 14 & 1,
        "mf": frag >> 13 & 1,
        "frag_offset": (frag & 0x1FFF) * 8,
        "ip_version": first >> 4,
    }
    if first >> 4 != 4 or header < 20 or total < header or total > len(p):
        return row
    row["ip_checksum_ok"] = int(ones_sum(p[:header]) == 0xFFFF)
    l4 = p[header:total]
    if row["frag_offset"]:
        return row
    pseudo = p[12:20] + struct.pack("!HH", proto, len(l4))
    if proto in (6, 17) and len(l4) >= (20 if proto == 6 else 8):
        row["sport"], row["dport"] = struct.unpack("!HH", l4[:4])
    if proto == 6 and len(l4) >= 20:
        row["tcp_seq"], row["tcp_ack"], offset, row["tcp_flags"], row["tcp_window"] = struct.unpack(
            "!IIBBH", l4[4:16]
        )
        if not row["mf"] and 20 <= (offset >> 4) * 4 <= len(l4):
            row["l4_checksum_ok"] = int(ones_sum(pseudo + l4) == 0xFFFF)
    if proto == 1 and len(l4) >= 8:
        row["icmp_type"], row["icmp_code"], _, row["icmp_id"], row["icmp_seq"] = struct.unpack(
            "!BBHHH", l4[:8]
        )
        if not row["mf"]:
            row["l4_checksum_ok"] = int(ones_sum(l4) == 0xFFFF)
    return row
