"""Owns the layout of the structural images of the Human Connectome Project (young adults)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from medtrans import Case, Dataset
from medtrans.builtin.datasets.completeness import complete, mention
from medtrans.builtin.datasets.tree import case_folders, checked_root, image_file, nothing_fits

__all__ = ["HCP"]

_SUBJECT = re.compile(r"\d{6}")


class HCP(Dataset):
    """HCP1200: registered t1 and t2 of young adults at 0.7 mm.

    Expects `<subject>/MNINonLinear/{T1w,T2w}.nii.gz` with a subject of six digits, or with `space: native`
    `<subject>/T1w/{T1w,T2w}_acpc_dc.nii.gz`. The low-resolution copies beside them (`T1w_restore.2.nii.gz`) are not
    taken. Subjects without a T1 or T2 are left out, with a warning that counts them.

    Many subjects are twins or siblings; who is related is restricted data, so random splits cannot respect it. Where
    that matters give the split as a file.

    Args:
        root: folder that holds the subjects' folders.
        space: "mni", warped to the atlas, or "native", only turned and shifted to it.
        restored: whether to take the images corrected for the receive field (`_restore`).
        brain: whether to take the restored images cut out along the brain (`_restore_brain`); needs `restored`.
        mask: whether to add the brain mask (`brainmask_fs`), inside which intensities are then fitted and scored.
        labels: which segmentation to add as labels; null for none.
    """

    def __init__(
        self,
        *,
        root: Path,
        space: Literal["mni", "native"] = "mni",
        restored: bool = False,
        brain: bool = False,
        mask: bool = False,
        labels: Literal["ribbon", "aparc+aseg", "wmparc"] | None = None,
    ) -> None:
        self._root = root
        self._folder = "MNINonLinear" if space == "mni" else "T1w"
        place = "" if space == "mni" else "_acpc_dc"
        kind = "_restore_brain" if brain else "_restore" if restored else ""
        self._stems = {"t1": f"T1w{place}{kind}", "t2": f"T2w{place}{kind}"}
        if mask:
            self._stems["mask"] = "brainmask_fs"
        if labels is not None:
            self._stems["labels"] = labels

    def cases(self) -> Sequence[Case]:
        """The cases in the order of their subjects; looks at names only.

        Raises:
            DataError: there is no such folder, or no subject in it with both images.
        """
        expected = f'"<six digits>/{self._folder}/{self._stems["t1"]}.nii.gz" and the same of T2w'
        root = checked_root(self._root, expected)
        cases = complete([self._case(folder) for folder in case_folders(root, _SUBJECT, 1)], ("t1", "t2"))
        if not cases:
            raise nothing_fits(root, expected, "correct root, space or restored")
        mention(cases, self._stems)
        return cases

    def _case(self, folder: Path) -> Case:
        found = {modality: image_file(folder / self._folder, stem) for modality, stem in self._stems.items()}
        images = {modality: path for modality, path in found.items() if path is not None}
        return Case(folder.name, folder.name, images)
