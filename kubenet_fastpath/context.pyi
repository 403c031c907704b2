# Nothing for Python: the C interface is in context.pxd.
