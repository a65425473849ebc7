"""`medtrans export`: a trained run made into a folder that can be handed on, with no case, path or code in it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import torch
from torch import Tensor

from medtrans.errors import ConfigError, SetupError
from medtrans.inference.export.format import KEYS, is_export, write_export
from medtrans.inference.export.model_card import model_card
from medtrans.inference.loading import load
from medtrans.inference.translator import Translator
from medtrans.plugins.input_size import common_multiple, padded_sides
from medtrans.runs.folder import RunFolder

__all__ = ["export"]


def export(
    run: Path | str,
    output: Path | None = None,
    *,
    licence: str = "not stated",
    overwrite: bool = False,
    plugins: Sequence[Path] = (),
) -> Path:
    """Write weights, settings and a card to a folder from which `load` and `medtrans predict` work alone.

    The networks that translating uses are exported, with their weights for evaluation; what was written is loaded
    again and must translate alike before it gets its name.

    Args:
        run: folder of a trained run.
        output: folder to make; None is `export` in the run's folder.
        licence: of the weights, for the card.
        overwrite: replace an export that is there.
        plugins: the single-file plugins the run was trained with; they are not exported.

    Raises:
        ConfigError: there is no run, the folder is taken, or a setting names a file.
        SetupError: the folder cannot be written, or what was written does not translate alike.
    """
    folder = RunFolder.existing(run)
    output = folder.path / "export" if output is None else output
    _check_free(output, overwrite=overwrite)
    translator = load(folder.path, plugins=plugins)
    config = translator.experiment.saved()
    settings = {key: config[key] for key in KEYS}
    _check_no_path(settings)
    networks = _used(translator)
    card = model_card(folder, translator, networks, licence)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".part-", dir=output.parent))
        try:
            write_export(
                temporary,
                settings=settings,
                card=card,
                learned=translator.preprocessing.learned,
                target_numbers=translator.target_numbers,
                backgrounds=translator.backgrounds,
                masked=translator.masked,
                networks=networks,
            )
            if not torch.equal(_probed(translator), _probed(load(temporary, plugins=plugins))):
                raise _not_by_weights(translator)
            temporary.chmod(0o755)
            _install(temporary, output)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise SetupError(f"{output}: cannot be written ({error.strerror or error}); choose another folder") from error
    return output


def _check_free(output: Path, *, overwrite: bool) -> None:
    if output.is_symlink() or (output.exists() and not output.is_dir()):
        raise ConfigError(f"{output}: is a file or a link; give a folder to make")
    if not output.exists() or not any(output.iterdir()):
        return
    if not is_export(output):
        raise ConfigError(f"{output}: holds other things than an export; give another folder")
    if not overwrite:
        raise ConfigError(f"{output}: holds an export; replace it with --overwrite, or give another folder")


def _check_no_path(settings: Mapping[str, Any]) -> None:
    """An export must work where nothing else is, and say nothing of the machine it was made on."""
    named = [f"{key}: {value}" for key, value in _texts(settings) if _is_path(value)]
    if named:
        raise ConfigError(
            f"{named[0]}: names a file of this machine, which would not be where the export is used; give the "
            "component its weights by training, and leave the option out"
        )


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _texts(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _texts(inner, f"{key}.{index}")


def _is_path(text: str) -> bool:
    return PurePosixPath(text).is_absolute() or PureWindowsPath(text).is_absolute() or text.startswith("~")


def _used(translator: Translator) -> dict[str, Mapping[str, Tensor]]:
    """The weights of the networks that take part in a translation."""
    networks, used = translator.method.networks(), set[str]()
    with ExitStack() as hooks:
        for name, network in networks.items():
            for module in network.modules():
                handle = module.register_forward_pre_hook(lambda *_, name=name: used.add(name))
                hooks.callback(handle.remove)
        _probed(translator)
    if not used:
        raise _not_by_weights(translator)
    return {name: network.state_dict() for name, network in networks.items() if name in used}


def _probed(translator: Translator) -> Tensor:
    """The translation of a fixed patch."""
    config, networks = translator.experiment.config, list(translator.method.networks().values())
    sides = padded_sides(config.patch.size, common_multiple(networks))
    device = next(parameter.device for network in networks for parameter in network.parameters())
    with torch.random.fork_rng():
        torch.manual_seed(0)
        source = torch.rand(1, len(config.source), *sides)
        return translator.method.translate(source.to(device)).cpu()


def _not_by_weights(translator: Translator) -> SetupError:
    return SetupError(
        f"method {translator.experiment.config.method.name}: does not translate alike from its networks' weights "
        "alone, so that a run of it cannot be exported"
    )


def _install(temporary: Path, output: Path) -> None:
    """Give the finished export its name; an older one is moved aside first, so that none is ever half there."""
    aside = Path(tempfile.mkdtemp(prefix=".part-", dir=output.parent))
    try:
        if output.exists():
            output.rename(aside / "old")
        temporary.rename(output)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
