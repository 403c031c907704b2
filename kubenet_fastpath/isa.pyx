"""The vector instructions that kernels use, found once at import.

The environment variable `KUBENET_FASTPATH_ISA` (`scalar`, `avx2` or `avx512`) lowers the choice for all kernels;
a table's argument `isa` sets its own. Every variant of a kernel gives the same results.
"""

import os

cdef extern from "csrc/isa.h" nogil:
    int kf_best_isa()

cdef object VARIABLE = "KUBENET_FASTPATH_ISA"
cdef object NAMES = ("scalar", "avx2", "avx512")


def available():
    """Return the names of the variants that this CPU runs, the best one last.

    Examples
    --------
    >>> available()[0]
    'scalar'
    """
    return NAMES[:kf_best_isa() + 1]


cdef object chosen():
    best = NAMES[kf_best_isa()]
    name = os.environ.get(VARIABLE) or best
    if name not in NAMES:
        raise ImportError(f"{VARIABLE} must be one of {', '.join(NAMES)}: {name!r}")
    return name if name in available() else best


cdef object DEFAULT = chosen()


def default():
    """Return the name of the variant that kernels use unless told otherwise."""
    return DEFAULT


cdef int isa_number(object name) except -1:
    """The number of a variant, of the default one for None."""
    if name is None:
        name = DEFAULT
    if name not in available():
        raise ValueError(f"isa must be one of {', '.join(available())} on this machine: {name!r}")
    return NAMES.index(name)
