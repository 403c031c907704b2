# Nothing for Python: the C interface is in multicast.pxd.
