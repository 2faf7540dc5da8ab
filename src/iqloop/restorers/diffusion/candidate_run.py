"""One candidate of a pipeline while it is made: it can stop halfway, show what it will be, and go on or be dropped.

Pipelines are loops that cannot be left and entered again, and few tell what they are heading for. So the call runs in a
thread of its own that waits inside the scheduler's step, which every pipeline calls: there the noisy sample and the
model's answer are at hand, from which the clean image is predicted. What comes out is what an unbroken call gives, bit
for bit: nothing is computed twice and nothing is changed.
"""

from __future__ import annotations

import copy
import functools
import inspect
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from iqloop.restorers.diffusers_tool import unwarned


class Dropped(Exception):
    """Raised inside a call that is not to be finished."""


class CandidateRun:
    """A pipeline's call, of which one step at a time is known."""

    def __init__(self, pipeline: Any, call: Callable[[Any], Tensor], generator: torch.Generator | None = None) -> None:
        """Prepare a run.

        Args:
            pipeline: any of diffusers; it is not changed, and several runs may wait at once.
            call: calls the pipeline that it is given (a shallow copy with a scheduler of its own) and returns what the
                run is to return.
            generator: handed to a scheduler that draws noise where the pipeline keeps it from it, as
                `LDMSuperResolutionPipeline` does.
        """
        self.steps = 0
        """How many steps of the scheduler were done."""
        self._pause: int | None = None
        self._predicted: Tensor | None = None
        self._result: Tensor | None = None
        self._error: BaseException | None = None
        self._drop = False
        self._arrived, self._go = threading.Event(), threading.Event()
        own = copy.copy(pipeline)
        own.scheduler = copy.deepcopy(pipeline.scheduler)
        self._scheduler = own.scheduler
        self._step = own.scheduler.step
        self._generator = generator if "generator" in inspect.signature(self._step).parameters else None

        # Pipelines look at the signature to see what a scheduler takes.
        @functools.wraps(self._step)
        def step(*given: Any, **more: Any) -> Any:
            return self._stepped(*given, **more)

        own.scheduler.step = step
        self._thread = threading.Thread(target=self._run, args=(call, own), daemon=True)

    def until(self, step: int) -> Tensor | None:
        """Run until so many steps are done; returns the clean sample that is predicted there (latents, or pixels).

        None when the scheduler predicts none, or when the call ended before; `finish` says how.
        """
        self._pause = step
        self._proceed()
        return None if self._ended else self._predicted

    def finish(self) -> Tensor:
        """Run to the end. Raises what the call raised."""
        self._pause = None
        self._proceed()
        if self._error is not None:
            raise self._error
        assert self._result is not None
        return self._result

    def drop(self) -> None:
        """End the call where it waits; its memory is free afterwards. Does nothing to a run that has ended."""
        if self._thread.is_alive():
            self._drop = True
            self._go.set()
            self._thread.join()
        self._result = self._predicted = None

    @property
    def _ended(self) -> bool:
        return self._result is not None or self._error is not None

    def _proceed(self) -> None:
        """Let the thread run until it waits or ends."""
        if self._ended:
            return
        self._arrived.clear()
        # Here and not in the thread: which warnings are shown is the same for all threads, and that one stays waiting.
        with unwarned():
            if self._thread.ident is None:
                self._thread.start()
            else:
                self._go.set()
            self._arrived.wait()

    def _run(self, call: Callable[[Any], Tensor], pipeline: Any) -> None:
        try:
            self._result = call(pipeline)
        except Dropped:
            pass
        except BaseException as error:  # it is raised again where the result is asked for
            self._error = error
        finally:
            self._arrived.set()

    def _stepped(self, model_output: Tensor, timestep: Any, sample: Tensor, *rest: Any, **more: Any) -> Any:
        """The scheduler's own step, counted; waits after it where it is to."""
        predicted = None
        if self._pause == self.steps + 1:
            # Before the step: some schedulers count on inside it.
            predicted = predicted_clean(self._scheduler, model_output, timestep, sample)
        if self._generator is not None and not rest:
            more.setdefault("generator", self._generator)
        result = self._step(model_output, timestep, sample, *rest, **more)
        self.steps += 1
        if self._pause == self.steps:
            self._predicted = predicted
            self._go.clear()
            self._arrived.set()
            self._go.wait()
            if self._drop:
                raise Dropped
        return result


def predicted_clean(scheduler: Any, answer: Tensor, timestep: Any, sample: Tensor) -> Tensor | None:
    """The clean sample that a model's answer stands for, as the scheduler's family defines it; None for another family.

    Three families: variance-preserving (``alphas_cumprod`` at the time: DDPM, DDIM, PNDM, LCM, DPM-Solver, UniPC),
    variance-exploding (``sigmas`` and a scaled input: Euler, Heun, LMS, DPM2) and flow matching. Formulas: Salimans &
    Ho 2022 (https://arxiv.org/abs/2202.00512), appendix D; Karras et al. 2022 (https://arxiv.org/abs/2206.00364).
    """
    kind = getattr(scheduler.config, "prediction_type", None)
    name = type(scheduler).__name__
    if answer.shape[1] == 2 * sample.shape[1]:
        answer = answer.chunk(2, dim=1)[0]  # the other half is a learned variance
    if "FlowMatch" in name:
        return sample - _sigma(scheduler, timestep).to(sample) * answer
    exploding = hasattr(scheduler, "is_scale_input_called")
    if kind not in ("epsilon", "v_prediction", "sample") or not hasattr(scheduler, "alphas_cumprod"):
        return None
    if kind == "sample":
        return answer
    if exploding:
        sigma = _sigma(scheduler, timestep).to(sample)
        if kind == "epsilon":
            return sample - sigma * answer
        return sample / (sigma**2 + 1) - answer * sigma / (sigma**2 + 1).sqrt()
    place = int(torch.as_tensor(timestep).flatten()[0])
    kept: Tensor = scheduler.alphas_cumprod[place].to(sample)
    signal, noise = kept.sqrt(), (1 - kept).sqrt()
    return (sample - noise * answer) / signal if kind == "epsilon" else signal * sample - noise * answer


def _sigma(scheduler: Any, timestep: Any) -> Tensor:
    """The noise level at a time of the schedule."""
    if scheduler.step_index is None:
        scheduler._init_step_index(timestep)
    sigma: Tensor = scheduler.sigmas[scheduler.step_index]
    return sigma
