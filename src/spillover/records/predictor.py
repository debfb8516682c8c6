"""A fitted predictor of misalignment as a small JSON file: what it was fitted on, its error, and its range.

    value = intercept + sum_k weight_k (x_k - centre_k) / scale_k, within the target's scale

The file is data, not code: a pydantic schema of bounded size without NaN, and nothing in it is executed. `error` and
the interval come from predictions of domains that the fit had not seen: half-width = the ceil((D + 1) c)-th smallest of
the D domains' largest absolute errors, so that a new domain's cells lie inside about as often as the confidence c says.
With fewer domains than that the interval is the whole scale. Outside the range of a feature that it was fitted on, a
prediction says so and names the feature: it is an extrapolation, and its interval does not hold.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, ValidationError, model_validator

from spillover.errors import UserError
from spillover.records.base import Part
from spillover.stats.prediction import fit_ridge, mean_of_others, ridge

MOST_BYTES = 1_000_000
CONFIDENCE = 0.8  # eleven domains cannot give more than 0.9
SCALE: dict[str, tuple[float, float]] = {"rate": (0.0, 1.0), "mean_alignment": (0.0, 100.0)}

LARGEST = 1e100  # of any number, so that no product overflows
Number = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]
Name = Annotated[str, Field(min_length=1, max_length=200)]


class Feature(Part):
    """One column; `low` and `high` are the smallest and largest value that the fit saw."""

    name: Name
    centre: Number
    scale: float = Field(ge=1 / LARGEST, le=LARGEST)
    weight: Number
    low: Number
    high: Number


class Provenance(Part):
    """What the predictor was fitted on."""

    study_hash: str = Field(max_length=80)
    judge: str = Field(max_length=200)
    models: tuple[Name, ...] = Field(min_length=1, max_length=100)
    domains: tuple[Name, ...] = Field(min_length=3, max_length=1000)
    cells: int = Field(ge=3)
    subsample: int | None = Field(default=None, ge=2)  # rows that diversity was measured on
    fitted: str = Field(max_length=40)  # date and time, UTC
    spillover: str = Field(default="", max_length=40)


@dataclass(frozen=True)
class Prediction:
    """`inside` False: an extrapolation, in the features named by `outside`; the interval then says nothing."""

    value: float
    low: float
    high: float
    inside: bool
    outside: tuple[str, ...]


class Predictor(Part):
    """A ridge fit with its honest error, ready to be kept."""

    format: Literal["spillover-predictor/1"] = "spillover-predictor/1"
    target: Literal["rate", "mean_alignment"]
    intercept: Number
    alpha: float = Field(gt=0)
    features: tuple[Feature, ...] = Field(min_length=1, max_length=1000)
    error: float = Field(ge=0)  # mean absolute, of domains left out
    error_of_mean: float = Field(ge=0)  # the same of always saying the mean of the other domains
    half_width: float | None = Field(default=None, ge=0)  # None: too few domains for an interval
    confidence: float = Field(gt=0, lt=1)
    provenance: Provenance

    @model_validator(mode="after")
    def _sound(self) -> Self:
        names = [feature.name for feature in self.features]
        if len(set(names)) != len(names):
            raise ValueError("a feature is named twice")
        if any(feature.low > feature.high for feature in self.features):
            raise ValueError("a feature's low is above its high")
        return self

    def predict(self, features: Mapping[str, float]) -> Prediction:
        """The target of a data set with these features; others than the predictor's are not looked at.

        Raises:
            UserError: when a feature is missing or not a finite number.
        """
        lacking = [f.name for f in self.features if not abs(features.get(f.name, math.nan)) <= LARGEST]
        if lacking:
            shown = ", ".join(lacking[:5]) + (f" and {len(lacking) - 5} more" if len(lacking) > 5 else "")
            raise UserError(f"The predictor needs {shown}. Measure the data set as in the predictor's study.")
        least, most = SCALE[self.target]
        total = self.intercept + sum(f.weight * (features[f.name] - f.centre) / f.scale for f in self.features)
        value = min(max(total, least), most)
        outside = tuple(f.name for f in self.features if not f.low <= features[f.name] <= f.high)
        if self.half_width is None:
            return Prediction(value, least, most, not outside, outside)
        low, high = max(least, value - self.half_width), min(most, value + self.half_width)
        return Prediction(value, low, high, not outside, outside)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the file whole or not at all."""
        path = Path(path)
        part = path.with_name(path.name + ".part")
        part.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8", newline="\n")
        os.replace(part, path)
        return path

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Predictor:
        """Read and check a file.

        Raises:
            UserError: when it is not a predictor of this version.
        """
        path = Path(path)
        try:
            with path.open("rb") as file:
                content = file.read(MOST_BYTES + 1)
        except OSError as error:
            raise UserError(f"Cannot read a predictor from {path} ({error.strerror}). Name a predictor file.") from None
        if len(content) > MOST_BYTES:
            raise UserError(f"{path} is larger than {MOST_BYTES:,} bytes and not a predictor. Name a predictor file.")
        try:
            return cls.model_validate_json(content)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])[:120] or "file"
            raise UserError(f"{path} is not a predictor: {place}: {first['msg'][:200]}. Fit it again.") from None


def fit(
    features: Mapping[str, Sequence[float]],
    target_N: Sequence[float],
    target: Literal["rate", "mean_alignment"],
    domain_N: Sequence[str],
    models: Sequence[str],
    study_hash: str,
    judge: str,
    confidence: float = CONFIDENCE,
    version: str = "",
    subsample: int | None = None,
) -> Predictor:
    """Fit ridge to all cells, and measure it on domains left out; every value must be finite.

    Raises:
        UserError: with fewer than three domains or without features.
    """
    labels, index = np.unique(np.asarray(domain_N), return_inverse=True)
    if len(labels) < 3 or not features:
        raise UserError(
            f"A predictor needs features and at least 3 domains, found {len(features)} and {len(labels)}. "
            "Add domains to the study."
        )
    x_NK = np.stack([np.asarray(column, np.float64) for column in features.values()], axis=1)
    y_N, domain = np.asarray(target_N, np.float64), index.astype(np.int64)
    if not (np.isfinite(x_NK).all() and np.isfinite(y_N).all()):
        raise UserError("A feature or a rate is missing for some cell. Leave out that feature or cell.")
    kept = fit_ridge(x_NK, y_N, domain_N)
    off_N = np.abs(np.clip(ridge(x_NK, y_N[:, None], domain)[:, 0], *SCALE[target]) - y_N)
    worst_D = np.sort([off_N[domain == d].max() for d in range(len(labels))])
    place = math.ceil((len(labels) + 1) * confidence - 1e-9)
    return Predictor(
        target=target,
        intercept=kept.intercept,
        alpha=kept.alpha,
        features=tuple(
            Feature(name=name, centre=c, scale=s, weight=w, low=low, high=high)
            for name, c, s, w, low, high in zip(
                features, kept.centre_K.tolist(), kept.scale_K.tolist(), kept.weight_K.tolist(),
                x_NK.min(axis=0).tolist(), x_NK.max(axis=0).tolist(), strict=True,
            )
        ),
        error=float(off_N.mean()),
        error_of_mean=float(np.abs(mean_of_others(y_N[:, None], domain)[:, 0] - y_N).mean()),
        half_width=float(worst_D[place - 1]) if place <= len(labels) else None,
        confidence=confidence,
        provenance=Provenance(
            study_hash=study_hash,
            judge=judge,
            models=tuple(sorted(set(models))),
            domains=tuple(labels.tolist()),
            cells=len(y_N),
            subsample=subsample,
            fitted=datetime.now(UTC).isoformat(timespec="seconds"),
            spillover=version,
        ),
    )  # fmt: skip
