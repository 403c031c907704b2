# Nothing for Python: the C interface is in tracker.pxd.
