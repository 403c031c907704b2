# Nothing for Python: the C interface is in options.pxd.
