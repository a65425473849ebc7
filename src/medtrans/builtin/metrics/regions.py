"""Errors by region: by the classes of a label map, and by classes of Hounsfield units."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, TypeAlias

import numpy as np
from pydantic import Field

from medtrans import ConfigError, Surroundings
from medtrans.builtin.metrics import DetailedVolumeMetric

__all__ = ["MAEByHU", "MAEByLabel"]

Label: TypeAlias = Annotated[int, Field(ge=0)]


class MAEByLabel(DetailedVolumeMetric):
    """Mean absolute error inside each class of a label map, and the mean over the classes that are there.

    The columns `<key>_<class>` are NaN where a case lacks the class or the map.

    Args:
        labels: name of each class to the value, or values, that it has in the map.
        map: modality of the case that holds the label map.

    Raises:
        ConfigError: no class is named.
    """

    unit = "native"
    higher_is_better = False

    def __init__(
        self,
        *,
        labels: dict[str, Label | tuple[Label, ...]],
        map: str = "labels",  # noqa: A002 -- the option's natural name
    ) -> None:
        if not labels:
            raise ConfigError("mae_by_label: name at least one class, such as labels: {bone: [4, 5]}")
        self.labels = {name: (of,) if isinstance(of, int) else tuple(of) for name, of in labels.items()}
        self.map = map
        self.label_maps = (map,)
        self.definition = f"mean of mean(|prediction - target|) inside {', '.join(self.labels)} of the map {map}"
        self.parts = {
            name: f"mean(|prediction - target|) where the map {map} is {' or '.join(str(one) for one in of)}"
            for name, of in self.labels.items()
        }

    def columns(
        self, prediction: np.ndarray, target: np.ndarray, mask: np.ndarray | None, surroundings: Surroundings
    ) -> Mapping[str, float]:
        found = surroundings.images.get(self.map)
        regions = {name: None if found is None else np.isin(found, of) for name, of in self.labels.items()}
        return _by_region(prediction, target, mask, regions)


class MAEByHU(DetailedVolumeMetric):
    """Mean absolute error in air, soft tissue and bone by the HU of a CT, and the mean over those that are there.

    Args:
        ct: modality of the case that holds the CT; null takes the target, which must then be in HU.
        air_below: HU under which a voxel is air.
        bone_above: HU over which a voxel is bone; between the two it is soft tissue.

    Raises:
        ConfigError: the limits are in the wrong order.
    """

    unit = "native"
    higher_is_better = False

    def __init__(self, *, ct: str | None = None, air_below: float = -200.0, bone_above: float = 250.0) -> None:
        if air_below > bone_above:
            raise ConfigError(f"mae_by_hu: air_below {air_below:g} is above bone_above {bone_above:g}; exchange them")
        self.ct, self.air_below, self.bone_above = ct, air_below, bone_above
        self.images = () if ct is None else (ct,)
        holder = ct or "the target"
        self.parts = {
            "air": f"mean(|prediction - target|) where {holder} < {air_below:g} HU",
            "soft_tissue": f"mean(|prediction - target|) where {air_below:g} <= {holder} <= {bone_above:g} HU",
            "bone": f"mean(|prediction - target|) where {holder} > {bone_above:g} HU",
        }
        self.definition = (
            f"mean of mean(|prediction - target|) in air (< {air_below:g} HU), soft tissue and bone "
            f"(> {bone_above:g} HU) of {holder}"
        )

    def columns(
        self, prediction: np.ndarray, target: np.ndarray, mask: np.ndarray | None, surroundings: Surroundings
    ) -> Mapping[str, float]:
        hu = target if self.ct is None else surroundings.images.get(self.ct)
        if hu is None:
            return dict.fromkeys(("", *self.parts), math.nan)
        air, bone = hu < self.air_below, hu > self.bone_above
        return _by_region(prediction, target, mask, {"air": air, "soft_tissue": ~(air | bone), "bone": bone})


def _by_region(
    prediction: np.ndarray, target: np.ndarray, mask: np.ndarray | None, regions: Mapping[str, np.ndarray | None]
) -> dict[str, float]:
    """The error in each region, NaN where there is no voxel of it, and under "" their mean."""
    error = np.abs(prediction.astype(np.float64) - target)
    found = dict.fromkeys(regions, math.nan)
    for name, region in regions.items():
        inside = region if region is None or mask is None else region & mask
        if inside is not None and inside.any():
            found[name] = float(error[inside].mean())
    known = [value for value in found.values() if not math.isnan(value)]
    return {"": sum(known) / len(known) if known else math.nan, **found}
