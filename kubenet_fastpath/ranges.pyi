# Nothing for Python: the C interface is in ranges.pxd.
