"""The layouts of the Human Connectome Projects of young adults (HCP) and of newborns (dHCP)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from medtrans import Case, DataError
from medtrans.builtin.datasets.folders import FolderDataset, case_folders, folder_names, image_files

__all__ = ["DHCP", "HCP"]

_NUMBER = re.compile(r"\d{6}")


class HCP(FolderDataset):
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

    required = ("t1", "t2")
    advice = "correct root, space or restored"

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
        self.root = root
        self._folder = "MNINonLinear" if space == "mni" else "T1w"
        place = "" if space == "mni" else "_acpc_dc"
        kind = "_restore_brain" if brain else "_restore" if restored else ""
        self._stems = {"t1": [f"T1w{place}{kind}"], "t2": [f"T2w{place}{kind}"]}
        if mask:
            self._stems["mask"] = ["brainmask_fs"]
        if labels is not None:
            self._stems["labels"] = [labels]
        self.optional = tuple(self._stems)
        self.expected = f'"<six digits>/{self._folder}/{self._stems["t1"][0]}.nii.gz" and the same of T2w'

    def found(self, root: Path) -> Sequence[Case]:
        return [
            Case(folder.name, folder.name, image_files(folder / self._folder, self._stems))
            for folder in case_folders(root, _NUMBER, 1)
        ]


_NEWBORN = re.compile(r"sub-[A-Za-z0-9]+")
_SESSION = re.compile(r"ses-[A-Za-z0-9]+")
_RAW = ("sourcedata", "rawdata")  # there the T1 has the plain name and is not yet in the T2's space
_DEPTH = 3  # derivatives/dhcp_anat_pipeline/sub-*
_NAMES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {  # first to last: the names of release 2, release 3, release 1
        "t1": ("space-T2w_T1w", "T1w"),
        "t2": ("T2w",),
        "t1 restored": ("desc-restore_space-T2w_T1w", "desc-restore_T1w", "T1w_restore"),
        "t2 restored": ("desc-restore_T2w", "T2w_restore"),
        "mask": ("desc-bet_space-T2w_brainmask", "desc-brain_mask", "brainmask_bet"),
        "tissues": ("desc-drawem9_space-T2w_dseg", "desc-drawem9_dseg", "drawem_tissue_labels"),
        "ribbon": ("desc-ribbon_space-T2w_dseg", "desc-ribbon_dseg", "ribbon"),
    }
)


class DHCP(FolderDataset):
    """dHCP, releases 1 to 3: t2 and t1 of newborns, the T1 in the T2's space, at 0.5 mm.

    Expects `sub-<id>/ses-<n>/anat/sub-<id>_ses-<n>_` followed by `T2w.nii.gz` and `T1w.nii.gz` (releases 1 and 3) or
    `space-T2w_T1w.nii.gz` (release 2), in the output of the structural pipeline. All sessions of a child share the
    subject. Sessions without a T1, of which there are many, are left out, with a warning that counts them.

    The raw data have a `T1w.nii.gz` too, which is not in the T2's space: a root called `sourcedata` or `rawdata` is
    refused, and such folders below root are passed over.

    Args:
        root: folder that holds the subjects' folders, or one that holds it, such as "derivatives".
        restored: whether to take the images corrected for the bias field; release 2 documents no other T2.
        mask: whether to add the brain mask (BET), inside which intensities are then fitted and scored.
        labels: which segmentation to add as labels: the nine tissues of Draw-EM or the cortical ribbon; null for none.
    """

    required = ("t2", "t1")

    def __init__(
        self,
        *,
        root: Path,
        restored: bool = False,
        mask: bool = False,
        labels: Literal["tissues", "ribbon"] | None = None,
    ) -> None:
        self.root = root
        self.advice = f"correct root, or try restored: {'false' if restored else 'true'}"
        self._kinds = {modality: f"{modality} restored" if restored else modality for modality in ("t1", "t2")}
        if mask:
            self._kinds["mask"] = "mask"
        if labels is not None:
            self._kinds["labels"] = labels
        self.optional = tuple(self._kinds)
        t2 = _NAMES[self._kinds["t2"]][0]
        self.expected = f'"sub-<id>/ses-<n>/anat/sub-<id>_ses-<n>_{t2}.nii.gz" and a T1 in its space'

    def found(self, root: Path) -> Sequence[Case]:
        if root.resolve().name in _RAW:
            raise DataError(
                f'root: "{root}" is raw data, where T1 and T2 are not in one space; expected the output of the '
                'structural pipeline, such as "derivatives/dhcp_anat_pipeline". Correct root'
            )
        sessions = sorted(_sessions(root), key=lambda folder: (folder.parent.name, folder.name))
        return [case for folder in sessions if (case := self._case(folder)).images]

    def _case(self, folder: Path) -> Case:
        name = f"{folder.parent.name}_{folder.name}"
        stems = {modality: [f"{name}_{ending}" for ending in _NAMES[kind]] for modality, kind in self._kinds.items()}
        return Case(name, folder.parent.name, image_files(folder / "anat", stems))


def _sessions(root: Path) -> Iterator[Path]:
    for subject in case_folders(root, _NEWBORN, _DEPTH):
        if not set(_RAW) & set(subject.relative_to(root).parts):
            yield from (subject / name for name in folder_names(subject) if _SESSION.fullmatch(name))
