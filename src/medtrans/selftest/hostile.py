"""Owns the check that files are data: hostile ones run no code, start and send nothing, and write nothing elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from medtrans.errors import MedtransError
from medtrans.selftest.audit import Audit
from medtrans.selftest.hostile_files import HOSTILE, Hostile
from medtrans.selftest.hostile_routes import Routes
from medtrans.selftest.quiet import quiet

__all__ = ["check", "faults_of"]


def check(folder: Path) -> tuple[bool, str]:
    """Hand over every hostile file under an ear that hears what the interpreter does."""
    audit = Audit(folder)
    faults = faults_of(folder, audit)
    figure = f"{len(HOSTILE)} files, {len(faults)} with effect"
    return not faults, figure if not faults else f"{figure}: {faults[0]}"


def faults_of(folder: Path, audit: Audit, files: Sequence[Hostile] = HOSTILE) -> list[str]:
    """What hostile files brought about, in words; nothing where all were refused or taken as data.

    Args:
        folder: to work in.
        audit: that allows writing there.
        files: to try.
    """
    with quiet():
        routes = Routes(folder)
        for route, way in routes.ways.items():
            # What is imported on first use is no file's doing.
            way(routes.sound(route))
            with suppress(MedtransError):
                way(routes.begin(route, f"empty-{route}") / "nothing")
        found = [fault for number, file in enumerate(files) for fault in _tried(routes, audit, file, number)]
    return found + audit.heard


def _tried(routes: Routes, audit: Audit, file: Hostile, number: int) -> Iterator[str]:
    where = f"{file.route}, {file.label}"
    mark = routes.folder / f"mark-{number}"
    beside = routes.folder / "beside"
    folder = routes.begin(file.route, f"hostile-{number}")
    path = file.write(folder, str(mark))
    try:
        with audit.armed(where):
            routes.ways[file.route](path)
        if file.refused:
            yield f"{where}: was taken"
    except MedtransError:
        if not file.refused:
            yield f"{where}: was refused though it is only odd"
    except Exception as error:  # noqa: BLE001 -- any other error is a fault of this file, and the next is still to be tried
        yield f"{where}: {type(error).__name__}: {error}"
    left = [*folder.rglob(f"{mark.name}*"), *beside.glob("*"), *routes.folder.glob(f"{mark.name}*")]
    if [one for one in left if one.name.startswith(mark.name) or one.parent == beside]:
        yield f"{where}: left its mark"
