# Nothing for Python: the C interface is in fib_sweep.pxd.
