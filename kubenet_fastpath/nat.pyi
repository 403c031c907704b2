# Nothing for Python: the C interface is in nat.pxd.
