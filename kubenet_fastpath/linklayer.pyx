"""Captured frames get the link layer of a kubenet node: ingress port, MACs, whole checksums."""

cimport cython
import numpy as np

from libc.stdint cimport int8_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from .frame cimport (
    ARP_SHA, ARP_THA, ETH_ARP, ETH_DST, ETH_IP, ETH_LEN, ETH_SRC, IP_CHECK, IP_DST, IP_PROTO, IP_SRC,
    IP_TOTAL, PROTO_TCP, PROTO_UDP, TCP_CHECK, UDP_CHECK, UDP_LENGTH, csum, csum_fold, csum_partial,
    csum_pseudo, load16, load32, store16, store_mac,
)
from .parse import Status

cdef enum:
    OK = 0                      # parse.Status
    OTHER = 1
    SHORT_L4 = 7
    BAD_L4 = 8

assert (Status.OK, Status.OTHER, Status.SHORT_L4, Status.BAD_L4) == (OK, OTHER, SHORT_L4, BAD_L4)

cdef uint64_t BROADCAST = 0xFFFFFFFFFFFF
cdef uint64_t GROUP = 0x01005E000000    # RFC 1112 section 6.4
cdef uint64_t HWADDR = 0x0A5800000000   # CNI's hwaddr: 0a:58 and the address


cdef bint complete_header(uint8_t* p) noexcept nogil:
    """Write the IPv4 header's checksum if its sender left it out, for the network card to fill in."""
    if load16(p + IP_CHECK) != 0:
        return False
    store16(p + IP_CHECK, csum(p, (p[0] & 15) * 4))
    return True


cdef bint complete(uint8_t* p) noexcept nogil:
    """Finish the checksum of a whole packet if its sender left it to the network card (CHECKSUM_PARTIAL).

    Such a field holds the sum of the pseudo header alone; any other wrong checksum stays wrong.
    """
    cdef uint32_t header = (p[0] & 15) * 4
    cdef uint32_t length = load16(p + IP_TOTAL) - header
    cdef uint64_t pseudo
    cdef uint8_t* check
    if p[IP_PROTO] == PROTO_TCP:
        check = p + header + TCP_CHECK
    elif p[IP_PROTO] == PROTO_UDP:
        check, length = p + header + UDP_CHECK, load16(p + header + UDP_LENGTH)
    else:
        return False
    pseudo = csum_pseudo(load32(p + IP_SRC), load32(p + IP_DST), p[IP_PROTO], length)
    if load16(check) + csum_fold(pseudo) != 0xFFFF:
        return False
    store16(check, 0)
    store16(check, csum_fold(csum_partial(p + header, length, pseudo)))
    if p[IP_PROTO] == PROTO_UDP and load16(check) == 0:
        store16(check, 0xFFFF)
    return True


@cython.final
cdef class LinkLayer:
    """The MACs of one node and its pods.

    A host of the pods' prefix has the MAC that CNI's hwaddr makes of its address, and so has cbr0.

    Parameters
    ----------
    network, mask : int
        The pods' prefix.
    node : int
        Address of eth0.
    bridge_mac, eth0_mac, gateway_mac : int
    ports : (2**k,) ndarray of uint16
        Port of each address of the prefix; 0: nobody has it.
    heard : (M,) ndarray of uint64
        MACs of the capture, ascending.
    owner : (M,) ndarray of uint32
        The pod that has each; 0: none has.
    router : (M,) ndarray of uint8
        Whether what it sends comes from outside the prefix too.

    Attributes
    ----------
    completed : int
        Packets whose checksums a network card was to fill in, and were completed here.
    """

    cdef uint32_t network, mask, node
    cdef uint64_t bridge_mac, eth0_mac, gateway_mac
    cdef const uint16_t[::1] ports
    cdef const uint64_t[::1] heard
    cdef const uint32_t[::1] owner
    cdef const uint8_t[::1] router
    cdef readonly int64_t completed

    def __cinit__(self, *, uint32_t network, uint32_t mask, uint32_t node, uint64_t bridge_mac,
                  uint64_t eth0_mac, uint64_t gateway_mac, const uint16_t[::1] ports not None,
                  const uint64_t[::1] heard not None, const uint32_t[::1] owner not None,
                  const uint8_t[::1] router not None):
        if ports.shape[0] - 1 != mask ^ <uint32_t>BROADCAST:
            raise ValueError(f"ports has {ports.shape[0]} rows, which is not the size of the prefix")
        if not heard.shape[0] == owner.shape[0] == router.shape[0]:
            raise ValueError("the columns have different lengths")
        self.network, self.mask, self.node = network, mask, node
        self.bridge_mac, self.eth0_mac, self.gateway_mac = bridge_mac, eth0_mac, gateway_mac
        self.ports, self.heard, self.owner, self.router = ports, heard, owner, router

    cdef bint inside(self, uint32_t address) noexcept nogil:
        return address & self.mask == self.network

    cdef uint16_t port_of(self, uint32_t address) noexcept nogil:
        """0: no pod has it."""
        return self.ports[address & ~self.mask] if self.inside(address) else 0

    cdef Py_ssize_t find(self, uint64_t mac) noexcept nogil:
        cdef Py_ssize_t low = 0, high = self.heard.shape[0], middle
        while low < high:
            middle = (low + high) // 2
            if self.heard[middle] < mac:
                low = middle + 1
            else:
                high = middle
        return low if low < self.heard.shape[0] and self.heard[low] == mac else -1

    cdef uint64_t target(self, bint from_pod, bint ip, bint arp, uint32_t dst, uint64_t mac) noexcept nogil:
        """The MAC that a frame goes to, which was `mac`."""
        cdef Py_ssize_t k
        if mac >> 40 & 1:
            return mac
        if ip and dst >> 28 == 14:
            return GROUP | (dst & 0x7FFFFF)
        if ip and (dst == <uint32_t>BROADCAST or dst == (self.network | (self.mask ^ <uint32_t>BROADCAST))):
            return BROADCAST
        if (ip or arp) and self.inside(dst):
            return HWADDR | dst if from_pod else self.eth0_mac
        if ip or arp:
            if from_pod:
                return self.bridge_mac
            return self.eth0_mac if dst == self.node else self.gateway_mac
        if not from_pod:
            return self.eth0_mac
        k = self.find(mac)
        if k < 0:
            return mac
        return self.bridge_mac if self.router[k] or not self.owner[k] else HWADDR | self.owner[k]

    def dress(self, uint8_t[::1] data not None, const int64_t[::1] offset not None,
              const uint32_t[::1] length not None, uint16_t[::1] port not None, headers not None):
        """Set ingress ports and MACs of a batch, in place, and complete checksums.

        Parameters
        ----------
        data, offset, length, port
            The columns of a PacketBatch; `port` is written.
        headers : (N,) structured ndarray
            Its headers; they are trusted to be those of these very bytes.

        Returns
        -------
        asks : (N,) ndarray of bool
            Untagged unicast IPv4 from a pod to an address outside the pods' prefix.
        answers : (N,) ndarray of bool
            The same from outside to a pod.

        Raises
        ------
        ValueError
            When the columns do not agree or a frame is outside `data`. Nothing has changed then.

        Notes
        -----
        An IPv4 or ARP frame is its source address's; any other, or one from 0.0.0.0, is that pod's whose MAC
        sent it. A pod's frame arrives at its port, all others at eth0. Group MACs stay. What is for an
        address of the prefix goes to that host's MAC, what a pod sends elsewhere goes to cbr0's. At eth0,
        what is for the prefix has eth0's MAC, and what is not has the gateway's: the node takes no part in
        it.
        """
        cdef Py_ssize_t i, k, n = offset.shape[0]
        cdef const uint64_t[:] eth_dst = headers["eth_dst"], eth_src = headers["eth_src"]
        cdef const uint64_t[:] arp_tha = headers["arp_tha"]
        cdef const uint16_t[:] eth_type = headers["eth_type"], l3_offset = headers["l3_offset"]
        cdef const uint8_t[:] status = headers["status"], version = headers["ip_version"]
        cdef const uint8_t[:] tags = headers["vlan_tags"]
        cdef const uint32_t[:] srcs = headers["src"], dsts = headers["dst"]
        cdef const int8_t[:] header_sound = headers["ip_checksum_ok"], sound = headers["l4_checksum_ok"]
        asks, answers = np.zeros(n, np.bool_), np.zeros(n, np.bool_)
        cdef uint8_t[::1] asking = asks.view(np.uint8), answering = answers.view(np.uint8)
        cdef uint32_t src, dst
        cdef uint64_t mac
        cdef uint8_t* frame
        cdef bint ip, arp, unicast, completed
        if not n == length.shape[0] == port.shape[0] == srcs.shape[0]:
            raise ValueError("the columns have different lengths")
        for i in range(n):
            if offset[i] < 0 or offset[i] > data.shape[0] - <int64_t>length[i]:
                raise ValueError(f"frame {i} is outside the data")
        with nogil:
            for i in range(n):
                port[i] = 0
                if length[i] < ETH_LEN:
                    continue
                frame = &data[offset[i]]
                ip = eth_type[i] == ETH_IP and version[i] == 4
                arp = eth_type[i] == ETH_ARP and status[i] == OK
                src, dst = srcs[i], dsts[i]
                if not (ip or arp) or src == 0:
                    k = self.find(eth_src[i])
                    src = 0 if k < 0 else self.owner[k]
                port[i] = self.port_of(src)
                mac = HWADDR | src if port[i] else self.gateway_mac
                store_mac(frame + ETH_DST, self.target(port[i] != 0, ip, arp, dst, eth_dst[i]))
                store_mac(frame + ETH_SRC, mac)
                if arp:
                    frame += l3_offset[i]
                    store_mac(frame + ARP_SHA, mac)
                    if arp_tha[i] != 0 and self.inside(dst):
                        store_mac(frame + ARP_THA, HWADDR | dst)
                if not ip:
                    continue
                frame = &data[offset[i] + l3_offset[i]]
                completed = header_sound[i] == 0 and complete_header(frame)
                completed |= sound[i] == 0 and complete(frame)
                self.completed += completed
                unicast = not eth_dst[i] >> 40 & 1 and dst >> 28 < 14 and tags[i] == 0 and (
                    status[i] == OK or status[i] == OTHER or status[i] == SHORT_L4 or status[i] == BAD_L4)
                asking[i] = unicast and port[i] and srcs[i] and not self.inside(dst)
                answering[i] = unicast and not port[i] and not self.inside(src) and self.port_of(dst)
        return asks, answers
