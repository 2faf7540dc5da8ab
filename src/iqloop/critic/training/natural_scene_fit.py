"""Fit `NaturalSceneNet`: to what people said of photographs, and to the differences within scenes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from iqloop.critic.natural_scene_net import NaturalSceneNet
from iqloop.critic.training.natural_scene_data import VERSIONS, Examples


@dataclass(frozen=True)
class FitSettings:
    """How a net is fitted; chosen on held-out folds and on photographs that were not trained on."""

    steps: int = 1500
    rated: int = 64
    """Rated photographs of a step."""
    scenes: int = 16
    """Scenes of a step."""
    rate: float = 3e-3
    """Peak learning rate; a cosine with warm-up."""
    decay: float = 1e-2
    """Weight decay."""
    dropout: float = 0.1
    noise: float = 0.1
    """Deviation of the noise on standardised figures."""
    within: float = 2.0
    """Weight of the squared error of differences within scenes; that of rated photographs is 1."""
    between: float = 0.3
    """Weight of the squared error of the scenes' means, which are known only roughly."""
    seed: int = 0


def fit(rated: Examples, scenes: Examples, settings: FitSettings) -> NaturalSceneNet:
    """A frozen net; the same examples and settings give the same net, on one thread to the bit.

    ``scenes`` holds `VERSIONS` images of a scene after one another, as `scene_examples` gives them.
    """
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    net = NaturalSceneNet()
    figures = torch.cat([rated.figures, scenes.figures])
    net.mean.copy_(figures.mean(0))
    net.deviation.copy_(figures.std(0).clamp_min(1e-6))
    opinions, versions = net.standardise(rated.figures), net.standardise(scenes.figures).unflatten(0, (-1, VERSIONS))
    costs = scenes.scores.view(-1, VERSIONS)
    learned = [*net.weights, *net.biases]
    optimiser = torch.optim.AdamW(learned, lr=settings.rate, weight_decay=settings.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, settings.rate, total_steps=settings.steps + 1)
    for _ in range(settings.steps):
        some = torch.from_numpy(rng.integers(len(opinions), size=settings.rated))
        seen = torch.from_numpy(rng.integers(len(versions), size=settings.scenes))
        shown = torch.cat([opinions[some], versions[seen].flatten(0, 1)])
        shown = shown + settings.noise * torch.randn_like(shown)
        said = net(shown, settings.dropout)
        loss = (said[:, : settings.rated] - rated.scores[some]).square().mean()
        loss = loss + _scene_loss(said[:, settings.rated :].unflatten(1, (-1, VERSIONS)), costs[seen], settings)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return net.requires_grad_(False).eval()


def _scene_loss(said: Tensor, true: Tensor, settings: FitSettings) -> Tensor:
    """Of scores ``(JUDGES, B, VERSIONS)`` against ``(B, VERSIONS)``."""
    off = said - true
    centre = off.mean(-1, keepdim=True)
    return settings.within * (off - centre).square().mean() + settings.between * centre.square().mean()


def scores_of(net: NaturalSceneNet, figures: Tensor) -> Tensor:
    """Mean scores ``(N,)`` of figures ``(N, COUNT)``."""
    with torch.no_grad():
        return torch.as_tensor(net(net.standardise(figures)).mean(0))


def held_out_scores(rated: Examples, scenes: Examples, settings: FitSettings, folds: int = 5) -> Tensor:
    """Scores ``(N,)`` of N whole rated photographs, each by a net that saw neither it nor its crop.

    Fold k is every ``folds``-th photograph from k on, as in `iqloop evaluate score --fold`.
    """
    count = len(rated.scores) // 2
    scores = torch.empty(count)
    for fold in range(folds):
        held = rated.groups % folds == fold
        net = fit(rated.chosen(~held), scenes, replace(settings, seed=settings.seed + fold))
        scores[held[:count]] = scores_of(net, rated.figures[:count][held[:count]])
    return scores
