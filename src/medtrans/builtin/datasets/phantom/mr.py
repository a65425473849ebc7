"""How the phantoms look in MR: the signal equations, the bias field and the noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from medtrans.builtin.datasets.phantom.shapes import Points, Waves
from medtrans.builtin.datasets.phantom.tissues import PROPERTIES, Fractions, Properties, Tissue

__all__ = ["SEQUENCES", "Sequence", "mr_image"]

_R1, _R2 = 4.1, 4.6  # 1/(mmol/l s): a gadolinium chelate in plasma at 1.5 T
_FULL_SCALE = 1500.0
_NOISE = 0.015  # standard deviation over the brightest tissue's signal
_BIAS = 0.05  # standard deviation of the field's logarithm


@dataclass(frozen=True)
class Sequence:
    """How one contrast is acquired.

    Args:
        tr_ms: repetition time.
        te_ms: echo time.
        inverted: an inversion pulse comes first, at the time before that nulls CSF.
        contrast: contrast agent was given.
    """

    tr_ms: float
    te_ms: float
    inverted: bool = False
    contrast: bool = False

    def signal(self, tissue: Properties) -> float:
        """Of one tissue, relative to the equilibrium signal of water.

        Spin echo: PD (1 - exp(-TR/T1)) exp(-TE/T2). With inversion at TI: PD (1 - 2 exp(-TI/T1) + exp(-TR/T1))
        exp(-TE/T2), negative before its null. Contrast agent adds relaxivity times concentration to 1/T1 and 1/T2.
        """
        t1, t2 = tissue.t1_ms, tissue.t2_ms
        if self.contrast:
            t1 = 1 / (1 / t1 + _R1 * tissue.contrast_mmol / 1000)
            t2 = 1 / (1 / t2 + _R2 * tissue.contrast_mmol / 1000)
        recovery = 1 - np.exp(-self.tr_ms / t1)
        if self.inverted:
            recovery = 1 - 2 * np.exp(-self._nulling_ms() / t1) + np.exp(-self.tr_ms / t1)
        return float(tissue.proton_density * recovery * np.exp(-self.te_ms / t2))

    def _nulling_ms(self) -> float:
        fluid = PROPERTIES[Tissue.CSF].t1_ms
        return float(fluid * np.log(2 / (1 + np.exp(-self.tr_ms / fluid))))


SEQUENCES: Mapping[str, Sequence] = MappingProxyType(
    {
        "t1": Sequence(tr_ms=500, te_ms=15),
        "t2": Sequence(tr_ms=4000, te_ms=100),
        "pd": Sequence(tr_ms=4000, te_ms=20),
        "flair": Sequence(tr_ms=9000, te_ms=110, inverted=True),
        "t1ce": Sequence(tr_ms=500, te_ms=15, contrast=True),
    }
)


def mr_image(
    sequence: Sequence,
    fractions: Fractions,
    points: Points,
    subject_rng: np.random.Generator,
    image_rng: np.random.Generator,
) -> NDArray[np.float32]:
    """One contrast of one subject.

    Args:
        sequence: how it is acquired.
        fractions: share (i, j, k) of each tissue.
        points: positions (3, i, j, k) in mm, for the bias field.
        subject_rng: draws how far the subject's tissues deviate; in the same state for all contrasts of a subject.
        image_rng: draws gain, bias field and noise.

    Returns:
        Magnitude (i, j, k) in arbitrary units, about 0 to 1000, with Rician noise.
    """
    signal = np.zeros(points.shape[1:], np.float32)
    for tissue in Tissue:  # every tissue draws, drawn or not, so that one subject has the same tissues throughout
        own = _of_subject(PROPERTIES[tissue], subject_rng)
        if tissue in fractions:
            signal += np.float32(sequence.signal(own)) * fractions[tissue]
    gain = _FULL_SCALE * image_rng.uniform(0.9, 1.1)
    bias = np.exp(np.float32(_BIAS) * Waves(image_rng, 6, (180, 360))(points))
    brightest = max(sequence.signal(PROPERTIES[tissue]) for tissue in Tissue)
    noise = np.float32(_NOISE * brightest) * image_rng.standard_normal((2, *signal.shape), np.float32)
    magnitude: NDArray[np.float32] = np.float32(gain) * np.hypot(signal * bias + noise[0], noise[1])
    return magnitude


def _of_subject(tissue: Properties, rng: np.random.Generator) -> Properties:
    t1, t2, density = np.exp(rng.normal(size=3) * (0.03, 0.03, 0.015))
    return tissue._replace(
        t1_ms=tissue.t1_ms * t1, t2_ms=tissue.t2_ms * t2, proton_density=tissue.proton_density * density
    )
