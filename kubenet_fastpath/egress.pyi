# Nothing for Python: the C interface is in egress.pxd.
