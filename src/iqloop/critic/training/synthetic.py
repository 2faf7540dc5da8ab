"""GRPO on crops and pairs that are made when they are asked for: every row is a function of (seed, index).

The counterpart of `iqloop.critic.training.grpo.rows`, with the same columns, for the embedded critic, whose training
photographs are distorted on the fly. A row is asked for as often as it has answers, so the last few are kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from iqloop.critic.prompts import Q_INSIGHT, TaskName
from iqloop.critic.training.crops import Bytes, Label, cut, distorted, flip
from iqloop.critic.training.examples import Example
from iqloop.critic.training.pairs import Tool, severity_pair, tool_pair
from iqloop.critic.verdicts import CLASSES, SEVERITIES

KEPT = 512
"""Rows that are kept: more than a step has, with room for the next."""


@dataclass(frozen=True)
class Source:
    """What rows are made of."""

    photographs: Sequence[Bytes]
    rated: Sequence[tuple[Bytes, float]]
    tools: Sequence[Tool] = ()
    """For pairs of their results."""
    side: int = 224
    """Of crops, in pixels; pairs are smaller by a quarter, three of them being looked at."""
    rated_share: float = 0.3
    """Fraction of the score questions that are about photographs with a human score."""
    seed: int = 0


def examples(tasks: Sequence[TaskName], count: int) -> list[Example]:
    """``count`` questions, the tasks in turn; their images and labels are made by `rows`."""
    return [Example(tasks[i % len(tasks)], (Path(),), "synthetic") for i in range(count)]


def rows(source: Source, questions: Sequence[Example]) -> Any:
    """A `datasets.Dataset` of trl's columns, one row for each question."""
    from datasets import Dataset

    @lru_cache(maxsize=KEPT)
    def made(index: int) -> dict[str, Any]:
        rng = np.random.default_rng([source.seed, index])
        task = questions[index].task
        if task.startswith("compare"):
            return _pair(source, rng)
        return _crop(source, task, rng)

    def batch(asked: Mapping[str, Sequence[int]]) -> dict[str, list[Any]]:
        found = [{**made(index), "index": index, "dataset": "synthetic"} for index in asked["index"]]
        return {key: [row[key] for row in found] for key in found[0]}

    return Dataset.from_dict({"index": list(range(len(questions)))}).with_transform(batch)


_NOTHING: dict[str, Any] = dict.fromkeys(("opinion", "distortion_class", "severity", "choice"))


def _crop(source: Source, task: TaskName, rng: np.random.Generator) -> dict[str, Any]:
    if task == "score" and source.rated and rng.random() < source.rated_share:
        image, opinion = source.rated[int(rng.integers(len(source.rated)))]
        pixels, label = flip(cut(image, source.side, rng), rng), Label(None, None, None, opinion)
    else:
        photograph = source.photographs[int(rng.integers(len(source.photographs)))]
        pixels, label = distorted(photograph, source.side, rng)
    truth: dict[str, Any]
    if task == "score":
        truth = {"opinion": label.score}
    else:
        assert label.distortion_class is not None
        severity = "null" if label.severity is None else SEVERITIES[label.severity - 1]
        truth = {"distortion_class": CLASSES[label.distortion_class], "severity": severity}
    return {**_NOTHING, **truth, "task": task, "prompt": _messages(task), "images": [Image.fromarray(pixels)]}


def _pair(source: Source, rng: np.random.Generator) -> dict[str, Any]:
    photograph = source.photographs[int(rng.integers(len(source.photographs)))]
    side = source.side * 3 // 4
    if rng.random() < 0.5:
        pair = severity_pair(photograph, side, rng)
    else:
        pair = tool_pair(photograph, side, rng, source.tools)
    images = [Image.fromarray(array) for array in (pair.reference, pair.a, pair.b)]
    task: TaskName = "compare-reference"
    return {**_NOTHING, "choice": pair.choice, "task": task, "prompt": _messages(task), "images": images}


def _messages(task: TaskName) -> list[dict[str, Any]]:
    return Q_INSIGHT[task].messages()
