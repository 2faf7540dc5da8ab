"""What ``iqloop bench restore`` measures: the loop beside what needs no judge, and beside the best in hindsight.

A case is one photograph with one mixture of degradations, or one real pair. On each there are six `METHODS`. The nets
of the package are what all of them but the agent choose from; the agent has every tool there is, as `iqloop restore`
has. Seconds of the agent are those of a run that shares no output with the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from iqloop.agents.baselines import Chain, Found, Outputs, all_chains, best_of, prior_chain, random_chain
from iqloop.agents.diagnosis import describe
from iqloop.agents.loop import restore
from iqloop.critic.verdicts import Rating
from iqloop.distort.image import Bytes
from iqloop.recipes.bench.restore.cases import Case, Wanted
from iqloop.recipes.bench.restore.judge import judge_nets
from iqloop.recipes.bench.restore.mixtures import Mixtures
from iqloop.recipes.console import Console
from iqloop.recipes.evaluate import run as evaluate_run
from iqloop.restorers.embedded import embedded
from iqloop.restorers.full_reference import PERFECT, nearness, psnr

if TYPE_CHECKING:
    from iqloop.agents.loop import Restoration
    from iqloop.critic.protocol import Critic
    from iqloop.recipes.evaluate.run import Run
    from iqloop.restorers.registry import Registry
    from iqloop.restorers.tool import ToolInfo

METHODS = ("nothing", "fixed", "random", "single", "oracle", "agent")
"""The input; all nets in the order prior's order; all in a random order; the best one of them in hindsight; the best
sequence of up to `LONGEST` different ones in hindsight, none included; the loop."""
LONGEST = 3
WORSE = 0.1
"""dB below the input from which an output counts as worse."""


@dataclass(frozen=True)
class Row:
    """One method on one case."""

    photo: str
    mixture: str
    group: str
    treatments: tuple[str, ...]
    """What would mend the mixture."""
    damage: tuple[str, ...]
    """The degradations that were drawn, as `iqloop.restorers.degradation.label` writes them."""
    method: str
    """One of `METHODS`."""
    tools: tuple[str, ...]
    """What led from the input to the output, in order."""
    psnr: float
    """dB, of the output rounded to 8 bits; 60 at most."""
    ssim: float | None
    gmsd: float
    gain: float
    """dB over the input."""
    worse: bool
    """The gain is below -`WORSE`."""
    score: float | None
    """The critic's, on its own range; None where it could not be read."""
    tool_calls: int
    critic_calls: int
    seconds: float
    """Of the tools' runs; of the agent, of all that it did."""
    stop_reason: str | None = None
    """The agent's."""
    saw: str | None = None
    """What the agent's critic saw in the input."""
    tried: tuple[str, ...] = ()
    """Every output that the agent's judge looked at, and what it said."""


Measured = Callable[[Sequence[str]], Iterable[tuple[str, "dict[str, Any] | Exception | str"]]]
"""What measures cases by their keys: each with its answer, or with why there is none, as soon as it is done."""


def run(wished: Sequence[str], measured: Measured, kept: Run, console: Console) -> dict[str, dict[str, Any]]:
    """Measure every case that is not in ``kept`` yet; each is on disk when it is done. Failures go to the console.

    Returns the answers to what is wished, by key, as `measure` gives them, also those of an earlier run.
    """
    todo = [key for key in wished if key not in kept.finished]
    with console.progress(len(todo), "measuring") as progress:
        for key, answer in measured(todo):
            console.detail(key)
            if isinstance(answer, (str, Exception)):
                console.fail(key, answer)
            else:
                kept.keep(key, **answer)
            progress.advance()
    return {key: kept.finished[key] for key in wished if key in kept.finished}


def measure(case: Case, wanted: Wanted, critic: Critic, registry: Registry) -> dict[str, Any]:
    """One case as ``{"rows": [...], "judged": [...]}``, the fields of `Row` and of `bench_restore_judge.Judged`."""
    given, truth, degradations = case.read()
    image = _tensor(given)
    nets = [registry.get(info.name) for info in nets_of(registry)]
    outputs = Outputs(nets, wanted.seed)

    def value(candidate: Tensor) -> float:
        return min(psnr(_bytes(candidate), truth), PERFECT)

    found = baselines(image, outputs, value, case.seed)
    judged = judge_nets(image, outputs, critic, value, wanted.settings) if wanted.judge else []
    outcome = restore(image, critic, registry, settings=wanted.settings, seed=wanted.seed, budget=wanted.budget)
    images = [*(one.image for one in found.values()), outcome.image]
    with torch.no_grad():
        ratings = critic.score(images)
    before = value(image)
    rows = []
    for method, candidate, rating in zip((*found, "agent"), images, ratings, strict=True):
        near = nearness(_bytes(candidate), truth)
        spent = _spent(found[method]) if method in found else _told(outcome)
        row = Row(
            photo=case.photo,
            mixture=case.mixture.name,
            group=case.mixture.group,
            treatments=case.mixture.treatments,
            damage=degradations,
            method=method,
            psnr=near.psnr,
            ssim=near.ssim,
            gmsd=near.gmsd,
            gain=near.psnr - before,
            worse=near.psnr < before - WORSE,
            score=rating.mean if isinstance(rating, Rating) else None,
            **spent,
        )
        rows.append(asdict(row))
    return {"rows": rows, "judged": [asdict(one) for one in judged]}


def baselines(image: Tensor, outputs: Outputs, value: Callable[[Tensor], float], seed: int) -> dict[str, Found]:
    """All methods but the agent, in the order of `METHODS`."""
    names = list(outputs.tools)
    chains: dict[str, Sequence[Chain]] = {
        "nothing": [()],
        "fixed": [prior_chain(tool.info for tool in outputs.tools.values())],
        "random": [random_chain(names, np.random.default_rng(seed))],
        "single": [(name,) for name in names],
        "oracle": all_chains(names, LONGEST),
    }
    return {method: best_of(image, own, outputs, value) for method, own in chains.items()}


def nets_of(registry: Registry) -> list[ToolInfo]:
    """The package's nets that keep the size, as ``registry`` has them. Raises `UsageError` when one is missing."""
    return [registry.info(info.name) for info in embedded() if info.scale == 1]


def config(wanted: Wanted, mixtures: Mixtures, critic: Critic, registry: Registry) -> dict[str, Any]:
    """What decides a row, as JSON types: rows of a run with another one are not gone on with."""
    folder = wanted.pairs or wanted.photos
    return {
        "measure": "restore",
        "photos": None if folder is None else str(folder),
        "pairs": wanted.pairs is not None,
        "mixtures": mixtures.digest,
        "side": wanted.side,
        "seed": wanted.seed,
        "judge": wanted.judge,
        "critic": evaluate_run.identity(critic),
        "settings": asdict(wanted.settings),
        "budget": asdict(wanted.budget),
        "tools": {info.name: info.version for info in registry if info.scale == 1},
    }


def rows_of(answers: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """The rows of a run's answers."""
    return [_row(fields) for answer in answers.values() for fields in answer["rows"]]


def _bytes(image: Tensor) -> Bytes:
    values = image.detach().to("cpu", torch.float32).clamp(0, 1).permute(1, 2, 0).numpy()
    return np.asarray(np.rint(values * 255), dtype=np.uint8)


def _tensor(image: Bytes) -> Tensor:
    return torch.from_numpy(image.copy()).permute(2, 0, 1).contiguous().float() / 255


def _spent(found: Found) -> dict[str, Any]:
    return {"tools": found.tools, "tool_calls": found.tool_calls, "critic_calls": 0, "seconds": found.seconds}


def _told(outcome: Restoration) -> dict[str, Any]:
    return {
        "tools": outcome.steps,
        "tool_calls": outcome.tool_calls,
        "critic_calls": outcome.critic_calls,
        "seconds": outcome.seconds,
        "stop_reason": outcome.stop_reason,
        "saw": describe(outcome.trace.diagnosis),
        "tried": tuple(_tries(outcome)),
    }


def _tries(outcome: Restoration) -> Iterator[str]:
    for step in outcome.trace.steps:
        for attempt in step.tries:
            yield f"{attempt.tool} on {attempt.started_from}: {attempt.decision}, {attempt.reason}"


def _row(fields: Mapping[str, Any]) -> Row:
    # JSON has no tuples.
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()
    }
    return Row(**values)
