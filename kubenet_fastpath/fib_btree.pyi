# Nothing for Python: the C interface is in fib_btree.pxd.
