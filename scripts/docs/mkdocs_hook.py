"""The hook by which `mkdocs build` gets the pages that are made from the code; `mkdocs.yml` names it."""

from __future__ import annotations

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from reference_pages import PAGES


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to those that lie in `docs/`."""
    for place, make in PAGES.items():
        files.append(File.generated(config, place, content=make()))
    return files
