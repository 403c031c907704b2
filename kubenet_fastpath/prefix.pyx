"""From Python's prefixes, addresses and columns to the keys of the RIB, and back."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from libc.stdint cimport uint8_t, uint64_t
from operator import index

import numpy as np

from .errors import AddressError

from .address_text cimport text_of_key, text_prefix
from .rib cimport kf_key, kf_key_hi, kf_key_lo, kf_key_mask, kf_key_of

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL

cdef uint64_t LOW = <uint64_t>0xFFFFFFFFFFFFFFFF
cdef dict ADDRESS = {4: IPv4Address, 6: IPv6Address}
cdef dict NETWORK = {4: IPv4Network, 6: IPv6Network}
cdef object NO_HOP = 0xFFFFFFFF


cdef int bits_of(int family) except -1:
    """Bits of an address."""
    if family not in (4, 6):
        raise ValueError(f"family must be 4 or 6: {family}")
    return 32 if family == 4 else 128


cdef int key_of(object address, int family, kf_key* key) except -1:
    """The key of an address: text, an integer or one of `ipaddress`."""
    if isinstance(address, IPv4Address | IPv6Address):
        if address.version != family:
            raise AddressError(f"not an IPv{family} address: '{address}'")
        address = str(address)
    elif not isinstance(address, str):
        address = index(address)
    if isinstance(address, str) and "%" in address:
        raise AddressError(f"an address with a scope has no route: {address!r}")
    try:
        number = int(ADDRESS[family](address))
    except ValueError:
        raise AddressError(f"not an IPv{family} address: {address!r}") from None
    key[0] = kf_key_of(number << 32, 0) if family == 4 else kf_key_of(number >> 64, number & LOW)
    return 0


cdef object address_text(kf_key address, int family):
    return text_of_key(kf_key_hi(address), kf_key_lo(address), family)


cdef object hop_given(object hop):
    """The hop as an int; refuses what is none."""
    number = index(hop)
    if not 0 <= number < NO_HOP:
        raise ValueError(f"a next hop must be in 0..{NO_HOP - 1}: {number}")
    return number


cdef int prefix_of(object prefix, int family, bint mask_host_bits, kf_key* net) except -1:
    """The network and the length of a prefix: text, a pair (network, length), or one of `ipaddress`.

    An address alone is a host prefix. Bits set behind the length are refused, or cleared on request.
    """
    cdef int length = -1, bits = 32 if family == 4 else 128
    cdef uint64_t hi, low
    cdef const char* text
    cdef Py_ssize_t size
    if type(prefix) is str:
        try:
            text = PyUnicode_AsUTF8AndSize(prefix, &size)
        except UnicodeEncodeError:
            raise AddressError(f"not an IPv{family} prefix: {prefix!r}") from None
        length = text_prefix(text, size, family, &hi, &low)
        net[0] = kf_key_of(hi, low)
    if length >= 0:
        pass
    elif isinstance(prefix, tuple):
        if len(prefix) != 2:
            raise AddressError(f"a prefix is a pair (network, length): {prefix!r}")
        address, number = prefix
        number = index(number)
        if not 0 <= number <= bits:
            raise AddressError(f"not an IPv{family} prefix length: {number}")
        length = number
        if type(address) is int and family == 4 and 0 <= address < 1 << 32:
            low = address
            net[0] = kf_key_of(low << 32, 0)
        else:
            key_of(address, family, net)
    else:
        if not isinstance(prefix, str | IPv4Network | IPv6Network):
            raise TypeError(f"a prefix is text such as '10.244.0.0/16', not {type(prefix).__name__}")
        if "%" in str(prefix):
            raise AddressError(f"a prefix has no scope: {prefix!r}")
        try:
            network = NETWORK[family](prefix, strict=not mask_host_bits)
        except ValueError as error:
            raise AddressError(f"not an IPv{family} prefix: {prefix!r} ({error})") from None
        length = network.prefixlen
        key_of(network.network_address, family, net)
    if net[0] & ~kf_key_mask(length):
        if not mask_host_bits:
            raise AddressError(f"not an IPv{family} prefix: {address_text(net[0], family)}/{length} has host bits set")
        net[0] = net[0] & kf_key_mask(length)
    return length


cdef object text_of(kf_key net, int len, int family):
    return f"{address_text(net, family)}/{len}"


cdef object key_columns(object addresses, int family, str name):
    """(N, 2) uint64 of keys, from (N,) uint32, or (N, 16) uint8, or (N, 2) or a pair of uint64; always a copy."""
    column = np.asarray(addresses)
    if family == 4:
        if column.ndim != 1 or column.dtype.kind != "u" or column.dtype.itemsize != 4:
            raise ValueError(f"{name} must be (N,) uint32: {column.shape} {column.dtype}")
        keys = np.zeros((len(column), 2), np.uint64)
        keys[:, 0] = column
        keys[:, 0] <<= np.uint64(32)
        return keys
    if column.dtype.names is not None and column.ndim == 1 and len(column.dtype.names) == 2 and all(
            column.dtype[field].kind == "u" and column.dtype[field].itemsize == 8 for field in column.dtype.names):
        return np.ascontiguousarray(np.stack([column[field].astype(np.uint64) for field in column.dtype.names], 1))
    if column.ndim == 2 and column.dtype == np.uint8 and column.shape[1] == 16:
        return np.ascontiguousarray(column).view(">u8").astype(np.uint64)
    if column.ndim == 2 and column.dtype.kind == "u" and column.dtype.itemsize == 8 and column.shape[1] == 2:
        return np.array(column, np.uint64, order="C")
    raise ValueError(f"{name} must be (N, 16) uint8, (N, 2) uint64 or (N,) pairs of uint64: "
                     f"{column.shape} {column.dtype}")


cdef object given_columns(object networks, object prefix_lens, int family, bint mask_host_bits):
    """(N, 2) uint64 of keys and (N,) uint8 of lengths, both as given; refuses what are no prefixes.

    Both are copies: the RIB relies on what has been checked, whatever other threads do to the caller's arrays.
    """
    keys = key_columns(networks, family, "networks")
    lengths = np.asarray(prefix_lens)
    if lengths.ndim != 1 or lengths.dtype != np.uint8:
        raise ValueError(f"prefix_lens must be (N,) uint8: {lengths.shape} {lengths.dtype}")
    lengths = np.array(lengths, order="C")
    check_columns(keys, lengths, family, mask_host_bits)
    return keys, lengths


cdef object prefix_columns(object prefixes, int family):
    """The columns of an iterable of prefixes, as `RouteTable.from_arrays` takes them."""
    cdef kf_key net
    keys, lengths = [], []
    for prefix in prefixes:
        lengths.append(prefix_of(prefix, family, False, &net))
        keys.append((kf_key_hi(net), kf_key_lo(net)))
    return addresses_of(np.array(keys, np.uint64).reshape(-1, 2), family), np.array(lengths, np.uint8)


cdef object addresses_of(object keys, int family):
    """(N,) uint32 or (N, 16) uint8 of keys."""
    if family == 4:
        return (keys[:, 0] >> np.uint64(32)).astype(np.uint32)
    return keys.astype(">u8").view(np.uint8)


cdef object order_of(object keys, object lengths):
    """The order of network, then length; of equal ones as they came."""
    if (keys[:, 1] == 0).all():
        return np.argsort(keys[:, 0] | lengths, kind="stable") if (
            keys[:, 0] & np.uint64(0xFF) == 0).all() else np.lexsort((lengths, keys[:, 0]))
    return np.lexsort((lengths, keys[:, 1], keys[:, 0]))


cdef int check_columns(uint64_t[:, ::1] net, const uint8_t[::1] len, int family, bint mask_host_bits) except -1:
    """Clear host bits in place, or refuse them; refuse columns that are no prefixes."""
    cdef Py_ssize_t i, n = net.shape[0], bad = -1
    cdef int bits = 32 if family == 4 else 128
    cdef kf_key key, masked
    if len.shape[0] != n:
        raise ValueError(f"networks and prefix_lens differ in length: {n}, {len.shape[0]}")
    with nogil:
        for i in range(n):
            if len[i] > bits:
                bad = i
                break
            key = kf_key_of(net[i, 0], net[i, 1])
            masked = key & kf_key_mask(len[i])
            if masked != key and not mask_host_bits:
                bad = i
                break
            net[i, 0], net[i, 1] = kf_key_hi(masked), kf_key_lo(masked)
    if bad < 0:
        return 0
    if len[bad] > bits:
        raise AddressError(f"not an IPv{family} prefix length: {len[bad]} at {bad}")
    raise AddressError(f"not an IPv{family} prefix: {text_of(kf_key_of(net[bad, 0], net[bad, 1]), len[bad], family)} "
                       f"at {bad} has host bits set")
