# Nothing for Python: the C interface is in resolution.pxd.
