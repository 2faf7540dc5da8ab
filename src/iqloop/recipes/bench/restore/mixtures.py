"""Mixtures of degradations as data: ``mixtures.json`` beside this file, or a file of the same form.

``{"groups": {GROUP: ORIGIN}, "mixtures": [{"name": NAME, "group": GROUP, "steps": [STEP, ...]}]}``

A step is one degradation, the first is the first to be applied: ``{FUNCTION: [LEAST, MOST]}``. FUNCTION is one of
`iqloop.restorers.degradation.parse` or a category of DQ-495K, which stands for any of its functions; of several one is
drawn, and its number between LEAST and MOST. What is drawn follows from the photograph's name, the mixture's name and a
seed alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from iqloop import distort
from iqloop.distort.image import Bytes
from iqloop.distort.tables import canonical
from iqloop.errors import UsageError
from iqloop.restorers.degradation import CLEAN, KINDS, Degradation, check, degrade, scale_of, treatment_of
from iqloop.restorers.tool import Treatment


@dataclass(frozen=True)
class Choice:
    """A function, and the range of its number."""

    function: str
    least: float
    most: float


@dataclass(frozen=True)
class Mixture:
    """Several degradations, one after the other."""

    name: str
    group: str
    steps: tuple[tuple[Choice, ...], ...]
    """For each step what it may be; a step of several functions draws one. None at all leaves a photograph clean."""

    @property
    def treatments(self) -> tuple[Treatment, ...]:
        """What would mend it, in the order of the steps, each once."""
        found = (treatment_of((choice.function, choice.least)) for step in self.steps for choice in step)
        return tuple(dict.fromkeys(treatment for treatment in found if treatment is not None))


@dataclass(frozen=True)
class Mixtures:
    """A file of them."""

    mixtures: tuple[Mixture, ...]
    groups: dict[str, str]
    """Each group's origin."""
    left_out: tuple[str, ...]
    """Names of published mixtures that cannot be made here."""
    reason: str
    """Why."""
    digest: str
    """SHA-256 of the file."""

    def choose(self, only: Sequence[str] | None) -> tuple[Mixture, ...]:
        """Those of the names or groups in ``only``, all for None. Raises `UsageError` for one that there is not."""
        known = {*(one.name for one in self.mixtures), *(one.group for one in self.mixtures)}
        for name in only or ():
            if name not in known:
                raise UsageError(f"no mixture or group named {name!r}: expected some of {', '.join(sorted(known))}")
        return tuple(one for one in self.mixtures if only is None or one.name in only or one.group in only)


def load(path: Path | None = None) -> Mixtures:
    """Read a file, or the one that comes with the package. Raises `UsageError` that says where it is wrong."""
    try:
        raw = resources.files("iqloop.recipes.bench.restore").joinpath("mixtures.json").read_bytes()
        raw = raw if path is None else path.read_bytes()
        document = json.loads(raw)
        left_out = document.get("left_out", {})
        mixtures = tuple(_mixture(entry) for entry in document["mixtures"])
        found = Mixtures(
            mixtures,
            dict(document.get("groups", {})),
            tuple(left_out.get("mixtures", ())),
            left_out.get("reason", ""),
            hashlib.sha256(raw).hexdigest(),
        )
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise UsageError(
            f"{path}: expected JSON {{'mixtures': [{{'name', 'steps': [{{FUNCTION: [LEAST, MOST]}}]}}]}} ({reason})"
        ) from error
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    names = [one.name for one in mixtures]
    if not names or len(set(names)) != len(names):
        raise UsageError(f"{path}: expected mixtures of different names, got {', '.join(names) or 'none'}")
    return found


def draw_seed(photo: str, mixture: str, seed: int) -> int:
    """The seed of one photograph's damage: the same on every machine, whatever else is measured."""
    return int.from_bytes(hashlib.sha256(f"{photo}\n{mixture}\n{seed}".encode()).digest()[:4], "big")


def draw(mixture: Mixture, seed: int) -> tuple[Degradation, ...]:
    """A mixture's degradations with their numbers; the same seed gives the same."""
    rng = np.random.default_rng(seed)
    drawn = []
    for step in mixture.steps:
        choice = step[rng.integers(len(step))]
        value = float(rng.uniform(choice.least, choice.most))
        whole = choice.function in KINDS and KINDS[choice.function].whole
        drawn.append((choice.function, float(round(value)) if whole else round(value, 2)))
    return tuple(drawn)


def damage(photograph: Bytes, degradations: Sequence[Degradation], seed: int) -> Bytes:
    """Apply them in order to ``(H, W, 3)`` uint8 RGB; each draws from a seed of its own."""
    for step, one in enumerate(degradations):
        photograph = degrade(photograph, one, seed + 7919 * step).given
    return photograph


def _mixture(entry: Any) -> Mixture:
    steps = tuple(_step(step) for step in entry["steps"])
    return Mixture(str(entry["name"]), str(entry.get("group", "mixtures")), steps)


def _step(step: dict[str, Any]) -> tuple[Choice, ...]:
    choices = []
    for name, (least, most) in step.items():
        functions = next((names for category, names in distort.CATEGORIES.items() if category == name), (name,))
        for function in map(canonical, functions):
            for number in (least, most):
                one = check((function, float(number)))
                if one == CLEAN or scale_of(one) != 1:
                    raise UsageError(f"{function}: expected a degradation that keeps the size")
            if least > most:
                raise UsageError(f"{name}: expected [LEAST, MOST], got [{least}, {most}]")
            choices.append(Choice(function, float(least), float(most)))
    if not choices:
        raise UsageError("a step holds no function: expected {FUNCTION: [LEAST, MOST]}")
    return tuple(choices)
