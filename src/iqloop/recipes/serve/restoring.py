"""Restoring one upload: a file in, a file of the same format out, with what came in beside the pixels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from iqloop.agents import Budget, RestoreSettings, Toolbox, Trace
    from iqloop.critic.protocol import Critic


@dataclass(frozen=True)
class Asked:
    """What a client may choose."""

    settings: RestoreSettings
    scale: int
    seed: int
    budget: Budget


@dataclass(frozen=True)
class Mended:
    """What came of it."""

    data: bytes
    """The file; the upload's own bytes when nothing was improved."""
    media_type: str
    trace: Trace


def restore_upload(data: bytes, critic: Critic, tools: Toolbox, asked: Asked) -> Mended:
    """Restore an image file. Raises `ImageReadError`, `ImageWriteError`, `UsageError`, and what the critic raises."""
    from iqloop.agents import restore, with_files
    from iqloop.io import encode, read
    from iqloop.recipes.inputs import refuse_animation
    from iqloop.recipes.outputs import stream_name

    photo = read(data)
    refuse_animation(photo, None)
    outcome = restore(
        photo.pixels,
        critic,
        tools,
        settings=asked.settings,
        scale=asked.scale,
        seed=asked.seed,
        budget=asked.budget,
    )
    trace, kind, made = outcome.trace, photo.format, data
    if trace.improved or asked.scale > 1:
        name = stream_name(photo)
        kind = name.rpartition(".")[2]
        made = encode(photo.with_pixels(outcome.image), name)
    named = with_files(trace, input_sha256=photo.sha256, output_sha256=hashlib.sha256(made).hexdigest())
    kind = kind.lower()
    return Mended(made, f"image/{ {'jpg': 'jpeg', 'tif': 'tiff'}.get(kind, kind) }", named)


IN_TIME = 0.9
"""Share of a request's time that a restoration may take; the rest is for the call under way at its end, which is not
interrupted, and for writing the image."""


def smaller(asked: Budget, own: Budget, time_left: float) -> Budget:
    """The limits that a client asks for, none above the server's own, and less time than its request has."""
    from iqloop.agents import Budget

    def least(*limits: float | None) -> float | None:
        return min((limit for limit in limits if limit is not None), default=None)

    def count(name: str) -> int | None:
        found = least(getattr(asked, name), getattr(own, name))
        return None if found is None else int(found)

    return Budget(
        max_steps=count("max_steps"),
        max_tool_calls=count("max_tool_calls"),
        max_critic_calls=count("max_critic_calls"),
        time_limit=least(asked.time_limit, own.time_limit, IN_TIME * time_left),
    )
