"""Ranges of addresses as prefixes."""

cdef object range_prefixes(object first, object last, int family)
