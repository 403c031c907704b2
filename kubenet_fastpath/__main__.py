"""`python -m kubenet_fastpath` is `kubenet-fastpath`."""

from .cli import main

raise SystemExit(main())
