"""Lists the files that a training batch and a predicted volume pass through, for docs/architecture.md.

    python scripts/trace_files.py

A file is on the way if one of its functions is run between two calls: for a batch from the first patch to the next
checkpoint, of the shipped quickstart with its default components; for a volume from the run that was loaded to the end
of `medtrans predict`.
"""

from __future__ import annotations

import inspect
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import medtrans
from medtrans.inference.prediction import predict
from medtrans.volume import write

PACKAGE = Path(medtrans.__file__).parent
TINY = [
    "dataset.options.size=[24,24,24]", "patch.size=[16,16,16]", "train.steps=4", "train.workers=0",
    "train.checkpoint_every=2", "train.validate_every=4",
]  # fmt: skip


def files_between(first: str, last: str, do: Callable[[], object]) -> list[str]:
    """The files, in the order in which they are first met, from one call to another; both as `file.py:function`."""
    found: dict[str, None] = {}
    state = "before"

    def note(frame: FrameType, event: str, _: object) -> None:
        nonlocal state
        code = frame.f_code
        is_function = bool(code.co_flags & inspect.CO_OPTIMIZED)  # the bodies of modules and classes are not
        if event != "call" or not is_function or not code.co_filename.startswith(f"{PACKAGE}{os.sep}"):
            return
        file = Path(code.co_filename).relative_to(PACKAGE).as_posix()
        if state == "before" and f"{file}:{code.co_name}" == first:
            state = "on the way"
        if state == "on the way":
            found.setdefault(file)
            if f"{file}:{code.co_name}" == last:
                state = "over"

    sys.setprofile(note)
    try:
        do()
    finally:
        sys.setprofile(None)
    return list(found)


def main() -> None:
    """Train and predict in a folder that is removed again, and print both lists."""
    with tempfile.TemporaryDirectory() as home:
        run, image = Path(home, "run"), Path(home, "t1.nii.gz")
        overrides = [*TINY, f"output_dir={run}"]
        batch = files_between(
            "data/patches.py:__getitem__", "runs/checkpoint.py:save", lambda: medtrans.run("quickstart", overrides)
        )
        case = medtrans.component("dataset", "phantom").factory(subjects=1, size=(24, 24, 24)).cases()[0]
        write(case.images["t1"](), image)

        def translate() -> None:
            list(predict(run, image, Path(home, "t2.nii.gz"), images={}, overwrite=True))

        translate()  # what is imported at first use is not on the way
        volume = files_between("inference/prediction.py:_jobs", "", translate)
    for name, files in (("a training batch", batch), ("a predicted volume", volume)):
        print(f"{name}: {len(files)} files", *files, sep="\n  ")


if __name__ == "__main__":
    main()
