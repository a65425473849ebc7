"""The side of `engine.py` that is the plain script a user of MONAI would write; that script starts it."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
import torch
from monai.data import CacheDataset, DataLoader
from monai.inferers import sliding_window_inference
from monai.networks.nets import UNet
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, RandSpatialCropd, ScaleIntensityRanged
from monai.utils import set_determinism

WARM = 10
KEYS = ["t1", "t2"]


def main() -> None:
    """Train, or predict."""
    part, folder, facts, steps, seed = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), *sys.argv[4:]
    facts.write_text(json.dumps(train(folder, int(steps), int(seed)) if part == "train" else predict(folder)))


def network() -> UNet:
    """As in `engine_medtrans.py`."""
    return UNet(3, 1, 1, channels=(16, 32, 64, 128), strides=(2, 2, 2), num_res_units=2)


def train(folder: Path, steps: int, seed: int) -> dict[str, float]:
    """L1 with Adam on random crops of cached volumes."""
    set_determinism(seed)
    files = [{key: folder / f"{index}_{key}.nii.gz" for key in KEYS} for index in range(8)]
    transforms = Compose(
        [
            LoadImaged(KEYS),
            EnsureChannelFirstd(KEYS),
            ScaleIntensityRanged(KEYS, 0, 1000, 0, 1, clip=True),
            RandSpatialCropd(KEYS, (48, 48, 48), random_size=False),
        ]
    )
    loader = DataLoader(CacheDataset(files, transforms, progress=False), batch_size=2, shuffle=True)
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    l1 = torch.nn.L1Loss()
    step, begun = 0, 0.0
    while step < steps:
        for batch in loader:
            optimizer.zero_grad()
            loss = l1(model(batch["t1"].as_tensor()), batch["t2"].as_tensor())
            loss.backward()
            optimizer.step()
            step += 1
            if step == WARM:
                begun = time.process_time()
            if step == steps:
                break
    seconds = time.process_time() - begun
    torch.save(model.state_dict(), folder / "plain.pt")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"step_s": seconds / (steps - WARM), "peak_bytes": peak}


def predict(folder: Path) -> dict[str, float]:
    """Translate the test volumes from files to files; the first is not counted."""
    model = network()
    model.load_state_dict(torch.load(folder / "plain.pt", weights_only=True))
    model.eval()
    output = folder / "plain"
    output.mkdir(exist_ok=True)
    seconds = []
    for index in range(8, 12):
        begun = time.process_time()
        image = nibabel.load(folder / f"{index}_t1.nii.gz")
        source = torch.from_numpy(image.get_fdata(dtype=np.float32) / 1000).clamp(0, 1)[None, None]
        with torch.no_grad():
            found = sliding_window_inference(source, (48, 48, 48), 4, model, overlap=0.5, mode="gaussian")
        written = found[0, 0].clamp(0, 1).numpy() * 1000
        nibabel.save(nibabel.Nifti1Image(written, image.affine), output / f"{index}_t2.nii.gz")
        seconds.append(time.process_time() - begun)
    return {"volume_s": sum(seconds[1:]) / len(seconds[1:])}


if __name__ == "__main__":
    main()
