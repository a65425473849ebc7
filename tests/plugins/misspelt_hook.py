"""Has a hook that nobody calls."""

from medtrans import hookimpl


@hookimpl
def medtrans_generator():
    return []
