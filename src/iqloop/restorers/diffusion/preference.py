"""Diffusion-DPO: make the preferred image of a pair easier to denoise, against the network as it was.

Wallace et al. 2023, "Diffusion Model Alignment Using Direct Preference Optimization",
https://arxiv.org/abs/2311.12908, equation 14. Differences: the error is that of the schedule's own prediction (noise,
velocity or image), which is another weight of each time; it is a mean over the latents' values where the paper has a
sum, and ``beta`` stands for the paper's beta * T * omega. Winner and loser share noise and time, as in the authors'
code.

The loss also falls where both images become harder to denoise, the loser more so, and does so when pairs are seen too
often: look at ``winner`` in the log, which should not rise far above 0.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from iqloop.errors import UsageError
from iqloop.restorers.diffusion.denoiser import drawn
from iqloop.restorers.diffusion.lora import without
from iqloop.restorers.diffusion.models import DiffusionModel, Given, rows_of, target_of
from iqloop.restorers.diffusion.pairs import Pairs, seeds_of
from iqloop.restorers.diffusion.sampling import squared
from iqloop.restorers.diffusion.tune import Figures


def preference_loss(ours: Tensor, before: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """Loss and margin ``(B,)`` of B pairs.

    Args:
        ours: ``(2, B)`` denoising errors of the winners and of the losers.
        before: the same of the reference.
        beta: how sharply a gain counts; the lower, the further the network may go from the reference.

    A margin above 0 means that the winner gained more than the loser: the pair is implicitly ordered as it should be.
    """
    gain = before - ours
    margin = beta * (gain[0] - gain[1])
    return -functional.logsigmoid(margin), margin


class PreferenceObjective:
    """Diffusion-DPO as an objective of `iqloop.restorers.diffusion.tune`."""

    def __init__(self, model: DiffusionModel, pairs: Pairs, batch: int, beta: float, seed: int) -> None:
        """Keep the pairs, on the device of the network. Raises `UsageError` for a ``beta`` that is not positive."""
        if not beta > 0:
            raise UsageError(f"beta must be positive, got {beta}")
        place = next(model.network.parameters()).device
        self._model, self._batch, self._beta, self._seed = model, batch, beta, seed
        self._two = torch.stack([pairs.winner, pairs.loser]).to(place)  # (2, P, C, h, w)
        self._given = {name: value.to(place) for name, value in pairs.given.items()}

    def __call__(self, step: int, rows: range) -> tuple[Tensor, Figures]:
        """Mean loss of some rows of a step's batch; the same whenever it is asked."""
        chosen = chosen_of(self._two.shape[1], self._batch, step, self._seed)
        two = self._two[:, chosen]
        generator = torch.Generator().manual_seed(seeds_of(1, self._seed, step)[0])
        noise, times = drawn(two[0], self._model.scheduler.config.num_train_timesteps, generator)
        part = slice(rows.start, rows.stop)
        given = rows_of(self._given, chosen[part])
        latents = two[:, part].flatten(0, 1)
        noise, times = torch.cat([noise[part]] * 2), torch.cat([times[part]] * 2)
        both = {name: torch.cat([value, value]) for name, value in given.items()}
        return self._loss(latents, noise, times, both)

    def _loss(self, latents: Tensor, noise: Tensor, times: Tensor, given: Given) -> tuple[Tensor, Figures]:
        """Of winners followed by losers."""
        model = self._model
        noisy = model.scheduler.add_noise(latents, noise, times)
        target = target_of(model.scheduler, latents, noise, times)
        answer = model.answer(noisy, times, given)
        with torch.no_grad(), without(model.network):
            reference = model.answer(noisy, times, given)
        ours, before = (squared(found - target).view(2, -1) for found in (answer, reference))
        losses, margin = preference_loss(ours, before, self._beta)
        figures = {
            "accuracy": (margin > 0).float().mean(),
            "margin": margin.mean(),
            "winner": (ours - before)[0].mean(),
            "loser": (ours - before)[1].mean(),
            "drift": squared(answer - reference).mean(),
        }
        return losses.mean(), {name: value.detach() for name, value in figures.items()}


def chosen_of(count: int, batch: int, step: int, seed: int) -> list[int]:
    """Which of ``count`` things a step takes: each once before any comes again, in another order each time.

    >>> sorted(chosen_of(4, 2, 0, seed=7) + chosen_of(4, 2, 1, seed=7))
    [0, 1, 2, 3]
    """
    found = []
    for place in range(step * batch, (step + 1) * batch):
        turn, at = divmod(place, count)
        order = torch.randperm(count, generator=torch.Generator().manual_seed(seeds_of(1, seed, turn)[0]))
        found.append(int(order[at]))
    return found
