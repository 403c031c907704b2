# Nothing for Python: the C interface is in kubeproxy.pxd.
