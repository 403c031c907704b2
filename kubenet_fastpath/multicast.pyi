# Nothing for Python: the C interface is in hooks.pxd.
