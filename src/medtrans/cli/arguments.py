"""Arguments that several verbs share, how they are read, and what verbs print."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medtrans.errors import ConfigError

if TYPE_CHECKING:
    from medtrans.volume import ReadingRules

__all__ = [
    "PluginFiles",
    "Readings",
    "Sources",
    "configs_and_overrides",
    "leads",
    "pairs",
    "print_table",
    "reading_rules",
    "require_folder",
]


Readings = Annotated[
    list[str] | None,
    typer.Option("--reading", metavar="RULE=VALUE", help="How a doubtful image is read, such as trust=sform."),
]
PluginFiles = Annotated[list[Path] | None, typer.Option("--plugin", help="A single-file plugin to have at hand.")]
Sources = Annotated[
    list[str],
    typer.Argument(help="Config files or names of shipped configs, later ones win; then key=value overrides."),
]


def configs_and_overrides(sources: list[str]) -> tuple[list[str], list[str]]:
    """What names a config, and what overrides a key.

    A file that is there, a path whose `=` lies in a folder's name, and a name that ends as a config file does and
    begins with no key are configs.
    """
    overrides = [one for one in sources if _overrides(one)]
    return [one for one in sources if one not in overrides], overrides


def _overrides(source: str) -> bool:
    key, equals, _ = source.partition("=")
    if not equals or "/" in key or os.path.lexists(source):
        return False
    if not source.endswith((".yaml", ".yml")):
        return True
    from medtrans.config.schema import RunConfig

    return key.split(".")[0] in RunConfig.model_fields


def pairs(images: list[str], *, example: str = "t1=scan.nii.gz") -> dict[str, Path]:
    """Paths by modality.

    Raises:
        ConfigError: one is not MODALITY=PATH.
    """
    pairs = {}
    for image in images:
        modality, equals, path = image.partition("=")
        if not equals:
            raise ConfigError(f"--image {image}: expected MODALITY=PATH, such as {example}")
        pairs[modality] = Path(path)
    return pairs


def reading_rules(texts: list[str]) -> ReadingRules:
    """The rules that `--reading` sets.

    Raises:
        ConfigError: one is not RULE=VALUE, or no such rule or value is known.
    """
    from pydantic import ValidationError
    from yaml import YAMLError, safe_load

    from medtrans.config.schema import ReadingSettings
    from medtrans.utils.messages import wording

    given = {}
    for text in texts:
        rule, equals, value = text.partition("=")
        try:
            given[rule] = safe_load(value) if equals else None
        except YAMLError as error:
            raise ConfigError(f"--reading {text}: the value is no YAML: {error}") from error
    try:
        return ReadingSettings.model_validate(given).rules
    except ValidationError as error:
        known = list(ReadingSettings.model_fields)
        raise ConfigError(
            *(f"--reading {'.'.join(map(str, one['loc']))}: {wording(dict(one), known)}" for one in error.errors())
        ) from error


def require_folder(json_file: Path) -> None:
    """Refuse, before any work, a file that could not be written after it.

    Raises:
        ConfigError: its folder is missing.
    """
    if not json_file.parent.is_dir():
        raise ConfigError(f"--json {json_file}: there is no folder {json_file.parent}; make it, or correct the path")


def leads() -> bool:
    """Whether this process is the one that shows results."""
    from medtrans.distributed.launch import place

    return place().rank == 0


def print_table(table: object) -> None:
    """Show one of rich's tables on stdout."""
    from rich.console import Console

    Console().print(table)
