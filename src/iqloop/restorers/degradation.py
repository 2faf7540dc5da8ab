"""A degradation by name and number, and what tools are given and held against once a photograph has it.

gaussian-noise:25  white noise, sigma in grey levels     gamma:2.2    R, G and B to a power
jpeg:10            libjpeg's quality                     bicubic:4    sides divided, by Pillow
gaussian-blur:2    sigma in pixels                       clean        nothing
noise_poisson:3    any function of `iqloop.distort.NAMES`, severity 1 to 5
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image

from iqloop import distort
from iqloop.distort import standard
from iqloop.distort.image import Bytes
from iqloop.distort.tables import canonical
from iqloop.errors import UsageError
from iqloop.restorers.tool import TREATMENTS, ToolInfo, Treatment

Degradation = tuple[str, float]
"""Name and number; ``("clean", 0)``; ``("low-resolution", n)`` is ``("bicubic", n)`` by its older name."""
CLEAN: Degradation = ("clean", 0)


@dataclass(frozen=True)
class Kind:
    """One of the field's standard damages that keep the size."""

    treatment: Treatment
    """What mends it."""
    number: str
    """What its number is."""
    least: float
    most: float
    apply: Callable[[Bytes, np.random.Generator, float], Bytes]
    whole: bool = False
    """Only whole numbers mean something."""


KINDS: Mapping[str, Kind] = {
    "gaussian-noise": Kind("noise", "a standard deviation in grey levels", 0.1, 255, standard.gaussian_noise),
    "jpeg": Kind("compression", "a whole quality", 1, 100, standard.jpeg, whole=True),
    "gaussian-blur": Kind("blur", "a standard deviation in pixels", 0.1, 100, standard.gaussian_blur),
    "gamma": Kind("darken", "an exponent", 1, 10, standard.gamma),
}
"""By name. An exponent below 1 would brighten, which no tool is there to undo."""
SHRUNK = ("bicubic", "low-resolution")
SCALES = (2, 3, 4, 8)
"""What sides can be divided by: the scales that a tool can have, but 1."""
STANDARD: Mapping[Treatment, tuple[Degradation, ...]] = {
    "noise": (("gaussian-noise", 25), ("gaussian-noise", 50)),
    "compression": (("jpeg", 10), ("jpeg", 40)),
    "blur": (("gaussian-blur", 2),),
    "darken": (("gamma", 2.2),),
    "low-resolution": tuple(("bicubic", scale) for scale in SCALES),
}
"""What tools that fit are measured on unless told otherwise; those of scale 1 on `CLEAN` too."""


@dataclass(frozen=True, eq=False)
class Case:
    """What a tool is given, and what its answer is held against; ``(H, W, 3)`` uint8 RGB each."""

    given: Bytes
    baseline: Bytes
    """What one has without the tool, as large as ``truth``: the input, or Pillow's bicubic enlargement of it."""
    truth: Bytes


def parse(text: str) -> Degradation:
    """The degradation of ``NAME:NUMBER`` or ``clean``. Raises `UsageError` that says what was expected.

    >>> parse("jpeg:10"), parse("clean")
    (('jpeg', 10.0), ('clean', 0))
    """
    name, colon, number = text.strip().partition(":")
    name = canonical(name)
    if name == "clean" and not colon:
        return CLEAN
    try:
        value = float(number)
    except ValueError:
        value = float("nan")
    return check((name, value), text)


def check(degradation: Degradation, text: str = "") -> Degradation:
    """The degradation as it is; raises `UsageError` if there is none of the name, or none with that number.

    Args:
        degradation: to be checked.
        text: what the user wrote, for the message.
    """
    name, value = degradation
    said = text or label(degradation)
    if name == "clean":
        if value != 0:
            raise UsageError(f"{said}: clean takes no number")
    elif name in SHRUNK:
        if value not in SCALES:
            raise UsageError(f"{said}: {name} takes a scale, one of {', '.join(map(str, SCALES))}: {name}:2")
    elif name in KINDS:
        kind = KINDS[name]
        # NaN, which stands for text that is no number, is in no range.
        if not kind.least <= value <= kind.most or (kind.whole and value != round(value)):
            example = label(STANDARD[kind.treatment][0])
            raise UsageError(
                f"{said}: {name} takes {kind.number} from {kind.least:g} to {kind.most:g}, as in {example}"
            )
    elif canonical(name) in distort.PARAMETERS:
        if not 1 <= value <= 5:
            raise UsageError(f"{said}: {name} takes a severity from 1 to 5, as in {name}:3")
    else:
        known = ["clean", *KINDS, SHRUNK[0], *distort.NAMES]
        close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(close)}?" if close else f"expected one of {', '.join(known)}"
        raise UsageError(f"unknown degradation {name!r}: {hint}")
    return degradation


def label(degradation: Degradation) -> str:
    """The text that `parse` reads."""
    name, value = degradation
    return name if degradation == CLEAN else f"{name}:{value:g}"


def scale_of(degradation: Degradation) -> int:
    """How many times smaller the sides become: the scale of the tools that fit."""
    name, value = degradation
    return int(value) if name in SHRUNK else 1


def treatment_of(degradation: Degradation) -> Treatment | None:
    """What mends it; None where nothing is there to be mended (``clean``), or no tool is meant to (``pixelate``)."""
    name = canonical(degradation[0])
    if name in SHRUNK:
        return "low-resolution"
    if name in KINDS:
        return KINDS[name].treatment
    return next((t for t in TREATMENTS if t != "low-resolution" and name in distort.CATEGORIES[t]), None)


def fits(tool: ToolInfo, degradation: Degradation, treatment: Treatment | None = None) -> bool:
    """Whether a tool has the scale of a degradation and treats it, or ``treatment`` instead where one is named."""
    wanted = treatment or treatment_of(degradation)
    return tool.scale == scale_of(degradation) and (wanted is None or wanted in tool.treats)


def standard_for(tools: Iterable[ToolInfo], treatment: Treatment | None = None) -> list[Degradation]:
    """What these tools are measured on unless told otherwise: `STANDARD` of what they treat, or of ``treatment``."""
    infos = list(tools)
    named = TREATMENTS if treatment is None else (treatment,)
    every = [*(one for known in named for one in STANDARD[known]), CLEAN]
    return [one for one in every if any(fits(info, one, treatment) for info in infos)]


def degrade(photograph: Bytes, degradation: Degradation, seed: int) -> Case:
    """A photograph with a degradation; for one that shrinks, what is left over at its right and bottom is cut off.

    Args:
        photograph: undamaged, ``(H, W, 3)`` uint8 RGB.
        degradation: of what, see `check`.
        seed: for those that draw; the same seed gives the same case.

    Raises:
        UsageError: the photograph is of another kind or too small, or there is no such degradation.
    """
    name, value = check(degradation)
    scale = scale_of(degradation)
    if photograph.dtype != np.uint8 or photograph.ndim != 3 or photograph.shape[2] != 3:
        raise UsageError(f"expected an (H, W, 3) uint8 RGB array, got {photograph.dtype} {photograph.shape}")
    if min(photograph.shape[:2]) < scale:
        raise UsageError(f"{label(degradation)}: expected a photograph of {scale} pixels, got {photograph.shape[:2]}")
    if scale > 1:
        truth = photograph[: photograph.shape[0] // scale * scale, : photograph.shape[1] // scale * scale]
        small = distort.downsample(truth, scale, "bicubic")
        size = (truth.shape[1], truth.shape[0])
        return Case(small, np.asarray(Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)), truth)
    if name in KINDS:
        damaged = KINDS[name].apply(photograph, np.random.default_rng(seed), value)
    else:
        damaged = photograph if name == "clean" else distort.apply(photograph, name, value, seed)
    return Case(damaged, damaged, photograph)
