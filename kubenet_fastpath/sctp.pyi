# Nothing for Python: the C interface is in sctp.pxd.
