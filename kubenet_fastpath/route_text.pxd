"""Lists of prefixes as text."""

cdef object read_prefixes(object source, int family, bint mask_host_bits, bint skip_other_family)
