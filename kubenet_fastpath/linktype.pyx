"""Captured packets of other link layers become Ethernet frames.

Source: the LINKTYPE_ registry of tcpdump.org. What a link layer does not tell is made up from locally administered
addresses: the source is the sender's MAC if a Linux cooked capture has it, else `02:00:00:00:00:01`. The destination is
the broadcast or group MAC that belongs to the packet's IP destination, else `02:00:00:00:00:02`.
"""

import numpy as np

from libc.stdint cimport UINT32_MAX, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from .frame cimport (
    ETH_DST, ETH_IP, ETH_IP6, ETH_LEN, ETH_SRC, ETH_TYPE, IP_DST, IP_LEN, load16, load32, load_mac, store16, store_mac,
)
from .rows cimport outside

cdef enum:
    ETHERNET = 1
    RAW_BSD = 12
    RAW_OPENBSD = 14
    RAW = 101
    LINUX_SLL = 113
    IPV4 = 228
    IPV6 = 229
    LINUX_SLL2 = 276
    SLL_LEN = 16
    SLL2_LEN = 20
    SLL_BROADCAST = 1           # packet types
    SLL_MULTICAST = 2
    SLL_802_3 = 1               # protocols that are no EtherTypes: frames with a length in its place
    SLL_802_2 = 4
    IP6_LEN = 40
    IP6_DST = 24

cdef uint64_t HERE = 0x020000000001
cdef uint64_t THERE = 0x020000000002
cdef uint64_t EVERYBODY = 0xFFFFFFFFFFFF
cdef uint64_t GROUP = 0x01005E000001

#: Names of the LINKTYPE_ values that captures carry.
NAMES = {
    0: "NULL", 1: "ETHERNET", 3: "AX25", 6: "IEEE802_5", 7: "ARCNET_BSD", 8: "SLIP", 9: "PPP", 10: "FDDI",
    12: "RAW", 14: "RAW", 50: "PPP_HDLC", 51: "PPP_ETHER", 100: "ATM_RFC1483", 101: "RAW", 104: "C_HDLC",
    105: "IEEE802_11", 107: "FRELAY", 108: "LOOP", 113: "LINUX_SLL", 114: "LTALK", 117: "PFLOG",
    119: "IEEE802_11_PRISM", 122: "IP_OVER_FC", 123: "SUNATM", 127: "IEEE802_11_RADIOTAP", 129: "ARCNET_LINUX",
    132: "JUNIPER_ES", 137: "JUNIPER_ATM1", 138: "APPLE_IP_OVER_IEEE1394", 139: "MTP2_WITH_PHDR",
    140: "MTP2", 141: "MTP3", 142: "SCCP", 143: "DOCSIS", 144: "LINUX_IRDA", 147: "USER0", 148: "USER1",
    149: "USER2", 163: "IEEE802_11_AVS", 165: "BACNET_MS_TP", 166: "PPP_PPPD", 169: "GPRS_LLC",
    177: "LINUX_LAPD", 178: "JUNIPER_ETHER", 182: "MFR", 187: "BLUETOOTH_HCI_H4", 189: "USB_LINUX", 192: "PPI",
    195: "IEEE802_15_4_WITHFCS", 196: "SITA", 197: "ERF", 201: "BLUETOOTH_HCI_H4_WITH_PHDR",
    204: "PPP_WITH_DIR", 206: "FRELAY_WITH_DIR", 209: "IPMB_LINUX", 215: "IEEE802_15_4_NONASK_PHY",
    220: "USB_LINUX_MMAPPED", 224: "FC_2", 225: "FC_2_WITH_FRAME_DELIMS", 226: "IPNET", 227: "CAN_SOCKETCAN",
    228: "IPV4", 229: "IPV6", 230: "IEEE802_15_4_NOFCS", 231: "DBUS", 235: "DVB_CI", 236: "MUX27010",
    239: "NFLOG", 240: "NETANALYZER", 242: "IPOIB", 243: "MPEG_2_TS", 245: "NFC_LLCP", 247: "INFINIBAND",
    248: "SCTP", 249: "USBPCAP", 251: "BLUETOOTH_LE_LL", 252: "WIRESHARK_UPPER_PDU", 253: "NETLINK",
    254: "BLUETOOTH_LINUX_MONITOR", 256: "BLUETOOTH_LE_LL_WITH_PHDR", 258: "PKTAP", 259: "EPON",
    264: "ISO_14443", 265: "RDS", 266: "USB_DARWIN", 268: "SDLC", 271: "VSOCK", 272: "NORDIC_BLE",
    276: "LINUX_SLL2", 278: "OPENVIZSLA", 279: "EBHSCR", 280: "VPP_DISPATCH", 281: "DSA_TAG_BRCM",
    283: "IEEE802_15_4_TAP", 284: "DSA_TAG_DSA", 285: "DSA_TAG_EDSA", 288: "USB_2_0", 290: "ETW",
    292: "ZBOSS_NCP",
}

#: Link types that become Ethernet frames.
READABLE = frozenset((ETHERNET, RAW_BSD, RAW_OPENBSD, RAW, LINUX_SLL, IPV4, IPV6, LINUX_SLL2))


cdef uint32_t header_length(uint16_t link_type) noexcept nogil:
    """Bytes that the link layer's own header takes; Ethernet's stays."""
    if link_type == LINUX_SLL:
        return SLL_LEN
    return SLL2_LEN if link_type == LINUX_SLL2 else 0


cdef uint64_t destination(const uint8_t* l3, uint32_t n, uint16_t type, uint64_t otherwise) noexcept nogil:
    """The MAC that the IP destination calls for by itself (RFC 1112, RFC 2464), or `otherwise`."""
    cdef uint32_t dst
    if type == ETH_IP and n >= IP_LEN:
        dst = load32(l3 + IP_DST)
        if dst == UINT32_MAX:
            return EVERYBODY
        if dst >> 28 == 0xE:
            return <uint64_t>0x01005E << 24 | dst & 0x7FFFFF
    elif type == ETH_IP6 and n >= IP6_LEN and l3[IP6_DST] == 0xFF:
        return <uint64_t>0x3333 << 32 | load32(l3 + IP6_DST + 12)
    return otherwise


cdef void dress(const uint8_t* p, uint32_t n, uint32_t on_wire, uint16_t link_type, uint8_t* eth) noexcept nogil:
    """Write the 14 bytes of an Ethernet header for the n captured bytes of another link layer."""
    cdef uint64_t src = HERE, dst = THERE
    cdef uint16_t type = ETH_IP
    cdef uint16_t kind, address_len
    cdef uint32_t head = header_length(link_type)
    cdef const uint8_t* address
    if head:
        if link_type == LINUX_SLL:
            kind, address_len, address, type = load16(p), load16(p + 4), p + 6, load16(p + 14)
        else:
            kind, address_len, address, type = p[10], p[11], p + 12, load16(p)
        if address_len == 6:
            src = load_mac(address)
        if kind == SLL_BROADCAST:
            dst = EVERYBODY
        elif kind == SLL_MULTICAST:
            dst = GROUP
        if type == SLL_802_3 or type == SLL_802_2:
            type = <uint16_t>min(on_wire - head, <uint32_t>1500)
    elif link_type == IPV6 or (link_type != IPV4 and n > 0 and p[0] >> 4 == 6):
        type = ETH_IP6
    store_mac(eth + ETH_DST, destination(p + head, n - head, type, dst))
    store_mac(eth + ETH_SRC, src)
    store16(eth + ETH_TYPE, type)


def to_ethernet(const uint8_t[::1] data not None, const int64_t[::1] offset not None,
                const uint32_t[::1] length not None, const uint32_t[::1] wire_length not None,
                const uint16_t[::1] link_type not None):
    """Copy packets into Ethernet frames.

    Parameters
    ----------
    data : (B,) ndarray of uint8
    offset, length, wire_length, link_type : (N,) ndarray of int64, uint32, uint32, uint16
        A packet that ends in its link header becomes an empty frame.

    Returns
    -------
    data, offset, length, wire_length
        Of the frames.

    Raises
    ------
    ValueError
        When the columns do not agree, a link type is none of READABLE, or a packet is outside `data` or longer than
        on the wire.
    """
    cdef Py_ssize_t i, n = offset.shape[0]
    cdef int64_t at = 0
    cdef uint32_t head, frame
    cdef uint16_t kind
    if not n == length.shape[0] == wire_length.shape[0] == link_type.shape[0]:
        raise ValueError("the columns have different lengths")
    if outside(data.shape[0], offset, length) < n:
        raise ValueError(f"packet {outside(data.shape[0], offset, length)} is outside the data")
    for i in range(n):
        kind = link_type[i]
        if not (kind == ETHERNET or kind == RAW or kind == IPV4 or kind == IPV6 or kind == LINUX_SLL
                or kind == LINUX_SLL2 or kind == RAW_BSD or kind == RAW_OPENBSD):
            raise ValueError(f"packet {i} has link type {kind}")
        if wire_length[i] < length[i]:
            raise ValueError(f"packet {i} is longer than on the wire")
        at += <int64_t>length[i] + ETH_LEN
    made = np.empty(at, np.uint8)
    offsets, lengths, wires = np.empty(n, np.int64), np.empty(n, np.uint32), np.empty(n, np.uint32)
    if n == 0:
        return made, offsets, lengths, wires
    cdef uint8_t[::1] out = made
    cdef int64_t[::1] new_offset = offsets
    cdef uint32_t[::1] new_length = lengths
    cdef uint32_t[::1] new_wire = wires
    cdef const uint8_t* p
    at = 0
    with nogil:
        for i in range(n):
            p, kind = &data[0] + offset[i], link_type[i]
            head = header_length(kind)
            new_offset[i] = at
            if kind == ETHERNET or length[i] < head:
                frame = length[i] if kind == ETHERNET else 0
                memcpy(&out[0] + at, p, frame)
            else:
                frame = ETH_LEN + length[i] - head
                dress(p, length[i], wire_length[i], kind, &out[0] + at)
                memcpy(&out[0] + at + ETH_LEN, p + head, length[i] - head)
            new_length[i] = frame
            # what the capture cut off stays cut off; nothing is longer than the column can say
            new_wire[i] = frame + min(wire_length[i] - length[i], UINT32_MAX - frame)
            at += frame
    return made[:at], offsets, lengths, wires
