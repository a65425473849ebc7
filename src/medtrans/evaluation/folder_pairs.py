"""The images of several folders, put together by their names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from medtrans.errors import DataError
from medtrans.utils.messages import capped, listed
from medtrans.volume import IMAGE_ENDINGS, is_image_file, stem_of

__all__ = ["images_by_name"]


def images_by_name(folders: Mapping[str, Path]) -> dict[str, dict[str, Path]]:
    """For each name, in order, the file of each folder; a name is that of a file without its ending.

    Args:
        folders: by role, such as "prediction" and "target"; all exist.

    Raises:
        DataError: there is no image, a name stands twice in a folder, or a folder lacks one that another has; all
            such faults together.
    """
    found: dict[str, dict[str, Path]] = {}
    faults: list[str] = []
    for role, folder in folders.items():
        for path in sorted(filter(is_image_file, folder.iterdir())):
            earlier = found.setdefault(stem_of(path), {}).setdefault(role, path)
            if earlier != path:
                faults.append(f"{folder}: {earlier.name} and {path.name} have the same name; keep one of them")
    if not found:
        raise DataError(f"{next(iter(folders.values()))}: holds no image ({', '.join(IMAGE_ENDINGS)})")
    for role, folder in folders.items():
        missing = [name for name in sorted(found) if role not in found[name]]
        if missing:
            faults.append(f"{folder}: {len(missing)} of {len(found)} images are missing ({role}): {listed(missing)}")
    if faults:
        raise DataError(*capped(faults))
    return dict(sorted(found.items()))
