"""The papers' ablations at the scale of the embedded critic: ``iqloop bench ablations``.

    Variant, VARIANTS   what is trained, and which tables it stands in
    train               one variant, from the same checkpoint, for the same number of steps and questions
    measure             held-out figures of a checkpoint
    tables, spread_plot what is shown

Q-Insight's Tables 3 and 4 (joint against single tasks) and Table B (epsilon); VisualQuality-R1's Tables 3 (K) and 4
(its reward against binary, average and fixed variance) and Figure 3 (the spread of the answers falls). Beside them the
start and, as the control of all, as many further steps of supervision.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from iqloop.critic.prompts import TaskName
    from iqloop.critic.rewards.ranking import Variant as Reward

JOINT: tuple[TaskName, ...] = ("score", "degradation")
SCORE: tuple[TaskName, ...] = ("score",)

Table = Literal["reinforcement", "tasks", "epsilon", "answers", "reward", "queries"]
TITLES: Mapping[Table, str] = {
    "reinforcement": "Reinforcement and supervision from the same start",
    "tasks": "One task or two (Q-Insight, Tables 3 and 4)",
    "epsilon": "How near a score must come (Q-Insight, Table B)",
    "answers": "Answers to a question, K (VisualQuality-R1, Table 3)",
    "reward": "The ranking reward (VisualQuality-R1, Table 4)",
    "queries": "One query, or one a class as AgenticIR asks (Q-Insight, Table 2); supervised, 5 x the steps",
}


@dataclass(frozen=True)
class Variant:
    """One way to train, or none."""

    name: str
    tables: tuple[Table, ...]
    way: Literal["start", "supervised", "one query", "query per class", "grpo"] = "grpo"
    tasks: tuple[TaskName, ...] = JOINT
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Of the preset ``q-insight``."""
    continued: float | None = None
    """Of supervision: fraction of the peak rates; None is that of a warm start that goes on."""


def _ranking(name: str, tables: tuple[Table, ...], answers: int = 6, variant: Reward = "fidelity") -> Variant:
    changes = {"score_by": "ranking", "generations": answers, "variant": variant}
    return Variant(name, tables, tasks=SCORE, changes=changes)


VARIANTS: tuple[Variant, ...] = (
    Variant("start", tuple(TITLES), "start"),
    Variant("supervised", ("reinforcement",), "supervised"),
    Variant("joint", ("reinforcement", "tasks")),
    Variant("score only", ("tasks", "epsilon", "reward"), tasks=SCORE),
    Variant("degradation only", ("tasks",), tasks=("degradation",)),
    *(Variant(f"epsilon {e}", ("epsilon",), tasks=SCORE, changes={"epsilon": e}) for e in (0.15, 0.25, 0.5)),
    _ranking("ranking, K = 4", ("answers",), 4),
    _ranking("ranking, K = 5", ("answers",), 5),
    _ranking("ranking, K = 6", ("answers", "reward")),
    _ranking("binary", ("reward",), variant="binary"),
    _ranking("average", ("reward",), variant="probability-average"),
    _ranking("fixed variance", ("reward",), variant="fixed-variance"),
    Variant("one query", ("queries",), "one query"),
    Variant("a query for each class", ("queries",), "query per class"),
)
"""Every variant, in the order in which they are run."""

QUERY_STEPS = 5
"""Times the steps for the two ways to ask: one of them is new to the start."""
SAVED = 50
"""Steps of reinforcement after which a run can be resumed; shorter ones begin anew."""
LOOKS = 10
"""How often the spread of the answers is looked at in a run."""


@dataclass(frozen=True)
class Scale:
    """What all variants have in common."""

    data: Path
    begin: Path
    """The checkpoint that all start from."""
    steps: int = 60
    questions: int = 8
    """Per step."""
    rate: float = 1e-4
    side: int = 224
    fold: int = 0
    """Of the rated photographs: measured on, not trained on."""
    seed: int = 0
    cases: int = 500
    """Distorted photographs to measure perception on."""
    samples: int = 4
    """Drawn answers to each score question."""
    warm_up: int = 0
    """Steps of reinforcement in which the rate rises."""
    freeze_vision: bool = False
    """Leave the vision tower as it is, also in supervised steps."""


@dataclass(frozen=True)
class Data:
    """Photographs ``(H, W, 3)`` uint8, read once."""

    photographs: Sequence[Any]
    rated: Sequence[tuple[Any, float]]
    """To train on."""
    held_out: Sequence[Any]
    held_out_rated: Sequence[tuple[Any, float]]


def read(scale: Scale) -> Data:
    """The data of all variants; raises `UsageError` for what is missing."""
    from iqloop.critic.training.crops import load_photographs, load_rated, well_rated
    from iqloop.errors import UsageError

    tables = sorted((scale.data / "rated").glob("*.csv"))
    for folder in ("photos/train", "photos/val"):
        if not (scale.data / folder).is_dir():
            raise UsageError(f"{scale.data / folder} is missing: expected clean photographs there")
    if not tables:
        raise UsageError(f"{scale.data / 'rated'}: expected *.csv with the columns file and mos_1_5 there")
    rated = [row for table in tables for row in load_rated(table, scale.fold)]
    kept = [row for table in tables for row in load_rated(table, scale.fold, held_out=True)]
    photographs = [*load_photographs(scale.data / "photos/train"), *well_rated(rated)]
    return Data(photographs, rated, load_photographs(scale.data / "photos/val"), kept)


def train(variant: Variant, scale: Scale, data: Data, output: Path, say: Callable[[str], None]) -> Path:
    """Train one variant; the folder of its weights. The weights along the way lie in ``output/at-STEP``."""
    if variant.way == "start":
        return scale.begin
    if variant.way != "grpo":
        return _supervised(variant, scale, data, output, say)
    from iqloop.critic.training.grpo import PRESETS, train_grpo, trainer
    from iqloop.critic.training.synthetic import Source, examples, rows

    settings = replace(
        PRESETS["q-insight"],
        steps=scale.steps,
        prompts_per_step=scale.questions,
        prompts_per_device=scale.questions,
        rate=scale.rate,
        final_rate=scale.rate / 1000,
        max_new_tokens=80,
        seed=scale.seed,
        save_every=SAVED,
        warm_up=scale.warm_up,
        freeze_vision=scale.freeze_vision,
        **variant.changes,
    )
    questions = examples(variant.tasks, scale.steps * scale.questions)
    source = Source(data.photographs, data.rated, side=scale.side, seed=scale.seed + 1000)
    keep = _keep(output, max(1, scale.steps // LOOKS))
    made = trainer(scale.begin, output, questions, settings, dataset=rows(source, questions), callbacks=[keep])
    train_grpo(made, output, say)
    return output / "final"


def _keep(output: Path, every: int) -> Any:
    """Weights along the way."""
    from transformers import TrainerCallback

    class Keep(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **known: Any) -> None:
            if state.global_step % every == 0:
                folder = output / f"at-{state.global_step:05d}"
                known["model"].save_pretrained(folder)
                known["processing_class"].save_pretrained(folder)

    return Keep()


def _supervised(variant: Variant, scale: Scale, data: Data, output: Path, say: Callable[[str], None]) -> Path:
    """Steps of the warm start, with as many crops, each asked every question; its rates as for going on."""
    from iqloop.critic.checkpoint import CheckpointSource, load
    from iqloop.critic.mini import save
    from iqloop.critic.prompts import Q_INSIGHT
    from iqloop.critic.training.crops import Plan
    from iqloop.critic.training.warmstart import QUESTIONS, WarmstartSettings, train_warmstart
    from iqloop.recipes.evaluate import query_per_class
    from iqloop.recipes.train.mini import CONTINUED

    checkpoint = load(CheckpointSource("start", str(scale.begin)), device="cpu", dtype="float32", stock=True)
    usual = WarmstartSettings()
    continued = CONTINUED if variant.continued is None else variant.continued
    asked = {
        "supervised": QUESTIONS,
        "one query": tuple(one for one in QUESTIONS if one.prompt is Q_INSIGHT["degradation"]),
        "query per class": query_per_class.QUESTIONS,
    }
    settings = WarmstartSettings(
        steps=scale.steps * (1 if variant.way == "supervised" else QUERY_STEPS),
        questions=asked[variant.way],
        rated_share=usual.rated_share if variant.way == "supervised" else 0,
        plans=(Plan(scale.side, scale.questions),),
        rate=usual.rate * continued,
        embed_rate=usual.embed_rate * continued,
        vision_rate=0.0 if scale.freeze_vision else usual.vision_rate * continued,
        seed=scale.seed + 1000,
        save_every=100 * scale.steps,
    )
    output.mkdir(parents=True, exist_ok=True)

    def log(row: dict[str, float]) -> None:
        say(" ".join(f"{key}={value:.4g}" for key, value in row.items()))

    train_warmstart(checkpoint, data.photographs, data.rated, data.held_out, (), settings, output, log, workers=0)
    save(checkpoint.model, checkpoint.processor, output / "final")
    return output / "final"


def measure(folder: Path, scale: Scale, data: Data, per_class: bool = False) -> dict[str, float | None]:
    """Held-out figures; with ``per_class`` perception is asked class by class.

    By default decoding: ``class`` and ``level`` accuracy, ``degradation_reward``, ``score_reward`` (epsilon 0.35) on
    distorted photographs and on rated ones, ``plcc`` and ``srcc`` with people. Of drawn answers to the score question
    about the rated photographs: ``drawn_score_reward``, ``format``, ``unparsed``, and ``spread`` (the mean of the
    photographs' standard deviations).
    """
    from iqloop.critic import create_critic
    from iqloop.critic.evaluation import perception
    from iqloop.critic.evaluation.correlation import pearson, spearman
    from iqloop.critic.rewards.perception import CLASS_WEIGHT, EPSILON, LEVEL_WEIGHT
    from iqloop.critic.training.opinion import CLEAN, mean_opinion
    from iqloop.critic.verdicts import SEVERITIES, Degradation, Rating
    from iqloop.recipes.evaluate import query_per_class

    critic = create_critic(folder, seed=scale.seed)
    perceive = query_per_class.perceiver(folder) if per_class else None
    pairs, degradation, near = [], [], []
    for case in perception.cases(data.held_out, scale.cases, scale.seed):
        image = [tensor_of(case.image)]
        (seen,), (rated,) = critic.perceive(image), critic.score(image)
        answer: tuple[str, str] = (perception.UNPARSED, perception.UNPARSED)
        if perceive is not None:
            answer = perceive(image[0])
        elif isinstance(seen, Degradation):
            answer = (seen.distortion_class, seen.severity)
        pairs.append((case.truth, answer))
        right = answer[0] == case.truth[0]
        degradation.append(CLASS_WEIGHT * right + LEVEL_WEIGHT * (answer == case.truth))
        opinion = CLEAN
        if case.function is not None:
            opinion = mean_opinion(case.function, SEVERITIES.index(case.severity) + 1)
        near.append(isinstance(rated, Rating) and abs(rated.mean - opinion) < EPSILON)
    figures = perception.figures(pairs)
    images, opinions = (
        [tensor_of(image) for image, _ in data.held_out_rated],
        [value for _, value in data.held_out_rated],
    )
    scores = [rating.mean if isinstance(rating, Rating) else 3.0 for rating in critic.score(images)]
    by_people = [abs(a - b) < EPSILON for a, b in zip(scores, opinions, strict=True)]
    return {
        "class": figures.class_accuracy,
        "level": figures.level_accuracy,
        "degradation_reward": _mean(degradation),
        "score_reward_distorted": _mean(near),
        "score_reward_rated": _mean(by_people),
        "plcc": pearson(_vector(scores), _vector(opinions)),
        "srcc": spearman(_vector(scores), _vector(opinions)),
        **drawn(folder, scale, data.held_out_rated),
    }


def drawn(folder: Path, scale: Scale, rated: Sequence[tuple[Any, float]]) -> dict[str, float | None]:
    """What answers that are drawn at temperature 1 are worth, and how far they spread, over a photograph's middle."""
    from iqloop.critic import create_critic
    from iqloop.critic.answers import parse_rating
    from iqloop.critic.evaluation.stability import spread, stability
    from iqloop.critic.rewards import format_reward, score_reward
    from iqloop.critic.verdicts import Rating

    critic = create_critic(folder, decoding="reason", samples=scale.samples, seed=scale.seed)
    middles = [_middle(tensor_of(image), scale.side) for image, _ in rated]
    found = critic.score(middles)
    texts = [list(one.answers) if isinstance(one, Rating) else [] for one in found]
    said = [[parse_rating(text) for text in several] for several in texts]
    spreads = [spread([one if isinstance(one, float) else None for one in several]) for several in said]
    flat = [(text, opinion) for several, (_, opinion) in zip(texts, rated, strict=True) for text in several]
    return {
        "drawn_score_reward": _mean([score_reward(text, opinion) for text, opinion in flat]),
        "format": _mean([format_reward(text, "score") for text, _ in flat]),
        "unparsed": sum(one.unparsed for one in found) / (len(rated) * scale.samples),
        "spread": stability(spreads).std_mean,
    }


LOOKED_AT = 20
"""Rated photographs whose answers' spread is followed over a run, as many as of each data set in the slides."""


def _spread(folder: Path, scale: Scale, data: Data) -> float | None:
    return drawn(folder, scale, data.held_out_rated[:LOOKED_AT])["spread"]


def run(
    names: Sequence[str], scale: Scale, output: Path, say: Callable[[str], None]
) -> tuple[dict[str, Any], dict[str, dict[int, float | None]]]:
    """Train and measure the variants that ``output`` does not hold yet.

    Returns:
        The figures by variant, and of each run that drew answers the spread by step, 0 being the start.
    """
    import shutil

    data = read(scale)
    output.mkdir(parents=True, exist_ok=True)
    chosen = [variant for variant in VARIANTS if variant.name in names]
    results: dict[str, Any] = {}
    spreads: dict[str, dict[int, float | None]] = {}
    for variant in chosen:
        kept = output / f"{re.sub('[^a-z0-9.]+', '-', variant.name.lower())}.json"
        if not kept.exists():
            folder = output / kept.name.removesuffix(".json")
            trained = train(variant, scale, data, folder, named(say, variant))
            figures = measure(trained, scale, data, variant.way == "query per class")
            along = {0: _spread(scale.begin, scale, data)} if variant.way == "start" else {}
            for at in sorted(folder.glob("at-*")):
                along[int(at.name.removeprefix("at-"))] = _spread(at, scale, data)
                shutil.rmtree(at)
            kept.write_text(json.dumps({"variant": asdict(variant), "figures": figures, "spread": along}, indent=1))
        told = json.loads(kept.read_text())
        results[variant.name] = told["figures"]
        spreads[variant.name] = {int(step): value for step, value in told["spread"].items()}
        say(f"{variant.name}: " + " ".join(f"{key}={_shown(value)}" for key, value in told["figures"].items()))
    return results, spreads


COLUMNS = {
    "class": "class",
    "level": "level",
    "degradation_reward": "degradation reward",
    "score_reward_distorted": "score reward, distorted",
    "score_reward_rated": "score reward, rated",
    "drawn_score_reward": "drawn",
    "plcc": "PLCC",
    "srcc": "SRCC",
    "spread": "spread",
    "format": "format",
    "unparsed": "unparsed",
}


def tables(results: Mapping[str, Mapping[str, float | None]]) -> str:
    """Markdown: one table for each comparison that has more than its start."""
    lines: list[str] = []
    for table, title in TITLES.items():
        inside = [v for v in VARIANTS if table in v.tables and v.name in results]
        if len(inside) < 2:
            continue
        lines += [
            f"### {title}",
            "",
            f"| variant | {' | '.join(COLUMNS.values())} |",
            "|---" * (len(COLUMNS) + 1) + "|",
        ]
        for variant in inside:
            shown = (_shown(results[variant.name][key]) for key in COLUMNS)
            lines.append(f"| {variant.name} | " + " | ".join(shown) + " |")
        lines.append("")
    return "\n".join(lines)


def spread_plot(spreads: Mapping[str, Mapping[int, float | None]]) -> Figure:
    """Spread of the answers over the steps, a line for each run, from the start that all share."""
    from iqloop.critic.evaluation import charts

    figure = charts.blank(6.4, 4)
    axes = figure.subplots()
    first = spreads.get("start", {})
    runs = [(name, along) for name, along in spreads.items() if name != "start" and along]
    for i, (name, along) in enumerate(runs):
        points = [(step, value) for step, value in sorted({**first, **along}.items()) if value is not None]
        style = "-" if i < 10 else "--"  # ten colours
        axes.plot([step for step, _ in points], [value for _, value in points], style, label=name, linewidth=1.5)
    axes.set_xlabel("step")
    axes.set_ylabel("standard deviation of an image's scores")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=7, frameon=False)
    return figure


def named(say: Callable[[str], None], variant: Variant) -> Callable[[str], None]:
    return lambda line: say(f"{variant.name}: {line}")


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _middle(image: Tensor, side: int) -> Tensor:
    top, left = (max(0, (length - side) // 2) for length in image.shape[-2:])
    return image[:, top : top + side, left : left + side]


def tensor_of(image: Any) -> Tensor:
    """``(H, W, 3)`` uint8 to ``(3, H, W)`` in [0, 1]."""
    import torch

    return torch.from_numpy(image).permute(2, 0, 1).float() / 255


def _vector(values: Sequence[float]) -> Any:
    import numpy as np

    return np.asarray(values, float)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
