# Nothing for Python: the C interface is in forward6.pxd.
