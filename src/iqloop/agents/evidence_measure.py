"""Measures what a critic's answers are worth: weights for `iqloop.agents.evidence`, fitted on what is known.

First what is present: clean photographs are damaged by nothing, one, two or three degradations; very many are measured,
which takes milliseconds, and some are looked at by the critic. Then what helps: the first tool for each treatment is
tried on damaged photographs, and the others on one of the outputs, as the loop does. Of each pair it is known by how
many dB of PSNR the output is nearer to the clean original. The regressions are fitted by weighted maximum likelihood: a
pair counts the more the more there was to win or to lose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from iqloop import distort
from iqloop.agents.diagnosis import PERCEIVED, total_severity, with_certainty
from iqloop.agents.evidence import AS_PRESENT, CLIP, LIGHT, Evidence, Features, Look, Regression, from_afar, measure
from iqloop.agents.fidelity import measure_fidelity
from iqloop.agents.judge import JudgeSettings, needed_evidence
from iqloop.critic.protocol import Critic
from iqloop.critic.verdicts import Degradation, Preference, Rating, Unparsed
from iqloop.restorers.full_reference import tensor_psnr as psnr
from iqloop.restorers.tool import Tool, Treatment

FOLDS = (0, 1, 1, 2, 2, 2, 3, 3)
"""How many degradations one photograph after the other is given."""
GAIN = 0.1
"""A try was worth while when the output is nearer to the clean original by more, in dB."""
CLEAR = 0.5
"""Pairs that differ by more, in dB, are those whose judgement must be right."""
FOLLOWED = 0.7
"""Share of the second rounds that start from the best output of the first; the others from any."""
HEAVIEST = 3.0
"""A pair's weight is its difference in dB, at most this, plus `LIGHTEST`."""
LIGHTEST = 0.1
RIDGE = 0.02
"""Weight of the squared weights in the likelihood of pairs."""
LIGHT_RIDGE = 0.003
"""The same of what is present, of which there are many examples."""

GATE = JudgeSettings()
"""The loop's own low-pass, by default, for the fidelity among the features."""

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Seen:
    """A damaged photograph as it was measured, or looked at."""

    present: tuple[Treatment, ...]
    features: Features
    """`iqloop.agents.evidence.measure`, or `iqloop.agents.evidence.Evidence.looking`."""


@dataclass(frozen=True)
class Known:
    """A picture, what a tool made of it, and the truth."""

    treatment: Treatment
    folds: int
    """How many degradations the photograph was given."""
    gain: float
    """PSNR in dB of the output less that of the picture, against the clean original."""
    first: Features
    """`iqloop.agents.evidence.Evidence.promising`."""
    both: Features
    """`iqloop.agents.evidence.Evidence.deciding`."""


def glance(photographs: Iterable[Bytes], seed: int = 0) -> list[Seen]:
    """Each photograph ``(H, W, 3)`` uint8 RGB damaged and measured; no critic is asked."""
    found = []
    for place, clean in enumerate(photographs):
        present, damaged, _ = _damage(clean, seed, place)
        found.append(Seen(present, measure(_tensor(damaged))))
    return found


def observe(
    photographs: Iterable[Bytes],
    critic: Critic,
    evidence: Evidence,
    seed: int = 0,
    on_photograph: Callable[[], object] = lambda: None,
) -> list[Seen]:
    """One look at each photograph ``(H, W, 3)`` uint8 RGB, damaged; answers that cannot be read are left out.

    ``evidence`` holds what the pixels alone say (`fit_traces`).
    """
    found = []
    for place, clean in enumerate(photographs):
        present, damaged, _ = _damage(clean, seed, place)
        look = look_at(_tensor(damaged), critic)
        if look is not None:
            found.append(Seen(present, evidence.looking(look)))
        on_photograph()
    return found


def fit_traces(measured: Sequence[Seen], critic: Critic, origin: Mapping[str, object]) -> Evidence:
    """Evidence of what the pixels alone say, and of nothing else yet."""
    return Evidence(critic.name, critic.version, _fit_presence(measured), {}, {}, {}, origin)


def fit_presence(seen: Sequence[Seen], evidence: Evidence) -> Evidence:
    """The evidence with what is present; ``seen`` on other photographs than its traces were learned on, or they are
    trusted too much."""
    return replace(evidence, presence=_fit_presence(seen))


def _fit_presence(seen: Sequence[Seen]) -> dict[Treatment, Regression]:
    """A degradation that never or always is present, is left out."""
    found: dict[Treatment, Regression] = {}
    for treatment in PERCEIVED:
        truth = torch.tensor([treatment in one.present for one in seen])
        if bool(truth.any()) and not bool(truth.all()):
            rows = [one.features for one in seen]
            found[treatment] = fit_regression(rows, truth, torch.ones(len(rows)), LIGHT_RIDGE)
    return found


def gather(
    photographs: Iterable[Bytes],
    tools: Mapping[Treatment, Tool],
    critic: Critic,
    evidence: Evidence,
    seed: int = 0,
    on_photograph: Callable[[Sequence[Known]], object] = lambda _: None,
) -> list[Known]:
    """Known pairs of every photograph ``(H, W, 3)`` uint8 RGB; answers that cannot be read leave their pair out.

    ``evidence`` says what is present (`fit_presence`).
    """
    found: list[Known] = []
    for place, clean in enumerate(photographs):
        present, damaged, rng = _damage(clean, seed, place)
        target, image = _tensor(clean), _tensor(damaged)
        seen = look_at(image, critic)
        if seen is None:
            continue
        trial = _Trial(target, critic, evidence, len(present), total_severity(seen.degradation))
        pairs, outputs = trial.run(image, tools)
        if outputs:
            best = max(outputs, key=lambda name: psnr(outputs[name], target))
            others = list(outputs)
            start = best if rng.random() < FOLLOWED else others[int(rng.integers(len(others)))]
            rest = {name: tool for name, tool in tools.items() if name != start}
            pairs += trial.run(outputs[start], rest)[0]
        found += pairs
        on_photograph(pairs)
    return found


def fit(known: Sequence[Known], evidence: Evidence) -> Evidence:
    """The evidence with promise and verdict; a treatment of which no pair is better, or none is not, is left out.

    Those of `LIGHT` are what is present: learned from 400 pairs they were half as good as that (docs/log.md).
    """
    promise: dict[Treatment, Regression] = {}
    verdict: dict[Treatment, Regression] = {}
    for treatment in PERCEIVED:
        own = [one for one in known if one.treatment == treatment]
        gains = torch.tensor([one.gain for one in own], dtype=torch.float64)
        if not bool((gains > GAIN).any() and (gains <= 0).any()):
            continue
        if treatment == LIGHT and LIGHT in evidence.presence:
            promise[LIGHT] = verdict[LIGHT] = AS_PRESENT
            continue
        promise[treatment] = fit_regression([one.first for one in own], gains > GAIN, _weights(gains))
        verdict[treatment] = fit_regression([one.both for one in own], gains > 0, _weights(gains))
    return replace(evidence, promise=promise, verdict=verdict)


class Agreement(NamedTuple):
    """Shares of pairs that are decided as the truth decides them."""

    right: float
    """By the probability that the loop asks for (`iqloop.agents.judge.needed_evidence`)."""
    even: float
    """By even odds."""
    pairs: int


def agreement(
    known: Sequence[Known], evidence: Evidence, settings: JudgeSettings | None = None
) -> dict[str, Agreement]:
    """How the pairs that differ by more than `CLEAR` dB are decided, of each treatment and of ``all``."""
    settings = settings or JudgeSettings()
    hits: dict[str, list[tuple[bool, bool]]] = {}
    for one in known:
        regression = evidence.verdict.get(one.treatment)
        if regression is None or abs(one.gain) <= CLEAR:
            continue
        chance, better = regression.probability(one.both), one.gain > 0
        hit = ((chance > needed_evidence(one.treatment, settings)) == better, (chance > 0.5) == better)
        for name in (one.treatment, "all"):
            hits.setdefault(name, []).append(hit)
    shares = {name: np.mean(own, axis=0).tolist() for name, own in hits.items()}
    return {name: Agreement(right, even, len(hits[name])) for name, (right, even) in shares.items()}


def fit_regression(rows: Sequence[Features], truth: Tensor, weights: Tensor, ridge: float = RIDGE) -> Regression:
    """Weighted logistic regression with a ridge; features that never change get the weight 0."""
    names = tuple(rows[0])
    table = torch.tensor([[row[name] for name in names] for row in rows], dtype=torch.float64)
    means, deviations = table.mean(0), table.std(0, correction=0)
    deviations = torch.where(deviations > 1e-9, deviations, torch.ones_like(deviations))
    x = ((table - means) / deviations).clamp(-CLIP, CLIP)
    y = truth.to(torch.float64)
    w = torch.zeros(len(names), dtype=torch.float64, requires_grad=True)
    b = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([w, b], max_iter=500, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = functional.binary_cross_entropy_with_logits(x @ w + b, y, weight=weights / weights.mean())
        value = value + ridge * (w**2).sum()
        value.backward()
        return value

    optimiser.step(loss)
    columns = (tuple(round(value, 6) for value in column.tolist()) for column in (means, deviations, w.detach()))
    rounded_means, rounded_deviations, rounded_weights = columns
    # A deviation must not be rounded to nothing.
    kept = tuple(max(value, 1e-6) for value in rounded_deviations)
    return Regression(names, rounded_means, kept, rounded_weights, round(float(b.detach()), 6))


def look_at(image: Tensor, critic: Critic) -> Look | None:
    """What is known of ``(3, H, W)``; None when an answer cannot be read."""
    from iqloop.critic.engine import QwenCritic

    rating: Rating | Unparsed
    perceived: Degradation | Unparsed
    if isinstance(critic, QwenCritic):  # reads the image once for both
        said = critic.ask([image], ("score", "perceive"))[0]
        rating, perceived = cast(Rating, said.score), cast(Degradation, said.degradation)
    else:
        rating, perceived = critic.score([image])[0], critic.perceive([image])[0]
    afar = critic.perceive([from_afar(image)])[0]
    if not isinstance(rating, Rating) or not isinstance(perceived, Degradation) or not isinstance(afar, Degradation):
        return None
    return Look(rating, with_certainty(perceived), with_certainty(afar), measure(image))


@dataclass(frozen=True, eq=False)
class _Trial:
    """Tools on one damaged photograph."""

    target: Tensor
    critic: Critic
    evidence: Evidence
    folds: int
    severity: float
    """The damaged photograph's, of all degradations together."""

    @torch.no_grad()
    def run(self, image: Tensor, tools: Mapping[Treatment, Tool]) -> tuple[list[Known], dict[Treatment, Tensor]]:
        """Every tool on ``image``: what is known of the outputs, and the outputs."""
        old = look_at(image, self.critic)
        pairs: list[Known] = []
        outputs: dict[Treatment, Tensor] = {}
        for treatment, tool in tools.items() if old is not None else ():
            assert old is not None
            output = tool.restore(image[None])[0].clamp(0, 1)
            new = look_at(output, self.critic)
            if output.shape != image.shape or new is None:
                continue
            outputs[treatment] = output
            sigma = GATE.base_sigma + GATE.sigma_per_severity * self.severity
            kept = measure_fidelity(image, output, sigma=sigma, block=GATE.block, relighted=treatment == "darken")
            preference = preference_of(output, image, self.critic)
            both = self.evidence.deciding(old, new, kept, psnr(output, image), preference)
            # Of a photograph that was not damaged every change is a loss, however small: its PSNR has no end.
            gain = psnr(output, self.target) - psnr(image, self.target)
            pairs.append(Known(treatment, self.folds, gain, self.evidence.promising(old), both))
        return pairs, outputs


def _damage(clean: Bytes, seed: int, place: int) -> tuple[tuple[Treatment, ...], Bytes, np.random.Generator]:
    """What the photograph in this place is given, the result, and a generator to go on with."""
    rng = np.random.default_rng([seed, place])
    present = tuple(PERCEIVED[i] for i in rng.permutation(len(PERCEIVED))[: FOLDS[place % len(FOLDS)]])
    mixture = distort.draw_mixture(present, rng)
    return present, distort.apply_all(clean, mixture, seed=int(rng.integers(2**31))) if mixture else clean, rng


def preference_of(new: Tensor, old: Tensor, critic: Critic) -> float | None:
    """Probability that the critic prefers ``new``; None when it cannot compare or its answer cannot be read."""
    if "compare" not in critic.capabilities:
        return None
    preference = critic.compare([new], [old], [old])[0]
    return preference.probability if isinstance(preference, Preference) else None


def _weights(gains: Tensor) -> Tensor:
    return gains.abs().clamp_max(HEAVIEST) + LIGHTEST


def _tensor(image: Bytes) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).float() / 255
