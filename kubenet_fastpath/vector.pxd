"""C interface of `vector`: one-dimensional arrays that callers give, as pointers."""

cimport numpy as cnp
from libc.stdint cimport int64_t

cdef object vector_given(object value, int kind, bint writable, str name)
cdef object vector_new(Py_ssize_t n, int kind)
cdef int vector_length(object array, Py_ssize_t n, str name) except -1


cdef inline object vector(object value, int kind, bint writable, str name):
    """A contiguous array of one dimension and one of numpy's types (NPY_*), the one given or what its buffer holds.

    A memoryview says the same in ten times the time, which tells in calls of 256.
    """
    if (cnp.PyArray_CheckExact(value) and cnp.PyArray_TYPE(value) == kind and cnp.PyArray_NDIM(value) == 1
            and (cnp.PyArray_ISCARRAY(value) if writable else cnp.PyArray_ISCARRAY_RO(value))):
        return value
    return vector_given(value, kind, writable, name)


cdef inline void* vector_data(object array) noexcept:
    return cnp.PyArray_DATA(array)


cdef inline Py_ssize_t vector_size(object array) noexcept:
    return cnp.PyArray_DIM(array, 0)
