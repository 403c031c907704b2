# Nothing for Python: the C interface is in fastpath.pxd.
