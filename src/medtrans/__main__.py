"""`python -m medtrans`."""

from __future__ import annotations

from medtrans.cli.app import main

main()
