# Nothing for Python: the C interface is in arena.pxd.
