# Nothing for Python: the C interface is in options6.pxd.
