# Nothing for Python: the C interface is in snapshot.pxd.
