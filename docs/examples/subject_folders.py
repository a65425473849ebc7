"""A dataset of one folder a subject."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medtrans import Case, Component, DataError, Dataset, hookimpl

__all__ = ["SubjectFolders"]

PLUGIN_API = "1.0"


class SubjectFolders(Dataset):
    """Images named by their modality, in one folder a subject: `anna/t1.nii.gz`, `anna/t2.nii.gz`.

    Args:
        root: folder that holds the subjects' folders.
    """

    def __init__(self, *, root: Path) -> None:
        self.root = root

    def cases(self) -> Sequence[Case]:
        """All cases, in the order of the folders' names; no image is opened.

        Raises:
            DataError: there is no subject with an image.
        """
        found = []
        for folder in sorted(path for path in self.root.glob("*") if path.is_dir()):
            images = {path.name.removesuffix(".nii.gz"): path for path in sorted(folder.glob("*.nii.gz"))}
            if images:
                found.append(Case(folder.name, folder.name, images))
        if not found:
            raise DataError(f"root: no folder with .nii.gz images in {self.root}; correct it")
        return found


@hookimpl
def medtrans_datasets() -> list[Component]:
    """What this plugin offers."""
    return [Component("subject_folders", SubjectFolders)]
