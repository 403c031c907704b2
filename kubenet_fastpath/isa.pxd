"""Numbers of the kernel variants, in growing order: a CPU that has one has all before it."""

cdef extern from "csrc/isa.h" nogil:
    enum:
        KF_SCALAR
        KF_AVX2
        KF_AVX512
        KF_ISAS

cdef int isa_number(object name) except -1
