"""The command line.

Read first: `app.py`.
"""

from medtrans.cli.app import main

__all__ = ["main"]
