# Nothing for Python: the C interface is in header6.pxd.
