"""Splitting an IPv4 packet in plain Python: where to cut first, then one header for each piece."""

from .defrag import header_checksum


def later_options(options):
    """The options of all but the first fragment: those with the top bit; the rest become NOPs (RFC 791)."""
    out, rest = b"", options
    while rest and rest[0] != 0:
        size = 1 if rest[0] == 1 else rest[1] if len(rest) > 1 else 0
        if rest[0] != 1 and not 2 <= size <= len(rest):
            break
        out += rest[:size] if rest[0] & 0x80 else b"\x01" * size
        rest = rest[size:]
    return out + rest


def fragment(frame, l3, mtu, sizes=(), max_size=0, df=False, cloned=False, bridged=False):
    ip = frame[l3:]
    ip = ip[: int.from_bytes(ip[2:4], "big")]
    n = 4 * (ip[0] & 15)
    header, payload, word = ip[:n], ip[n:], int.from_bytes(ip[6:8], "big")
    if not max_size and len(ip) <= mtu:
        return [frame[:l3] + ip]
    room = min(mtu, max_size or mtu) - n
    whole = not word & 0x3FFF
    as_they_came = (
        sizes and whole and not cloned and max(sizes) <= room and not any(size % 8 for size in sizes[:-1])
    )
    cuts = []
    if as_they_came:
        cuts = list(sizes)
    else:
        while sum(cuts) < len(payload):
            left = len(payload) - sum(cuts)
            cuts.append(left if left <= room else room // 8 * 8)
    out, at = [], 0
    for i, size in enumerate(cuts):
        offset = (word & 0x1FFF) + at // 8
        head = bytearray(header if offset == 0 or bridged else _later(header, word))
        more = 0x2000 if i + 1 < len(cuts) else word & 0x2000
        head[2:4] = (n + size).to_bytes(2, "big")
        head[6:8] = (offset | more | (0x4000 if df and not as_they_came else 0)).to_bytes(2, "big")
        head[10:12] = header_checksum(head)
        out.append(frame[:l3] + bytes(head) + payload[at : at + size])
        at += size
    return out


def _later(header, word):
    """A packet that is a later fragment itself was given its options when it was cut off."""
    return header if word & 0x1FFF else header[:20] + later_options(header[20:])
