"""Write the examples of plugins: the modules that `medtrans plugins new` writes, under names of their own.

python scripts/docs/examples.py
"""

from __future__ import annotations

from pathlib import Path

from medtrans.cli.scaffold import Scaffold

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
NAMES = {
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


def examples() -> dict[str, str]:
    """The text of the example of each kind by its file's name."""
    return {f"{name}.py": Scaffold(name, kind).rendered(f"kinds/{kind}.py") for kind, name in NAMES.items()}


if __name__ == "__main__":
    for name, text in examples().items():
        (EXAMPLES / name).write_text(text, encoding="utf-8")
