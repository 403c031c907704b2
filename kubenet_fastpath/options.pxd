"""IPv4 options, as a router acts on them."""

from libc.stdint cimport uint8_t, uint32_t

from .context cimport node_t, packet_t

cdef enum:                      # packet_t.option_flags, as struct ip_options has them
    OPTION_RECORD = 1           # rr_needaddr: a slot for the address that the packet leaves by
    OPTION_STAMP_ADDRESS = 2    # ts_needaddr
    OPTION_STAMP_TIME = 4       # ts_needtime
    OPTION_CHANGED = 8          # the header's checksum is out of date
    OPTION_COMPILED = 16

cdef enum:
    OPTIONS_MAX = 40
    OPTIONS_OK = 0
    OPTIONS_SOURCE_ROUTE = 256  # above any offset
    OPTIONS_NO_ECHO = 0xFFFF

cdef uint32_t options_compile(node_t* node, packet_t* p) noexcept nogil
cdef void options_forward(node_t* node, packet_t* p) noexcept nogil
cdef bint options_read_again(node_t* node, packet_t* p) noexcept nogil
cdef uint32_t options_answer_to(const packet_t* p) noexcept nogil
cdef uint32_t options_echo(const node_t* node, const packet_t* p, uint32_t src, uint8_t* to) noexcept nogil
