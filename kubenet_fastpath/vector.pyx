"""Columns that callers give to batch verbs, and columns that these give back."""

import numpy as np

cimport numpy as cnp

cnp.import_array()


cdef object vector_given(object value, int kind, bint writable, str name):
    """What is not simply such an array: another object's buffer, or a mistake."""
    dtype = cnp.PyArray_DescrFromType(kind)
    if isinstance(value, np.ndarray):
        array = value
    else:
        try:
            array = np.frombuffer(value, dtype) if isinstance(value, (bytes, bytearray)) else np.asarray(
                memoryview(value))
        except (TypeError, ValueError) as error:
            raise TypeError(f"{name} must be an array of {dtype}, not {type(value).__name__}") from error
    if array.dtype != dtype or not array.dtype.isnative or array.ndim != 1:
        raise ValueError(f"{name} must be a (N,) array of {dtype}, not {array.shape} {array.dtype}")
    if not array.flags.c_contiguous or not array.flags.aligned:
        raise ValueError(f"{name} must be contiguous: copy it with np.ascontiguousarray")
    if writable and not array.flags.writeable:
        raise ValueError(f"{name} is read-only")
    return array


cdef object vector_new(Py_ssize_t n, int kind):
    """An array with whatever is in its memory."""
    cdef cnp.npy_intp size = n
    return cnp.PyArray_SimpleNew(1, &size, kind)


cdef int vector_length(object array, Py_ssize_t n, str name) except -1:
    if cnp.PyArray_DIM(array, 0) != n:
        raise ValueError(f"{name} has {cnp.PyArray_DIM(array, 0)} rows, not {n}")
    return 0
