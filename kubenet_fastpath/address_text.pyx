"""Addresses and prefixes as text, a column at a time.

A column of texts is read where it lies, without the GIL: numpy's `S` and `U`, Arrow's strings by the PyCapsule interface
of its C data interface (so pyarrow, polars and Arrow-backed pandas need not be imported). Texts that are Python
objects are pinned first.

Longer than its neighbours, for each of these columns has a reader of its own, and they share what parses and pins.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.pycapsule cimport PyCapsule_GetPointer
cimport cython
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memset

import numpy as np

from .isa cimport isa_number

cdef extern from "csrc/address_text.h" nogil:
    enum:
        KF_IPV4_TEXT
        KF_IPV6_TEXT
    void kf_text_prepare()
    size_t kf_text_length(const char* text, size_t width)
    bint kf_text_ipv4(int isa, const char* text, size_t len, uint32_t* address)
    bint kf_text_ipv6(int isa, const char* text, size_t len, uint8_t* octets)
    int kf_text_length_of(const char* text, size_t len, int bits, size_t* address)
    uint64_t kf_text_half(const uint8_t* octets)
    size_t kf_ipv4_text(uint32_t address, char* text)
    size_t kf_ipv6_text(const uint8_t* octets, char* text)

cdef extern from "csrc/arrow.h" nogil:
    ctypedef struct ArrowSchema:
        const char* format
        ArrowSchema* dictionary
    ctypedef struct ArrowArray:
        int64_t length, null_count, offset, n_buffers
        const void** buffers
        ArrowArray* dictionary
    ctypedef struct ArrowArrayStream:
        int (*get_schema)(ArrowArrayStream*, ArrowSchema*)
        int (*get_next)(ArrowArrayStream*, ArrowArray*)
        const char* (*get_last_error)(ArrowArrayStream*)
    bint kf_schema_is_moved(const ArrowSchema* schema)
    bint kf_array_is_moved(const ArrowArray* array)
    bint kf_stream_is_moved(const ArrowArrayStream* stream)
    void kf_release_schema(ArrowSchema* schema)
    void kf_release_array(ArrowArray* array)

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL

kf_text_prepare()

cdef enum: NARROWED = 48        # characters; no address has more

cdef dict INDEX_SIZES = {b"c": 1, b"C": 1, b"s": 2, b"S": 2, b"i": 4, b"I": 4, b"l": 8, b"L": 8}


cdef bint text_at(const text_chunk_t* c, Py_ssize_t i, char* narrowed, const char** text, size_t* size) noexcept nogil:
    """The text of a row; False for a null. Texts of 32-bit characters are put into `narrowed`."""
    cdef const uint32_t* wide
    cdef const char* view
    cdef Py_ssize_t k
    cdef int32_t length
    if c.kind == COLUMN_NULLS:
        return False
    i += c.first
    if c.valid != NULL and not c.valid[i >> 3] >> (i & 7) & 1:
        return False
    if c.indices != NULL:
        k = index_at(c.indices, c.index_size, i)
        return 0 <= k < c.dictionary.n and text_at(c.dictionary, k, narrowed, text, size)
    if c.kind == COLUMN_FIXED:
        text[0] = c.data + i * c.stride
        size[0] = kf_text_length(text[0], c.width)
    elif c.kind == COLUMN_UCS4:
        wide = <const uint32_t*>(c.data + i * c.stride)
        k = c.width
        while k and wide[k - 1] == 0:
            k -= 1
        size[0], text[0] = k, narrowed
        for k in range(min(k, <Py_ssize_t>NARROWED)):
            narrowed[k] = <char>wide[k] if wide[k] < 128 else <char>0xFF
    elif c.kind == COLUMN_POINTERS:
        text[0], size[0] = c.pointers[i], c.lengths[i]
        return text[0] != NULL
    elif c.kind == COLUMN_OFFSETS32:
        text[0] = c.data + (<const int32_t*>c.offsets)[i]
        size[0] = (<const int32_t*>c.offsets)[i + 1] - (<const int32_t*>c.offsets)[i]
    elif c.kind == COLUMN_OFFSETS64:
        text[0] = c.data + (<const int64_t*>c.offsets)[i]
        size[0] = (<const int64_t*>c.offsets)[i + 1] - (<const int64_t*>c.offsets)[i]
    else:
        view = c.data + 16 * i
        length = (<const int32_t*>view)[0]
        size[0], text[0] = length, view + 4
        if length > 12:
            text[0] = c.pointers[(<const int32_t*>view)[2]] + (<const int32_t*>view)[3]
    return True


cdef Py_ssize_t index_at(const void* indices, int size, Py_ssize_t i) noexcept nogil:
    if size == 1:
        return (<const uint8_t*>indices)[i]
    if size == 2:
        return (<const uint16_t*>indices)[i]
    if size == 4:
        return (<const uint32_t*>indices)[i]
    return <Py_ssize_t>(<const uint64_t*>indices)[i]


cdef bint is_null(object value) except -1:
    """None, NaN and NaT, which differ from themselves, or pandas' NA, of which that is unknown."""
    if value is None:
        return True
    differs = value != value
    return differs is value or (isinstance(differs, bool | np.bool_) and bool(differs))


@cython.final
cdef class TextColumn:
    """A column of texts, of whatever kind.

    Parameters
    ----------
    texts : ndarray of `S`, `U` or objects; object with `__arrow_c_stream__` or `__arrow_c_array__`; iterable
        Of str or bytes, None for a null.

    Raises
    ------
    TypeError
        For something else, or a text that is none.
    """

    def __cinit__(self, texts):
        self.owners = []
        if isinstance(texts, str | bytes):
            raise TypeError(f"a column of texts, not one text: {texts!r}")
        if isinstance(texts, np.ndarray):
            self.add_array(texts)
        elif hasattr(texts, "__arrow_c_stream__"):
            try:
                stream = texts.__arrow_c_stream__()
            except ImportError:                 # pandas without pyarrow
                self.add_array(np.asarray(texts))
            else:
                add_stream(self, stream)
        elif hasattr(texts, "__arrow_c_array__"):
            schema, array = texts.__arrow_c_array__()
            self.add_arrow(schema, array)
        elif hasattr(texts, "__array__"):
            self.add_array(np.asarray(texts))
        else:
            self.add_texts(tuple(texts))

    def __dealloc__(self):
        cdef Py_ssize_t i
        for i in range(self.n_chunks):
            free(<void*>self.chunks[i].pointers)
            free(<void*>self.chunks[i].lengths)
            if self.chunks[i].dictionary != NULL:
                free(<void*>self.chunks[i].dictionary.pointers)
                free(<void*>self.chunks[i].dictionary)
        free(self.chunks)

    cdef text_chunk_t* add(self) except NULL:
        cdef text_chunk_t* grown = <text_chunk_t*>realloc(self.chunks, (self.n_chunks + 1) * sizeof(text_chunk_t))
        if grown == NULL:
            raise MemoryError
        self.chunks = grown
        memset(&grown[self.n_chunks], 0, sizeof(text_chunk_t))
        self.n_chunks += 1
        return &grown[self.n_chunks - 1]

    cdef int add_array(self, object array) except -1:
        cdef text_chunk_t* c
        if array.ndim != 1:
            raise ValueError(f"texts must be of one dimension: {array.shape}")
        if array.dtype.kind not in "SU":
            return self.add_texts(tuple(array.tolist()))
        if not (array.dtype.isnative and array.flags.aligned):
            array = array.astype(array.dtype.newbyteorder("="))
        c = self.add()
        self.owners.append(array)
        c.kind, c.width = COLUMN_FIXED, array.dtype.itemsize
        if array.dtype.kind == "U":
            c.kind, c.width = COLUMN_UCS4, array.dtype.itemsize // 4
        c.n, c.stride, c.data = len(array), array.strides[0], <const char*><size_t>array.ctypes.data
        self.size += c.n
        return 0

    cdef int add_texts(self, tuple texts) except -1:
        cdef text_chunk_t* c = self.add()
        cdef Py_ssize_t i, size, n = len(texts)
        cdef int64_t* lengths = <int64_t*>malloc((n + 1) * sizeof(int64_t))
        c.pointers, c.lengths = <const char**>malloc((n + 1) * sizeof(char*)), lengths
        if c.pointers == NULL or lengths == NULL:
            raise MemoryError
        c.kind, c.n = COLUMN_POINTERS, n
        self.owners.append(texts)
        for i in range(n):
            text = texts[i]
            if isinstance(text, bytes):
                c.pointers[i], lengths[i] = PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text)
            elif isinstance(text, str):
                try:
                    c.pointers[i] = PyUnicode_AsUTF8AndSize(text, &size)
                except UnicodeEncodeError:      # a lone surrogate: no address
                    c.pointers[i], size = "", 0
                lengths[i] = size
            elif is_null(text):
                c.pointers[i], lengths[i] = NULL, 0
            else:
                raise TypeError(f"texts must be str or bytes: {text!r} at {i}")
        self.size += n
        return 0

    cdef int add_arrow(self, object schema, object array) except -1:
        self.owners.append((schema, array))
        return add_arrow_array(self, <ArrowSchema*>PyCapsule_GetPointer(schema, "arrow_schema"),
                               <ArrowArray*>PyCapsule_GetPointer(array, "arrow_array"))

    cdef Py_ssize_t parse(self, int family, int isa, Py_ssize_t start, Py_ssize_t n, char* out,
                          uint8_t* ok) noexcept nogil:
        """Parse rows start..start + n - 1: uint32 in host order or 16 octets each, 0 where ok is 0; how many are not.

        Rows have to exist.
        """
        cdef Py_ssize_t chunk = 0, i, bad = 0
        cdef char narrowed[NARROWED]
        cdef const char* text
        cdef size_t size
        cdef uint32_t* ipv4 = <uint32_t*>out
        cdef uint8_t* ipv6 = <uint8_t*>out
        for i in range(n):
            while start >= self.chunks[chunk].n:
                start -= self.chunks[chunk].n
                chunk += 1
            ok[i] = text_at(&self.chunks[chunk], start, narrowed, &text, &size)
            start += 1
            if family == 4:
                if ok[i]:
                    ok[i] = size <= <size_t>KF_IPV4_TEXT and kf_text_ipv4(isa, text, size, &ipv4[i])
                if not ok[i]:
                    ipv4[i] = 0
            else:
                if ok[i]:
                    ok[i] = size <= <size_t>KF_IPV6_TEXT and kf_text_ipv6(isa, text, size, &ipv6[16 * i])
                if not ok[i]:
                    memset(&ipv6[16 * i], 0, 16)
            bad += not ok[i]
        return bad


@cython.final
cdef class ArrowBox:
    """What a stream has given, released once."""
    cdef ArrowSchema schema
    cdef ArrowArray array

    def __cinit__(self):
        memset(&self.schema, 0, sizeof(ArrowSchema))
        memset(&self.array, 0, sizeof(ArrowArray))

    def __dealloc__(self):
        kf_release_schema(&self.schema)
        kf_release_array(&self.array)


cdef object error_of(ArrowArrayStream* stream):
    cdef const char* message = stream.get_last_error(stream)
    return "unknown" if message == NULL else message.decode("utf-8", "replace")


cdef int set_strings(text_chunk_t* c, const ArrowSchema* schema, const ArrowArray* array) except -1:
    """Let a chunk refer to the texts of an Arrow array."""
    cdef bytes format = schema.format
    cdef Py_ssize_t i
    c.n, c.first = array.length, array.offset
    if format == b"n":
        c.kind = COLUMN_NULLS
        return 0
    if format == b"+s":
        raise TypeError("a column of texts, not a table: choose one of its columns")
    if format not in (b"u", b"z", b"U", b"Z", b"vu", b"vz"):
        raise TypeError(f"a column of texts, not of Arrow type {format.decode('utf-8', 'replace')!r}")
    if array.n_buffers < 3:
        raise ValueError(f"an Arrow array of texts has at least 3 buffers: {array.n_buffers}")
    c.valid = <const uint8_t*>array.buffers[0] if array.null_count else NULL
    if format in (b"u", b"z"):
        c.kind, c.offsets, c.data = COLUMN_OFFSETS32, array.buffers[1], <const char*>array.buffers[2]
    elif format in (b"U", b"Z"):
        c.kind, c.offsets, c.data = COLUMN_OFFSETS64, array.buffers[1], <const char*>array.buffers[2]
    else:
        c.kind, c.data = COLUMN_VIEWS, <const char*>array.buffers[1]
        c.pointers = <const char**>malloc(array.n_buffers * sizeof(char*))
        if c.pointers == NULL:
            raise MemoryError
        for i in range(array.n_buffers - 2):
            c.pointers[i] = <const char*>array.buffers[i + 2]
    return 0


cdef int add_arrow_array(TextColumn column, const ArrowSchema* schema, const ArrowArray* array) except -1:
    cdef text_chunk_t* c
    cdef text_chunk_t* dictionary
    if kf_schema_is_moved(schema) or kf_array_is_moved(array):
        raise ValueError("the Arrow array is gone: somebody else has taken it over")
    if array.length < 0 or array.offset < 0:
        raise ValueError(f"an Arrow array of length {array.length} from {array.offset}")
    if array.length == 0:
        return 0
    if array.dictionary == NULL:
        c = column.add()
        set_strings(c, schema, array)
    else:
        if schema.dictionary == NULL or schema.format not in INDEX_SIZES or array.n_buffers < 2:
            raise TypeError("a column of texts, not an Arrow dictionary without indices")
        dictionary = <text_chunk_t*>malloc(sizeof(text_chunk_t))
        if dictionary == NULL:
            raise MemoryError
        memset(dictionary, 0, sizeof(text_chunk_t))
        c = column.add()
        c.dictionary = dictionary
        set_strings(dictionary, schema.dictionary, array.dictionary)
        c.n, c.first, c.indices = array.length, array.offset, array.buffers[1]
        c.valid = <const uint8_t*>array.buffers[0] if array.null_count else NULL
        c.index_size = INDEX_SIZES[schema.format]
    column.size += c.n
    return 0


cdef int add_stream(TextColumn column, object capsule) except -1:
    cdef ArrowArrayStream* stream = <ArrowArrayStream*>PyCapsule_GetPointer(capsule, "arrow_array_stream")
    cdef ArrowBox box = ArrowBox()
    cdef ArrowBox chunk
    column.owners.append((capsule, box))
    if kf_stream_is_moved(stream):
        raise ValueError("the Arrow stream is gone: somebody else has read it")
    if stream.get_schema(stream, &box.schema):
        raise ValueError(f"the Arrow stream has no schema: {error_of(stream)}")
    while True:
        chunk = ArrowBox()
        if stream.get_next(stream, &chunk.array):
            raise ValueError(f"the Arrow stream broke: {error_of(stream)}")
        if kf_array_is_moved(&chunk.array):
            return 0
        column.owners.append(chunk)
        add_arrow_array(column, &box.schema, &chunk.array)


def parse_addresses(texts, family=4, *, isa=None):
    """Read addresses from a column of texts, exactly as `ipaddress` does.

    Parameters
    ----------
    texts : ndarray of `S`, `U` or objects; object with `__arrow_c_stream__` or `__arrow_c_array__`; iterable
        Of str or bytes, None for a null. pyarrow, polars and pandas columns will do.
    family : int
        4 or 6.
    isa : str, optional
        `"scalar"`, `"avx2"` or `"avx512"`, instead of the best that the CPU has.

    Returns
    -------
    addresses : (N,) ndarray of uint32 in host order, or (N, 16) ndarray of uint8 in network order
        0 where the text is no address of this family.
    ok : (N,) ndarray of bool

    Raises
    ------
    TypeError
        For what is no column of texts.
    ValueError
        For another family, or a variant that this CPU has not.

    Notes
    -----
    Unlike `ipaddress`, an IPv6 scope (`fe80::1%eth0`) is refused: it names an interface. Some 8 ns an IPv4 and 20 ns
    an IPv6 address with AVX-512; the GIL is released.

    Examples
    --------
    >>> addresses, ok = parse_addresses(["10.244.1.7", "10.244.1.07", None])
    >>> addresses.tolist(), ok.tolist()
    ([183763207, 0, 0], [True, False, False])
    """
    if family not in (4, 6):
        raise ValueError(f"family must be 4 or 6: {family}")
    cdef TextColumn column = texts if isinstance(texts, TextColumn) else TextColumn(texts)
    cdef Py_ssize_t n = column.size
    cdef int version = family, variant = isa_number(isa)
    addresses = np.empty(n, np.uint32) if family == 4 else np.empty((n, 16), np.uint8)
    ok = np.empty(n, np.bool_)
    cdef uint8_t[::1] octets = addresses.reshape(-1).view(np.uint8)
    cdef uint8_t[::1] good = ok.view(np.uint8)
    if n:
        with nogil:
            column.parse(version, variant, 0, n, <char*>&octets[0], &good[0])
    return addresses, ok


def address_texts(addresses):
    """Write addresses as text, as `str` of an `ipaddress` address does (RFC 5952).

    Parameters
    ----------
    addresses : (N,) ndarray of uint32 in host order, or (N, 16) ndarray of uint8 in network order

    Returns
    -------
    (N,) ndarray of S15 or S39

    Raises
    ------
    ValueError
        For a wrong shape or type.

    Examples
    --------
    >>> address_texts(np.array([0x0AF40107], np.uint32)).tolist()
    [b'10.244.1.7']
    """
    column = np.asarray(addresses)
    cdef bint is_ipv4 = column.ndim == 1 and column.dtype.kind == "u" and column.dtype.itemsize == 4
    if not is_ipv4 and not (column.ndim == 2 and column.shape[1] == 16 and column.dtype == np.uint8):
        raise ValueError(f"addresses must be (N,) uint32 or (N, 16) uint8: {column.shape} {column.dtype}")
    cdef Py_ssize_t i, n = len(column), width = KF_IPV4_TEXT if is_ipv4 else 39
    texts = np.zeros(n, f"S{width}")
    cdef char[::1] out = texts.view(np.int8)
    cdef const uint8_t[::1] octets = np.ascontiguousarray(column, np.uint32 if is_ipv4 else np.uint8).reshape(-1).view(
        np.uint8)
    cdef char text[64]
    cdef size_t size
    with nogil:
        for i in range(n):
            if is_ipv4:
                size = kf_ipv4_text((<const uint32_t*>&octets[4 * i])[0], text)
            else:
                size = kf_ipv6_text(&octets[16 * i], text)
            memcpy(&out[i * width], text, size)
    return texts


cdef int text_prefix(const char* text, Py_ssize_t size, int family, uint64_t* hi, uint64_t* lo) noexcept nogil:
    """The length of a prefix, its network (IPv4 in the upper 32 bits) in hi and lo; -1 for what is none here.

    Host bits are left as they are.
    """
    cdef size_t address
    cdef uint32_t ipv4
    cdef uint8_t octets[16]
    cdef int length = kf_text_length_of(text, size, 32 if family == 4 else 128, &address)
    if length < 0:
        return -1
    if family == 4:
        if not kf_text_ipv4(0, text, address, &ipv4):
            return -1
        hi[0], lo[0] = <uint64_t>ipv4 << 32, 0
    else:
        if not kf_text_ipv6(0, text, address, octets):
            return -1
        hi[0], lo[0] = kf_text_half(octets), kf_text_half(&octets[8])
    return length


cdef object text_of_key(uint64_t hi, uint64_t lo, int family):
    """An address as text."""
    cdef char text[64]
    cdef uint8_t octets[16]
    cdef size_t size
    cdef int i
    if family == 4:
        size = kf_ipv4_text(<uint32_t>(hi >> 32), text)
    else:
        for i in range(8):
            octets[i], octets[8 + i] = <uint8_t>(hi >> (56 - 8 * i)), <uint8_t>(lo >> (56 - 8 * i))
        size = kf_ipv6_text(octets, text)
    return text[:size].decode("ascii")
