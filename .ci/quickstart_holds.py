"""Checks what the README says of the quickstart: 2 dB above the best trivial baseline, and SSIM above all three."""

from __future__ import annotations

import json
import sys
from pathlib import Path

MARGIN_DB = 2.0


def main(path: Path) -> None:
    """Read summary.json and fail where the claim does not hold."""
    summary = json.loads(path.read_text(encoding="utf-8"))
    model = {name: summary["metrics"][name]["mean"] for name in ("psnr", "ssim")}
    baselines = {
        name: max(scores[name]["mean"] for scores in summary["baselines"].values()) for name in ("psnr", "ssim")
    }
    if len(summary["baselines"]) != 3:
        raise SystemExit("expected three trivial baselines")
    if model["psnr"] < baselines["psnr"] + MARGIN_DB or model["ssim"] <= baselines["ssim"]:
        raise SystemExit("the quickstart is not better than the trivial baselines by what the README says")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
