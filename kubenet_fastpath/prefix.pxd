"""Prefixes and addresses of either family, as Python has them, and as the RIB has them."""

from .rib cimport kf_key

cdef int bits_of(int family) except -1
cdef int key_of(object address, int family, kf_key* key) except -1
cdef object hop_given(object hop)
cdef object address_text(kf_key address, int family)
cdef int prefix_of(object prefix, int family, bint mask_host_bits, kf_key* net) except -1
cdef object text_of(kf_key net, int len, int family)
cdef object key_columns(object addresses, int family, str name)
cdef object given_columns(object networks, object prefix_lens, int family, bint mask_host_bits)
cdef object prefix_columns(object prefixes, int family)
cdef object addresses_of(object keys, int family)
cdef object order_of(object keys, object lengths)

