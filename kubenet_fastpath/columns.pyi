# Nothing for Python: the C interface is in columns.pxd.
