# Nothing for Python: the C interface is in route6.pxd.
