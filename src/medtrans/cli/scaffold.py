"""The writing of a new plugin package that can be installed, tested and changed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from medtrans.errors import ConfigError
from medtrans.plugins.hookspecs import KINDS
from medtrans.utils.messages import did_you_mean

__all__ = ["Scaffold", "write_plugin"]


_NAME = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")
_TAKEN = ("builtin", "torchio", "medtrans")
_USAGE = {
    "generator": "medtrans run quickstart generator.name={name}",
    "discriminator": "medtrans run quickstart discriminator.name={name}",
    "loss": "medtrans run quickstart losses.{prefix}.name={name} losses.{prefix}.weight=1.0",
    "dataset": "medtrans run quickstart dataset.name={name} dataset.options.root=data",
    "metric": "medtrans run quickstart metrics.{prefix}.name={name}",
    "method": "medtrans run quickstart method.name={name}",
    "transform": "medtrans run quickstart augment.{prefix}.name={name}",
    "callback": "medtrans run quickstart callbacks.{prefix}.name={name}",
}


@dataclass(frozen=True)
class Scaffold:
    """The texts of a plugin package.

    Args:
        name: as it is typed, such as "small-unet".
        kind: of the component it offers.
    """

    name: str
    kind: str

    @property
    def prefix(self) -> str:
        """What stands before the colon in configs."""
        return self.name.replace("-", "_")

    @property
    def module(self) -> str:
        """The package to import."""
        return f"medtrans_{self.prefix}"

    def files(self) -> dict[str, str]:
        """The text of each file by its path in the package."""
        test = "test_dataset.py" if self.kind == "dataset" else "test_contract.py"
        return {
            "pyproject.toml": self.rendered("pyproject.toml"),
            "README.md": self.rendered("README.md"),
            ".github/workflows/test.yml": self.rendered("test.yml"),
            f"src/{self.module}/__init__.py": self.rendered(f"kinds/{self.kind}.py"),
            f"tests/test_{self.prefix}_contract.py": self.rendered(test),
        }

    def rendered(self, template: str) -> str:
        """One template with this plugin's names."""
        environment = Environment(
            loader=PackageLoader("medtrans.cli", "templates/plugin"),
            undefined=StrictUndefined,
            keep_trailing_newline=True,
            autoescape=False,  # noqa: S701 -- Python and TOML, no HTML
        )
        name = f"{self.prefix}:{self.prefix}"
        return environment.get_template(f"{template}.j2").render(
            distribution=f"medtrans-{self.prefix.replace('_', '-')}",
            module=self.module,
            prefix=self.prefix,
            component=self.prefix,
            class_name="".join(part.capitalize() for part in self.prefix.split("_")),
            kind=self.kind,
            article=f"a {self.kind}",
            usage=f"```bash\n{_USAGE[self.kind].format(name=name, prefix=self.prefix)}\n```",
        )


def write_plugin(name: str, kind: str, folder: Path) -> Path:
    """Write a plugin package into a folder that does not exist yet.

    Args:
        name: what stands before the colon in configs; small letters, digits, and - or _ between.
        kind: of the component it is to offer, in the singular.
        folder: to make.

    Raises:
        ConfigError: the name cannot be one, there is no such kind, or the folder is there already.
    """
    faults = []
    if not _NAME.fullmatch(name):
        faults.append(f"NAME: found '{name}', expected small letters, digits, and - or _ between, such as small-unet")
    if name in _TAKEN:
        faults.append(f"NAME: '{name}' is taken by medtrans itself; choose another")
    if kind not in KINDS:
        faults.append(f"--kind: no kind '{kind}'{did_you_mean(kind, KINDS)} (known: {', '.join(KINDS)})")
    if folder.exists():
        faults.append(f"{folder}: is there already; choose another NAME or --output")
    if faults:
        raise ConfigError(*faults)
    for path, text in Scaffold(name, kind).files().items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return folder
