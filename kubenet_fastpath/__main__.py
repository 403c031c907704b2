"""`python -m kubenet_fastpath` is `kubenet-fastpath`."""

from .cli import main

if __name__ == "__main__":
    raise SystemExit(main())
