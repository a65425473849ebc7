"""Measures a config on this machine: `python -m benchmarks CONFIG`."""

from __future__ import annotations

import json
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from medtrans.cli.arguments import PluginFiles, Sources, configs_and_overrides, print_table, require_folder
from medtrans.distributed.determinism import choose_repeatable_kernels
from medtrans.errors import MedtransError

app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)


class Against(Enum):
    """What a config's speed is compared with."""

    reference = "reference"
    torchio = "torchio"
    monai = "monai"


@app.command()
def bench(
    sources: Sources,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Training steps that count.")] = 5,
    against: Annotated[
        list[Against] | None,
        typer.Option(
            "--against",
            help="reference: the plain training step and that of the paper's code; torchio, monai: their loader and "
            "windows.",
        ),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the report as JSON; - writes it to stdout.")
    ] = None,
    plugin: PluginFiles = None,
) -> None:
    """Measure a config on this machine: ceilings, a training step by part, the loader, windows; no run is made."""
    from benchmarks.harness.report import measure, tables
    from medtrans.config.loading import load_config
    from medtrans.utils.files import write_json

    configs, overrides = configs_and_overrides(sources)
    on_stdout = json_file == Path("-")
    if json_file is not None and not on_stdout:
        require_folder(json_file)
    found = measure(
        load_config(configs, overrides, plugins=plugin or ()),
        steps=steps,
        against=[one.value for one in against or ()],
        say=lambda doing: typer.echo(f"measuring: {doing}", err=True),
    )
    if on_stdout:
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    if json_file is not None:
        write_json(json_file, found)
    for table in tables(found):
        print_table(table)


def main() -> None:
    """A fault of the user's is a message and an exit code, as it is of `medtrans`; anything else a traceback."""
    choose_repeatable_kernels()
    try:
        app()
    except MedtransError as error:
        print("\n".join(error.faults), file=sys.stderr)
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
