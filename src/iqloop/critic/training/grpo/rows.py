"""Examples as trl's data set; images are read when they are needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from iqloop.critic.prompts import Prompt, TaskName
from iqloop.critic.training.examples import Example, load
from iqloop.critic.views import single_view
from iqloop.errors import UsageError

ANSWERED: tuple[TaskName, ...] = ("score", "degradation", "compare", "compare-reference")
"""Tasks whose answers can be checked."""


def rows(examples: Sequence[Example], prompts: Mapping[TaskName, Prompt], views: Any = None) -> Any:
    """Examples as a `datasets.Dataset` of trl's columns; images are read when a row is asked for.

    Args:
        examples: what to train on.
        prompts: the questions' words.
        views: a `ViewPolicy` of the critic; one that looks at native pixels gets them here as it does when it is used.

    Raises:
        UsageError: an example's task has no prompt or no checkable answer.
    """
    from datasets import Dataset

    for example in examples:
        if example.task not in prompts or example.task not in ANSWERED:
            raise UsageError(f"the task {example.task} cannot be trained with these prompts: {', '.join(prompts)}")
    messages = {task: prompt.messages() for task, prompt in prompts.items()}

    def row(batch: Mapping[str, Sequence[int]]) -> dict[str, list[Any]]:
        chosen = [examples[i] for i in batch["index"]]
        return {
            "prompt": [messages[example.task] for example in chosen],
            "images": [[seen(load(path), views) for path in example.images] for example in chosen],
            "index": list(batch["index"]),
            "task": [example.task for example in chosen],
            "dataset": [example.dataset for example in chosen],
            "opinion": [example.opinion for example in chosen],
            "distortion_class": [example.distortion_class for example in chosen],
            "severity": [example.severity for example in chosen],
            "choice": [example.choice for example in chosen],
        }

    return Dataset.from_dict({"index": list(range(len(examples)))}).with_transform(row)


def seen(image: Any, views: Any) -> Any:
    """The PIL image as the critic looks at it in one view."""
    if views is None or views.kind == "processor":
        return image
    from PIL import Image

    pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 255
    view = single_view(pixels, views).mul(255).round().clamp(0, 255).byte()
    return Image.fromarray(view.permute(1, 2, 0).numpy())
