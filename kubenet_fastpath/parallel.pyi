# Nothing for Python: the C interface is in parallel.pxd.
