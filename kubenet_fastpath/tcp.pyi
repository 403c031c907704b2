# Nothing for Python: the C interface is in tcp.pxd.
