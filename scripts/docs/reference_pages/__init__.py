"""The reference pages that are made from the code when the site is built, so that they cannot differ from it."""

from __future__ import annotations

from .cli_page import cli_page
from .components_page import components_page
from .config_page import config_page
from .hooks_page import hooks_page

PAGES = {
    "reference/config.md": config_page,
    "reference/components.md": components_page,
    "reference/hooks.md": hooks_page,
    "reference/cli.md": cli_page,
}
"""What makes the text of each page, by its place below `docs/`."""
