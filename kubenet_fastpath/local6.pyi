# Nothing for Python: the C interface is in local6.pxd.
