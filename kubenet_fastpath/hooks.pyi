"""Kernels alone: nothing for Python. See the .pxd."""
