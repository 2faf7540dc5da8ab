"""`iqloop.critic.rewards` behind trl's signature, over the whole gathered batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from iqloop.critic.answers import parse_choice, parse_degradation, parse_rating
from iqloop.critic.prompts import TaskName
from iqloop.critic.rewards import comparison_reward, degradation_reward, format_reward, ranking_rewards, score_reward
from iqloop.critic.training.grpo.rows import ANSWERED
from iqloop.critic.training.grpo.settings import GrpoSettings
from iqloop.critic.verdicts import Unparsed

Column = Sequence[Any]
Reward = Callable[..., list[float | None]]


def reward_functions(
    settings: GrpoSettings,
    tasks: Sequence[TaskName] = ANSWERED,
    sample: Callable[[dict[str, Any]], None] | None = None,
) -> list[Reward]:
    """The rewards of a run, named as TensorBoard shows them; each answers None for rows of other tasks.

    Args:
        settings: which rewards, and their constants.
        tasks: the tasks of the run; rewards of others are left out.
        sample: takes the first answer of each batch.
    """

    def format(completions: Column, task: Column, **columns: Any) -> list[float | None]:
        texts = [_text(completion) for completion in completions]
        _tell(columns, texts, task)
        if sample is not None and texts:
            sample({"task": task[0], "text": texts[0], "answer": _truth(columns, 0)})
        # VisualQuality-R1 asks for the number alone, so any words between the tags are of its form.
        form: list[TaskName] = [name if settings.prompts == "q-insight" else "describe" for name in task]
        return [format_reward(text, name) for text, name in zip(texts, form, strict=True)]

    def score(completions: Column, task: Column, opinion: Column, **columns: Any) -> list[float | None]:
        texts = [_text(completion) for completion in completions]
        if settings.score_by == "ranking":
            return _ranked(texts, task, opinion, columns["dataset"], settings)
        return [
            score_reward(text, value, settings.epsilon) if name == "score" else None
            for text, name, value in zip(texts, task, opinion, strict=True)
        ]

    def degradation(completions: Column, task: Column, **columns: Any) -> list[float | None]:
        labels = zip(task, columns["distortion_class"], columns["severity"], strict=True)
        return [
            degradation_reward(_text(completion), kind, severity, settings.class_weight, settings.level_weight)
            if name == "degradation"
            else None
            for completion, (name, kind, severity) in zip(completions, labels, strict=True)
        ]

    def comparison(completions: Column, task: Column, choice: Column, **_: Any) -> list[float | None]:
        return [
            comparison_reward(_text(completion), truth) if name.startswith("compare") else None
            for completion, name, truth in zip(completions, task, choice, strict=True)
        ]

    wanted: dict[str, Reward] = {"score": score, "degradation": degradation}
    chosen = [wanted[name] for name in wanted if name in tasks]
    return [format, *chosen, *([comparison] if any(name.startswith("compare") for name in tasks) else [])]


def _truth(columns: Mapping[str, Any], i: int) -> dict[str, Any]:
    names = ("opinion", "distortion_class", "severity", "choice")
    return {name: columns[name][i] for name in names if columns[name][i] is not None}


def _text(completion: Any) -> str:
    return str(completion if isinstance(completion, str) else completion[0]["content"])


def _tell(columns: Mapping[str, Any], texts: Sequence[str], task: Column) -> None:
    """Share of answers that do not parse, and the spread of the scores within a question."""
    log = columns.get("log_metric")
    if log is None:
        return
    log(
        "answers/unparsed",
        float(np.mean([isinstance(_parsed(*pair), Unparsed) for pair in zip(texts, task, strict=True)])),
    )
    spread: dict[Any, list[float]] = {}
    for text, name, index in zip(texts, task, columns["index"], strict=True):
        value = _parsed(text, name)
        if name == "score" and isinstance(value, float):
            spread.setdefault(index, []).append(value)
    spreads = [float(np.std(values, ddof=1)) for values in spread.values() if len(values) > 1]
    log("answers/score_spread", float(np.mean(spreads)) if spreads else float("nan"))


def _parsed(text: str, task: TaskName) -> Any:
    if task == "score":
        return parse_rating(text)
    return parse_degradation(text) if task == "degradation" else parse_choice(text)


def _ranked(
    texts: Sequence[str], task: Column, opinion: Column, dataset: Column, settings: GrpoSettings
) -> list[float | None]:
    """Ranking rewards of this process's answers, ranked within the whole batch of all processes.

    Every process comes here once a batch, also without a score to rank, so that none waits for another.
    """
    from accelerate import PartialState
    from accelerate.utils import gather_object

    mine: list[tuple[Any, ...]] = []
    for text, name, value, group in zip(texts, task, opinion, dataset, strict=True):
        said = parse_rating(text) if name == "score" else None
        mine.append((name, said if isinstance(said, float) else None, value, group))
    state = PartialState()
    counts = gather_object([len(mine)])
    everyone = gather_object(mine)
    start = sum(counts[: state.process_index])
    n = settings.generations
    questions = [everyone[i : i + n] for i in range(0, len(everyone), n)]
    worth: list[float | None] = [None] * len(everyone)
    scored = [i for i, question in enumerate(questions) if question[0][0] == "score"]
    rewards = ranking_rewards(
        [[answer[1] for answer in questions[i]] for i in scored],
        [questions[i][0][2] for i in scored],
        [questions[i][0][3] for i in scored],
        settings.variant,
    )
    for i, earned in zip(scored, rewards, strict=True):
        worth[i * n : i * n + len(earned)] = earned
    return worth[start : start + len(mine)]
