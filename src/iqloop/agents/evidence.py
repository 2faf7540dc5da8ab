"""What a critic's answers and a few measured properties say together: is a try worth while, is its output better?

A small critic's single answers mislead: it names one degradation of several and calls a brightened photograph worse.
How much each answer is worth can be measured, on photographs whose clean original is known (`iqloop train judge`). The
result is a table of weights for each degradation (`evidence.json`, with its origin), four logistic regressions: of the
chance that it is present by what is measured in the pixels alone, which thousands of pictures teach in minutes; of the
same chance by that and the critic's looks together; from those, of the chance that its tool will improve the picture,
and of the chance that the output is better than what it was made from. The weights hold for one version of one critic;
for any other the loop judges by rules (`iqloop.agents.judge`).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

from iqloop.agents.diagnosis import PERCEIVED, null_probability, severity_of
from iqloop.agents.fidelity import Fidelity, luminance, noise_deviation
from iqloop.critic.verdicts import Degradation, Rating
from iqloop.errors import UsageError
from iqloop.restorers.tool import Treatment

FORM = "iqloop-evidence/2"
PARTS = ("traces", "presence", "promise", "verdict")
CLIP = 4.0
"""Features are clipped at so many deviations from their mean: a regression must not be trusted far from its data."""
FLOOR = 1e-4
"""Least value whose logarithm is taken."""
FAR = 112
"""Short side in pixels of a picture seen from afar."""
FARTHEST = 4
"""Its long side is at most so many times as long."""
BLACK = 2 / 255
"""What is nearer to black or white was cut off."""
TONES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
"""Percentiles that are taken."""
BINS = 16
"""Of the histogram of luma."""
LIGHT: Treatment = "darken"
"""Whether a scene was meant to be dark is seen in no output: what is made of it is as welcome as light was missing."""
SURE = 5.0
"""Largest logarithm of odds that is believed: 0.993."""
GRID = 8
"""Period of JPEG's blocks in pixels."""

Features = Mapping[str, float]


@dataclass(frozen=True)
class Look:
    """What is known of one picture."""

    rating: Rating
    degradation: Degradation
    afar: Degradation
    """What is seen of it from afar (`from_afar`)."""
    pixels: Features
    """`measure`."""


def from_afar(image: Tensor) -> Tensor:
    """``(3, H, W)`` shrunk to a short side of `FAR` by area means; itself if it is no larger.

    Grain, blur and blocks vanish in it and light stays: of several degradations a critic names the one that strikes
    it most, and darkness seldom is that one. Seen from afar it is.
    """
    height, width = image.shape[-2:]
    scale = FAR / min(height, width)
    if scale >= 1:
        return image
    size = tuple(min(round(extent * scale), FAR * FARTHEST) for extent in (height, width))
    return functional.interpolate(image[None].float(), size=size, mode="area")[0]


def measure(image: Tensor) -> dict[str, float]:
    """Properties of ``(3, H, W)`` in [0, 1] that need no critic.

    Of luma, of the largest and of the smallest channel the percentiles `TONES`; of luma the square roots of the shares
    in `BINS` bins, mean and deviation; shares of black and white values; saturation: all in [0, 1]. Logarithms of
    ``noise`` (deviation by Immerkaer), ``detail`` (mean absolute gradient) and ``blocks`` (gradient across JPEG's grid
    over the rest).
    """
    luma = luminance(image.float())
    # Tones of a few thousand means are as good as of millions of pixels, and less disturbed by grain.
    height, width = image.shape[-2:]
    small = functional.interpolate(image[None].float(), size=(min(96, height), min(96, width)), mode="area")[0]
    planes = {
        "luma": luminance(small).flatten(),
        "largest": small.amax(0).flatten(),
        "smallest": small.amin(0).flatten(),
    }
    levels = torch.tensor(TONES, dtype=small.dtype, device=small.device)
    found = {
        f"{name}.{level:g}": value
        for name, plane in planes.items()
        for level, value in zip(TONES, plane.quantile(levels).tolist(), strict=True)
    }
    tones = planes["luma"]
    shares = (torch.histc(tones.cpu(), BINS, 0, 1) / tones.numel()).sqrt().tolist()
    found |= {f"bin.{place}": share for place, share in enumerate(shares)}
    spread = (planes["largest"] - planes["smallest"]) / planes["largest"].clamp_min(0.02)
    rows, columns = (luma.diff(dim=axis).abs() for axis in (-2, -1))
    on_grid = [rows[..., GRID - 1 :: GRID, :], columns[..., GRID - 1 :: GRID]]
    total, count = float(rows.sum() + columns.sum()), rows.numel() + columns.numel()
    edge, edges = float(sum(float(part.sum()) for part in on_grid)), sum(part.numel() for part in on_grid)
    off = (total - edge) / max(1, count - edges)
    return found | {
        "mean": float(luma.mean()),
        "deviation": float(tones.std(correction=0)),
        "black": float((image < BLACK).float().mean()),
        "white": float((image > 1 - BLACK).float().mean()),
        "saturation": float(spread.mean()),
        "noise": _log(noise_deviation(luma)),
        "detail": _log(total / max(1, count)),
        "blocks": _log(edge / max(1, edges)) - _log(off) if edges else 0.0,
    }


def before(look: Look) -> dict[str, float]:
    """What the critic says of a picture: score; expected severities and chance of "null", also from afar."""
    found = {"score": look.rating.mean}
    for view, seen in (("", look.degradation), ("afar.", look.afar)):
        found[f"{view}null"] = null_probability(seen)
        found |= {f"{view}{treatment}": severity_of(seen, treatment) for treatment in PERCEIVED}
    return found


def between(old: Look, new: Look, kept: Fidelity, change: float, preference: float | None = None) -> dict[str, float]:
    """Features of a picture and what was made of it, besides what is present in each (`Evidence.present`).

    Args:
        old: the picture.
        new: the output.
        kept: fidelity of the output to the picture.
        change: PSNR in dB of the output against the picture, at most 60: how little was done.
        preference: probability that the critic prefers the output, both orders asked; None when it cannot compare.
    """
    return {
        "change.score": new.rating.mean - old.rating.mean,
        "change.null": null_probability(new.degradation) - null_probability(old.degradation),
        "change.mean": new.pixels["mean"] - old.pixels["mean"],
        "structure": kept.mean,
        "worst": kept.worst,
        "psnr": min(change, 60.0),
        "preference": 0.5 if preference is None else preference,
    }


@dataclass(frozen=True)
class Regression:
    """A logistic regression on standardised, clipped features."""

    names: tuple[str, ...]
    means: tuple[float, ...]
    deviations: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float

    def logit(self, features: Features) -> float:
        """Logarithm of the odds. Raises `KeyError` for a feature that is missing."""
        logit = self.bias
        for name, mean, deviation, weight in zip(self.names, self.means, self.deviations, self.weights, strict=True):
            logit += weight * max(-CLIP, min(CLIP, (features[name] - mean) / deviation))
        return logit

    def probability(self, features: Features) -> float:
        """In (0, 1)."""
        return 1 / (1 + math.exp(-max(-50.0, min(50.0, self.logit(features)))))


AS_PRESENT = Regression((LIGHT,), (0.0,), (2.0,), (2.0,), 0.0)
"""Promise and verdict of `LIGHT`: the odds that it is missing, as they are."""


@dataclass(frozen=True)
class Evidence:
    """The measured weights for one critic."""

    critic: str
    version: str
    traces: Mapping[Treatment, Regression]
    """Of `measure`: is the degradation present, alone or with others, by the pixels alone?"""
    presence: Mapping[Treatment, Regression]
    """Of `looking`: is it, by all that is known?"""
    promise: Mapping[Treatment, Regression]
    """Of `promising`: will the first tool for it improve this picture?"""
    verdict: Mapping[Treatment, Regression]
    """Of `deciding`: is the output better?"""
    origin: Mapping[str, Any]

    def looking(self, look: Look) -> dict[str, float]:
        """Features of `presence`: what the critic says, and the logarithms of the odds by `traces`."""
        return before(look) | {f"traces.{name}": odds for name, odds in _sure(self.traces, look.pixels).items()}

    def present(self, look: Look) -> dict[str, float]:
        """Logarithms of the odds of each degradation, at most `SURE` either way."""
        return _sure(self.presence, self.looking(look))

    def promising(self, look: Look) -> dict[str, float]:
        """Features of `promise`."""
        return self.present(look) | {"score": look.rating.mean, "null": null_probability(look.degradation)}

    def deciding(
        self, old: Look, new: Look, kept: Fidelity, change: float, preference: float | None = None
    ) -> dict[str, float]:
        """Features of `verdict`; the arguments are those of `between`."""
        first, then = self.present(old), self.present(new)
        found = first | {f"change.{name}": then[name] - odds for name, odds in first.items()}
        return found | between(old, new, kept, change, preference)

    @property
    def name(self) -> str:
        """The beginning of the SHA-256 of its document: other weights have another name."""
        text = json.dumps(as_document(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def fits(self, name: str, version: str) -> bool:
        """Whether the weights were measured with this very critic."""
        return (name, version) == (self.critic, self.version)


def evidence_for(name: str, version: str, given: Evidence | None = None) -> Evidence | None:
    """What a critic's answers are weighed by: ``given``, or the package's, if that was measured with this very critic.

    Raises `UsageError` when what was given was measured with another one.
    """
    if given is not None and not given.fits(name, version):
        raise UsageError(
            f"expected evidence for {name} {version}, got some for {given.critic} {given.version}: measure it with  "
            "iqloop train judge"
        )
    found = given or package_evidence()
    return found if found is not None and found.fits(name, version) else None


def load_evidence(path: Path) -> Evidence:
    """The evidence of a file such as ``iqloop train judge`` writes. Raises `UsageError` for anything else."""
    try:
        return from_document(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise UsageError(f"{path}: expected evidence as  iqloop train judge  writes it, got {error!r}") from error


@cache
def package_evidence() -> Evidence | None:
    """The evidence for the embedded critic; None when the package has none."""
    file = resources.files("iqloop.agents").joinpath("evidence.json")
    return from_document(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else None


def from_document(document: Any) -> Evidence:
    """Raises `ValueError`, `KeyError` or `TypeError` for a document that is not evidence."""
    if document["form"] != FORM:
        raise ValueError(f"expected the form {FORM}, got {document['form']!r}")
    traces, presence, promise, verdict = (
        {cast(Treatment, name): _regression(rows) for name, rows in document[part].items()} for part in PARTS
    )
    return Evidence(document["critic"], document["version"], traces, presence, promise, verdict, document["origin"])


def as_document(evidence: Evidence) -> dict[str, Any]:
    """JSON types only; `from_document` reads it back."""

    def rows(regression: Regression) -> dict[str, Any]:
        table = zip(regression.names, regression.means, regression.deviations, regression.weights, strict=True)
        return {"bias": regression.bias, "features": {n: [m, d, w] for n, m, d, w in table}}

    return {
        "form": FORM,
        "critic": evidence.critic,
        "version": evidence.version,
        "origin": dict(evidence.origin),
        **{part: {name: rows(one) for name, one in getattr(evidence, part).items()} for part in PARTS},
    }


def _regression(rows: Any) -> Regression:
    listed = rows["features"]
    means, deviations, weights = (tuple(float(row[place]) for row in listed.values()) for place in range(3))
    if any(not deviation > 0 for deviation in deviations):
        raise ValueError("expected deviations above 0")
    return Regression(tuple(listed), means, deviations, weights, float(rows["bias"]))


def _sure(regressions: Mapping[Treatment, Regression], features: Features) -> dict[str, float]:
    """Logarithms of the odds, at most `SURE` either way."""
    return {name: max(-SURE, min(SURE, one.logit(features))) for name, one in regressions.items()}


def _log(value: float) -> float:
    return math.log(max(value, FLOOR))
