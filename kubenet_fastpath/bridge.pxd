"""The Linux bridge: what happens to a frame on one of its ports."""

from libc.stdint cimport uint64_t

from .context cimport node_t, packet_t

cdef int bridge_receive(node_t* node, packet_t* p, packet_t* up) noexcept nogil
cdef void bridge_resume(node_t* node, packet_t* p, uint64_t dst) noexcept nogil
