"""What ``iqloop bench critic-loss`` measures: which guards are left out, the runs, and the rows that come of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from iqloop.recipes.console import Console
from iqloop.recipes.train.restorer_guidance import Wanted, guidance_by

if TYPE_CHECKING:
    from torch import nn

    from iqloop.critic.protocol import Critic
    from iqloop.distort.image import Bytes
    from iqloop.restorers.training.guidance import Guidance
    from iqloop.restorers.training.tasks import Task
    from iqloop.restorers.training.train import RestorerSettings
    from iqloop.restorers.training.validation import Check

ORIGINAL, START = "photograph", "start"
BATCHES = 8
"""Of clean patches whose mean score is the cap."""


@dataclass(frozen=True)
class Variant:
    """A way to train, by the guards that are left."""

    name: str
    critic: bool = True
    capped: bool = True
    views: bool = True
    anchored: bool = True


VARIANTS = (
    Variant("no critic", critic=False),
    Variant("all guards"),
    Variant("no cap", capped=False),
    Variant("no views", views=False),
    Variant("no fidelity", anchored=False),
    Variant("no guards", capped=False, views=False, anchored=False),
)


@dataclass(frozen=True)
class Row:
    """One held-out photograph after one way to train."""

    variant: str
    """Of `VARIANTS`, or `START` for the package's weights, or `ORIGINAL` for the photograph itself."""
    weights: str
    """``last``, or ``kept``: those that the held-out critic chose."""
    photo: int
    """Of the photographs that are reported on, from 0."""
    critic: float
    """The score of the critic that was followed."""
    held_out: float
    """Of the one that was not."""
    psnr: float
    ssim: float


class Study(NamedTuple):
    """What is the same for all variants."""

    task: Task
    photographs: list[Bytes]
    held_out: list[Bytes]
    """The first ``settings.validate_on`` choose weights, the others are reported on."""
    settings: RestorerSettings
    critic: Critic
    judge: Critic
    wanted: Wanted
    """Of all guards, its cap a number."""
    folder: Path
    """Of the runs."""


def guidance_for(variant: Variant, study: Study) -> Guidance:
    """The variant's guidance; weights are kept by the held-out critic, and no run ends early.

    Without the critic the reward is a constant: its gradient is zero, and the judges look on.
    """
    from dataclasses import replace

    wanted, critic = study.wanted, study.critic
    best = critic.score_range[0 if critic.lower_better else 1]
    wanted = replace(
        wanted,
        cap=wanted.cap if variant.capped else best,
        views=wanted.views if variant.views else 0,
        fidelity=wanted.fidelity if variant.anchored else 0.0,
        patience=study.settings.steps + 1,
    )
    side = (study.settings.patch or study.task.patch) * study.task.scale
    guidance = guidance_by(critic, study.judge, wanted, side, study.settings.seed)
    return guidance if variant.critic else replace(guidance, reward=lambda images, step: images.new_zeros(len(images)))


def photographs_cap(study: Study) -> float:
    """The critic's mean score of clean patches: what a net can be asked for that is to draw photographs."""
    from statistics import fmean

    from iqloop.recipes.train.diffusion_critic import judge_by
    from iqloop.restorers.training.stream import Patches

    settings, judge = study.settings, judge_by(study.critic)
    patch = settings.patch or study.task.patch
    patches = Patches(study.task, study.photographs, patch, settings.batch, BATCHES, settings.seed)
    return fmean(judge(one.float() / 255) for batch in patches for one in batch.target)


def train(variant: Variant, study: Study, say: Callable[[str], None]) -> int:
    """Run one variant, or what is left of it; returns the step of the weights that were kept."""
    from iqloop.restorers.embedded import FOLDER
    from iqloop.restorers.spandrel_tool import read_metadata
    from iqloop.restorers.training.train import train_restorer

    folder = study.folder / variant.name.replace(" ", "-")
    train_restorer(
        study.task,
        study.task.net,
        study.photographs,
        study.held_out,
        study.settings,
        folder,
        say,
        sizes=_sizes(study.task.name),
        source=FOLDER / f"{study.task.name}.safetensors",
        precision="float32",
        guidance=guidance_for(variant, study),
    )
    return int(json.loads(read_metadata(folder / "final.safetensors")["guidance"])["kept_step"])


def _sizes(task: str) -> dict[str, Any]:
    """Of the package's net for a task, as its file says."""
    from iqloop.restorers.embedded import FOLDER
    from iqloop.restorers.spandrel_tool import read_metadata

    said = json.loads(read_metadata(FOLDER / f"{task}.safetensors")["sizes"])
    return {name: tuple(value) if isinstance(value, list) else value for name, value in said.items()}


def nets_of(variant: Variant | None, study: Study) -> Iterator[tuple[str, nn.Module]]:
    """The last and the kept net of a variant that was run; for None the package's, as ``last``."""
    from iqloop.restorers.embedded import FOLDER
    from iqloop.restorers.training.learner import read_checkpoint
    from iqloop.restorers.training.nets import build_net, load_weights

    def empty() -> nn.Module:
        return build_net(study.task.net, study.task.scale, _sizes(study.task.name)).eval()

    net = empty()
    if variant is None:
        load_weights(net, FOLDER / f"{study.task.name}.safetensors")
        yield "last", net
        return
    folder = study.folder / variant.name.replace(" ", "-")
    net.load_state_dict(read_checkpoint(folder / "last.pt")["average"])
    yield "last", net
    other = empty()
    load_weights(other, folder / "final.safetensors")
    yield "kept", other


def measure(name: str, weights: str, images: Sequence[Bytes], targets: Sequence[Bytes], study: Study) -> list[Row]:
    """Rows of some outputs, one for each photograph."""
    from iqloop.recipes.train.diffusion_critic import judge_by
    from iqloop.restorers.full_reference import PERFECT, psnr, ssim
    from iqloop.restorers.training.stream import to_tensor

    critic, judge = judge_by(study.critic), judge_by(study.judge)
    rows = []
    for photo, (image, target) in enumerate(zip(images, targets, strict=True)):
        pixels = to_tensor([image])[0].float() / 255
        near = (min(psnr(image, target), PERFECT), ssim(image, target))
        rows.append(Row(name, weights, photo, critic(pixels), judge(pixels), *near))
    return rows


class Outcome(NamedTuple):
    """All that came of a study."""

    rows: list[Row]
    kept: dict[str, int]
    """By variant the step of the weights that the held-out critic chose."""
    logs: dict[str, list[dict[str, float]]]
    """By variant the lines of its log."""
    outputs: dict[str, list[Bytes]]
    """By variant what its last weights make of the photographs that are reported on."""
    check: Check
    """Those photographs, and how they were damaged."""


def run(study: Study, variants: Sequence[Variant], console: Console) -> Outcome:
    """Train and measure."""
    from iqloop.restorers.training.validation import apply, checks

    kept, logs = {}, {}
    for variant in variants:
        console.notice(f"{variant.name}:")
        kept[variant.name] = train(variant, study, console.notice)
        log = study.folder / variant.name.replace(" ", "-") / "log.jsonl"
        logs[variant.name] = [json.loads(line) for line in log.read_text().splitlines()]
    settings = study.settings
    reported = study.held_out[settings.validate_on :]
    # The first of a task's fixed damages: the one that its net is known by.
    check = checks(study.task, reported, settings.validate_side, len(reported))[0]
    rows = measure(ORIGINAL, "last", check.target, check.target, study)
    outputs = {}
    for trained in (None, *variants):
        name = START if trained is None else trained.name
        for weights, net in nets_of(trained, study):
            images = [apply(net, given) for given in check.given]
            rows += measure(name, weights, images, check.target, study)
            if weights == "last":
                outputs[name] = images
    return Outcome(rows, kept, logs, outputs, check)
