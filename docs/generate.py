"""Owns the writing of the reference pages that are made from the code, so that they cannot differ from it.

    python docs/generate.py            writes them
    python docs/generate.py --check    fails where one is out of date

The text of each page comes from a file of its own under `generators/`. The examples of plugins are the modules that
`medtrans plugins new` writes, under names of their own.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

from generators.cli_page import cli_page
from generators.components_page import components_page
from generators.config_page import config_page
from generators.hooks_page import hooks_page

from medtrans.scaffold import Scaffold

REFERENCE = Path(__file__).parent / "reference"
EXAMPLES = Path(__file__).parent / "examples"
EXAMPLE_NAMES = {
    "generator": "small_unet",
    "discriminator": "patch_gan",
    "loss": "edges",
    "dataset": "subject_folders",
    "metric": "correlation",
    "method": "late_adversary",
    "transform": "contrast",
    "callback": "curves_table",
}
"""What the example of each kind is called."""
NOTICE = "<!-- Made by docs/generate.py from the code; change the code, not this page. -->\n"


def main() -> int:
    """Write the pages, or with --check say which are out of date."""
    parser = argparse.ArgumentParser(description="Write the reference pages that are made from the code.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a page is out of date")
    if parser.parse_args().check:
        stale = stale_pages()
        stale += stale_examples()
        for name in stale:
            print(f"docs/{name if '/' in name else f'reference/{name}'}: is out of date; run python docs/generate.py")
        return 1 if stale else 0
    for name, text in pages().items():
        (REFERENCE / name).write_text(text, encoding="utf-8")
        print(f"docs/reference/{name}")
    for name, text in examples().items():
        (EXAMPLES / name).write_text(text, encoding="utf-8")
        print(f"docs/examples/{name}")
    return 0


def examples() -> dict[str, str]:
    """The text of the example of each kind by its file's name."""
    return {f"{name}.py": Scaffold(name, kind).rendered(f"kinds/{kind}.py") for kind, name in EXAMPLE_NAMES.items()}


def stale_examples() -> list[str]:
    """The examples whose file is missing or says something else than the template."""
    return [
        f"examples/{name}"
        for name, text in examples().items()
        if not (EXAMPLES / name).is_file() or (EXAMPLES / name).read_text(encoding="utf-8") != text
    ]


def pages() -> dict[str, str]:
    """The text of every generated page by its file's name."""
    makers: Mapping[str, Callable[[], str]] = {
        "config.md": config_page,
        "components.md": components_page,
        "hooks.md": hooks_page,
        "cli.md": cli_page,
    }
    return {name: f"{NOTICE}\n{maker().rstrip()}\n" for name, maker in makers.items()}


def stale_pages() -> list[str]:
    """The pages whose file is missing or says something else than the code."""
    return [
        name
        for name, text in pages().items()
        if not (REFERENCE / name).is_file() or (REFERENCE / name).read_text(encoding="utf-8") != text
    ]


if __name__ == "__main__":
    raise SystemExit(main())
