"""Images of tables, written, mapped and judged.

An image is the block of lookup arrays (csrc/lpm.h) as it stands in memory, whose head then has the number of prefixes
and a CRC-32, a line of padding (vector loads read two bytes past a slot), and the columns of the prefixes in order: networks
(4 or 16 octets in the machine's order of halves), next hops, lengths. All is in the machine's byte order: on a
machine of the other one the version does not match.

The checksum finds accidents; it stops nobody who can compute one. So whatever lookups follow is judged besides
(csrc/valid.h): an image that passes may answer nonsense, but no lookup leaves it.
"""

import mmap
import os
import secrets
import zlib
cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp

import numpy as np

from .errors import TableFileError

from .arena cimport KF_LPM_HEAD, KF_LPM_VERSION, LINE, kf_block_alloc, kf_block_free, kf_lpm

cdef extern from "csrc/valid.h" nogil:
    const char* KF_LPM_MAGIC
    int kf_lpm_valid(const kf_lpm* t, uint64_t size)
    bint kf_head_valid(const kf_lpm* t, uint64_t size)

cdef enum: CRC_BYTES = 4        # the last ones of the head


@cython.final
cdef class AlignedBytes:
    """Memory that begins at a line, as lookups need it."""
    cdef void* memory
    cdef Py_ssize_t size
    cdef Py_ssize_t shape[1]
    cdef Py_ssize_t strides[1]

    def __cinit__(self, Py_ssize_t size):
        self.memory = kf_block_alloc(size)
        self.size = self.shape[0] = size
        self.strides[0] = 1
        if self.memory == NULL:
            raise MemoryError

    def __dealloc__(self):
        kf_block_free(<kf_lpm*>self.memory)

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        buffer.buf, buffer.obj, buffer.len, buffer.readonly = self.memory, self, self.size, 0
        buffer.itemsize, buffer.format, buffer.ndim = 1, b"B", 1
        buffer.shape, buffer.strides, buffer.suboffsets, buffer.internal = self.shape, self.strides, NULL, NULL


cdef uint64_t columns_at(const kf_lpm* block):
    return (block.size + LINE - 1) // LINE * LINE + LINE


cdef uint64_t image_size(const kf_lpm* block):
    return columns_at(block) + <uint64_t>block.prefixes * (9 if block.family == 4 else 21)


cdef uint32_t crc_of(const uint8_t[::1] image):
    return zlib.crc32(image[KF_LPM_HEAD:], zlib.crc32(image[:KF_LPM_HEAD - CRC_BYTES]))


cdef object image_memory(const kf_lpm* block, uint32_t prefixes):
    """Memory for an image of a block with so many prefixes."""
    cdef kf_lpm head = block[0]
    head.prefixes = prefixes
    return AlignedBytes(image_size(&head))


cdef object seal_image(object memory, object columns):
    """Make an image of `image_memory` that begins with a copy of the block, and of (networks, prefix_lens, hops)."""
    networks, prefix_lens, hops = columns
    cdef uint8_t[::1] image = memory
    cdef kf_lpm* copy = <kf_lpm*>&image[0]
    cdef uint64_t at = columns_at(copy)
    copy.prefixes = len(hops)
    np.asarray(image[copy.size:at])[:] = 0
    np.asarray(image[at:])[:] = np.concatenate([column.reshape(-1).view(np.uint8)
                                                for column in (networks, hops, prefix_lens)])
    copy.crc = crc_of(image)
    return memory


cdef object columns_of(const uint8_t[::1] image):
    """The (networks, prefix_lens, hops) of a checked image, without a copy."""
    cdef const kf_lpm* block = <const kf_lpm*>&image[0]
    cdef Py_ssize_t at = columns_at(block), n = block.prefixes, size = 4 if block.family == 4 else 16
    octets = np.asarray(image)
    networks = octets[at:at + n * size]
    networks = networks.view(np.uint32) if block.family == 4 else networks.reshape(n, 16)
    at += n * size
    return networks, octets[at + 4 * n:], octets[at:at + 4 * n].view(np.uint32)


cdef object aligned(object image):
    """The bytes where they are, or a copy of them that begins at a line."""
    cdef const uint8_t[::1] view = memoryview(image).cast("B")
    if view.shape[0] == 0 or <size_t>&view[0] % LINE == 0:
        return view
    copy = AlignedBytes(view.shape[0])
    cdef uint8_t[::1] memory = copy
    memory[:] = view
    return copy


cdef kf_lpm* checked_image(const uint8_t[::1] image) except NULL:
    """The block of an image that lookups may follow; refuses any other."""
    cdef uint64_t size = image.shape[0]
    cdef kf_lpm* block
    cdef int valid
    if size < KF_LPM_HEAD or memcmp(&image[0], KF_LPM_MAGIC, 8):
        raise TableFileError("no saved table: it does not begin with KFROUTES")
    block = <kf_lpm*>&image[0]
    if block.version != KF_LPM_VERSION:
        raise TableFileError(f"a saved table of version {block.version}, this package reads {KF_LPM_VERSION}: save the "
                             f"table anew")
    if not kf_head_valid(block, size):
        raise TableFileError("a saved table that is cut or damaged: its head does not fit what follows")
    if image_size(block) != size:
        raise TableFileError(f"a saved table that is cut or damaged: {size} bytes, of {image_size(block)}")
    if crc_of(image) != block.crc:
        raise TableFileError("a saved table that is damaged: its checksum differs")
    with nogil:
        valid = kf_lpm_valid(block, size)
    if valid < 0:
        raise MemoryError
    if not valid:
        raise TableFileError("a saved table that leads outside itself: it was not written by this package")
    return block


cdef object map_image(object path):
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return b""
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


cdef int write_image(object path, object image) except -1:
    """Write beside the path, then put it in its place: readers of an older file keep that.

    A link goes on to lead to the file; a pipe or a device is written to.
    """
    path = os.path.realpath(os.fsdecode(path))
    if os.path.exists(path) and not os.path.isfile(path):
        with open(path, "wb") as file:
            file.write(image)
        return 0
    beside = os.path.join(os.path.dirname(path), f".table-{secrets.token_hex(8)}")
    with open(beside, "xb") as file:        # with the rights that any new file gets
        try:
            file.write(image)
            file.close()
            os.replace(beside, path)
        except BaseException:
            os.unlink(beside)
            raise
    return 0
