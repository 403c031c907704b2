# Nothing for Python: the C interface is in bridge.pxd.
