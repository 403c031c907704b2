"""kube-proxy's and the host ports' chains, asked once for a new connection."""

from .connection cimport tuple_t
from .context cimport node_t, packet_t
from .service_table cimport endpoint_t

cdef enum:
    MARK_MASQ = 0x4000          # KUBE-MARK-MASQ
    MARK_HOST_PORT = 0x2000     # CNI-HOSTPORT-SETMARK

cdef enum filter_hook_t:
    FILTER_INPUT = 1
    FILTER_FORWARD = 2
    FILTER_OUTPUT = 3

cdef const endpoint_t* service_endpoint(node_t* node, packet_t* p, const tuple_t* to) noexcept nogil
cdef int service_refusal(node_t* node, const packet_t* p, filter_hook_t hook) noexcept nogil
