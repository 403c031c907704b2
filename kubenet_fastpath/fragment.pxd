"""C interface of fragmentation: one packet becomes several that fit an MTU (Linux's ip_do_fragment, ip6_fragment)."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t

from .frame cimport ETH_IP, ETH_LEN, ETH_QINQ, ETH_TYPE, ETH_VLAN, VLAN_LEN, load16

cdef struct geometry_t:         # of the fragments in which a packet arrived
    const uint16_t* payload     # bytes behind the IP header of each, in the order of their offsets
    uint32_t fragments          # 0: it arrived in one piece, and the other fields mean nothing
    uint16_t max_size           # IP bytes of the largest, header included (IPCB frag_max_size)
    bint df                     # the largest had DF (IPSKB_FRAG_PMTU)

cdef enum:                      # flags of fragment_start
    FRAGMENT_CLONED = 1         # copies go elsewhere too, so the pieces cannot be sent as they came
    FRAGMENT_BRIDGED = 2        # the bridge parses no IP options: every fragment carries all of them

cdef struct fragmenter_t:
    const uint8_t* frame
    const uint16_t* payload     # NULL: cut by `room`
    uint32_t l3                 # bytes of link header, copied in front of every fragment
    uint32_t header_len
    uint32_t room               # payload bytes that a fragment may carry
    uint32_t cut                # payload bytes already sent
    uint32_t left
    uint32_t first              # payload bytes of the first fragment, where `payload` is kept
    uint32_t offset             # bytes, of the next fragment in its datagram
    uint32_t index              # of the next fragment
    uint16_t df
    uint16_t more               # IP_MF if the packet itself is a fragment that more follow
    uint8_t flags
    uint8_t header[60]          # of IPv4
    uint32_t id                 # of IPv6
    uint16_t next               # of IPv6: place of the byte that names the fragment header, 0: IPv4

# Begin to split frame[:end], whose valid IPv4 header is at l3. `origin` may be NULL; it and the frame must
# stay as they are until the last fragment is out. Returns the number of fragments; 0: none (no payload, or the
# MTU leaves no room for 8 bytes of it).
cdef uint32_t fragment_start(fragmenter_t* f, const uint8_t* frame, uint32_t l3, uint32_t end, uint32_t mtu,
                             const geometry_t* origin, uint8_t flags) noexcept nogil
# The same of a packet of IPv6. No fragment need be smaller than 1280 for the sake of what came, whatever `origin` says.
cdef uint32_t fragment_start6(fragmenter_t* f, const uint8_t* frame, uint32_t l3, uint32_t end, uint32_t mtu,
                              const geometry_t* origin, uint8_t flags, uint32_t id) noexcept nogil
# Write the next fragment, link header included, to `out` (l3 + mtu bytes). Returns its length; 0: no more.
cdef uint32_t fragment_next(fragmenter_t* f, uint8_t* out) noexcept nogil


cdef inline uint32_t ipv4_offset(const uint8_t* frame, uint32_t n) noexcept nogil:
    """Offset of the IPv4 header behind Ethernet and up to two VLAN tags; 0: this is no IPv4 frame."""
    cdef uint32_t at = ETH_TYPE
    cdef int tags
    cdef uint16_t type
    for tags in range(3):
        if n < at + 2:
            return 0
        type = load16(frame + at)
        if type == ETH_IP:
            return at + 2
        if type != ETH_VLAN and type != ETH_QINQ:
            return 0
        at += VLAN_LEN
    return 0
