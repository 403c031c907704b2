"""What ARP and neighbour discovery have in common: an answer is entered, and packets that waited for it leave."""

from .bridge cimport bridge_resume
from .egress cimport transmit, waited
from .frame cimport ETH_DST, store_mac
from .neighbour cimport held_t, neigh_resolve, neigh_take, neigh_update
from .verdict cimport PASS


cdef void release(node_t* node, neigh_table_t* t, uint32_t neighbour, int32_t source) noexcept nogil:
    """Send what waited for a neighbour, oldest first."""
    cdef uint64_t mac = t.row[neighbour].mac
    cdef held_t* h
    cdef packet_t p
    while True:
        h = neigh_take(t, neighbour)
        if h == NULL:
            return
        p = waited(node, h, source)
        neigh_resolve(t, neighbour, node.now)
        node.released += 1
        if p.frame == NULL:
            node.generated_drops += 1
        elif p.bridged:
            bridge_resume(node, &p, mac)
        else:
            store_mac(p.frame + ETH_DST, mac)
            if transmit(node, &p, t.row[neighbour].dev) != PASS:
                node.generated_drops += 1


cdef void learn_neighbour(node_t* node, neigh_table_t* t, uint32_t index, uint64_t mac, nud_t state, bint override,
                          bint weak, const packet_t* p) noexcept nogil:
    if neigh_update(t, index, mac, state, override, weak, p.now):
        release(node, t, index, p.source)
