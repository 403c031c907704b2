# Nothing for Python: the C interface is in flowtable.pxd.
