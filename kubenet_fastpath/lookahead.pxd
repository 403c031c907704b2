"""C interface of the first look at a burst of frames."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from .context cimport node_t
from .fastpath cimport batch_t, fastpath_t, kf_glance
from .flowtable cimport ct_t

cdef Py_ssize_t fastpath_look(fastpath_t* f, node_t* node, const batch_t* b, Py_ssize_t first,
                              Py_ssize_t n) noexcept nogil
cdef uint32_t look_up(const ct_t* t, const kf_glance* g, Py_ssize_t k, uint64_t hash) noexcept nogil
