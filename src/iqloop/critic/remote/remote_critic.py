"""A critic whose model runs on a server: the same prompts, parser, retries and verdicts as the engine's.

An image's views are sent as pictures (`iqloop.critic.remote.pictures`), image first, and their answers are pooled as
the engine pools them (`iqloop.critic.pooling`). What differs:

* ``expected`` is the engine's where the server goes on from the beginning of an answer (vLLM). Elsewhere the answer is
  written out and the expectation is taken at it, from the probabilities of its tokens; the decoding says so.
* Class, severity and preference have the label words' probabilities on vLLM. Elsewhere they have those of the words
  that were written: the share of the views, or of the two orders, that say so.
* A drawn answer is as reproducible as the server's ``seed`` makes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar, cast

import torch
from torch import Tensor

from iqloop.critic import answers
from iqloop.critic.pooling import combine_choices, combine_degradations, combine_ratings, pool_answers, pool_choices
from iqloop.critic.prompts import Prompt, TaskName
from iqloop.critic.protocol import Capability
from iqloop.critic.reason import Written
from iqloop.critic.remote.asking import Asker, no_probabilities
from iqloop.critic.remote.connection import Connection
from iqloop.critic.remote.in_order import in_order
from iqloop.critic.remote.pictures import Picture, picture
from iqloop.critic.remote.request import Reply
from iqloop.critic.remote.served import Served
from iqloop.critic.remote.shares import shares, without_unspoken
from iqloop.critic.remote.token_ratings import expected_rating, first_better, label_log_probs, rating_at
from iqloop.critic.thurstone import by_ratings
from iqloop.critic.verdicts import Choice, DecodingMode, Degradation, Preference, Provenance, Rating, Unparsed
from iqloop.critic.views import View, reflections_of, single_view, views_of, views_together
from iqloop.critic.written_answers import SCORE_RANGE, capabilities_of, check_decoding
from iqloop.errors import CriticError, UsageError

T = TypeVar("T")

_ANSWER = "<answer> "


@dataclass
class RemoteCritic:
    """A model on a server as a critic."""

    connection: Connection
    served: Served
    decoding: DecodingMode = "expected"
    """How scores are read out."""
    samples: int = 1
    """Written answers per view; 1 is greedy, more are drawn at `temperature`."""
    temperature: float = 1.0
    seed: int = 0
    """Of drawn answers: those of ``samples``, and the retries of answers that do not parse."""
    text_first: bool = False
    structured: bool = False
    """Hold every written answer to its form; else only the retries, and only where the server can."""
    concurrency: int = 8
    """Requests at a time."""
    comparison: RemoteCritic | None = None
    """Compares given a reference, when that is another model's."""

    def __post_init__(self) -> None:
        check_decoding(self.decoding, self.samples, self.temperature)
        if self.concurrency < 1:
            raise UsageError(f"concurrency must be at least 1, got {self.concurrency}")
        url = self.connection.address.url
        if self.structured and not self.connection.server.structures:
            raise UsageError(f"structured is for vLLM, and {url} is none: leave it out")
        self._asker = Asker(self.connection, self.served, self.text_first, self.structured, self.temperature, self.seed)
        if self.served.answer_begin and not self._asker.begins:
            raise CriticError(
                f"the answers of {self.connection.model} must begin with {self.served.answer_begin!r}, and {url} "
                "takes no beginning: serve it with vLLM or transformers serve"
            )

    @property
    def name(self) -> str:
        """Address and model."""
        return f"{self.connection.address.url}#{self.connection.model}"

    @property
    def score_range(self) -> tuple[float, float]:
        """1 to 5."""
        return SCORE_RANGE

    @property
    def lower_better(self) -> bool:
        """False."""
        return False

    @property
    def version(self) -> str:
        """Address, model, prompts and decoding. The server may change the weights behind it, and nobody would know."""
        return f"{self.name}/{self._prompt('score').version}/{self._manner}"

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What the model was trained to answer. `compare` answers without the task too, from two scores."""
        able = capabilities_of(self.served.tasks)
        return able if self.comparison is None else able | {"compare"}

    # -- one image --------------------------------------------------------------------------------------------------

    def score(self, images: Sequence[Tensor]) -> list[Rating | Unparsed]:
        """Rate each image ``(3, H, W)`` in [0, 1]; mean and standard deviation on [1, 5].

        Raises `CriticError` when a question finally failed, or probabilities are needed that the server does not tell.
        """
        prompt = self._prompt("score")
        if self.decoding != "reason" and not self.connection.server.tells_probabilities:
            raise no_probabilities(self.connection.address.url)
        made = Provenance(self.name, prompt.version, self._manner)
        read_out = self.decoding == "expected" and self.connection.server.continues
        rate = self._expected_rating if read_out else self._written_rating
        rated = self._each(images, partial(rate, prompt))
        return [combine_ratings(views, ratings, made) for views, ratings in rated]

    def perceive(self, images: Sequence[Tensor]) -> list[Degradation | Unparsed]:
        """Name each image's degradation and severity, with the reasoning and probabilities."""
        prompt = self._prompt("degradation")
        made = Provenance(self.name, prompt.version, "reason")
        verdicts: list[Degradation | Unparsed] = []
        for views, found in self._each(images, partial(self._degradation, prompt), reflected=True):
            said = [one for one, _ in found]
            logs = [log for _, log in found if log is not None] or [shares(views, said).log()] * len(views)
            verdicts.append(without_unspoken(combine_degradations(views, said, logs, made)))
        return verdicts

    def describe(self, images: Sequence[Tensor]) -> list[str]:
        """Each image's quality in words."""
        prompt = self._prompt("describe")
        return _all(in_order(lambda image: self._asker.describe(prompt, self._whole(image)), images, self.concurrency))

    def _expected_rating(self, prompt: Prompt, shown: Picture) -> Rating | Unparsed:
        return expected_rating(self._asker.look(prompt, (shown,), prompt.answer_prefix))

    def _written_rating(self, prompt: Prompt, shown: Picture) -> Rating | Unparsed:
        """One rating of the written answers about a view: of what they say, or of the expectations at them."""
        continues = self.connection.server.continues
        at_answer = self.decoding != "reason"

        def parse(text: str) -> float | Unparsed:
            return answers.parse_rating(text, *self.score_range, thinks=prompt.thinks)

        found = self._asker.write(prompt, (shown,), parse, self.samples, probabilities=at_answer and not continues)
        said = [one for one, _ in found]
        if not at_answer:
            return pool_answers(said, [one.value for one in said if not isinstance(one.value, Unparsed)], None)
        begun = prompt.answer_prefix.split(_ANSWER)[-1]
        expectations: list[Rating] = []
        for one, reply in found:
            if isinstance(one.value, Unparsed):
                continue
            if continues:
                thought = one.raw[: one.raw.index("<answer>")] + _ANSWER + begun
                read = expected_rating(self._asker.look(prompt, (shown,), thought))
            else:
                read = rating_at(reply.tokens or ())
            if isinstance(read, Unparsed):
                return replace(read, raw=one.raw)
            expectations.append(read)
        return pool_answers(said, [], expectations)

    def _degradation(self, prompt: Prompt, shown: Picture) -> tuple[Written[answers.ParsedDegradation], Tensor | None]:
        """What is written about a view, and the log-probabilities of the labels where they are told."""
        [(said, _)] = self._asker.write(prompt, (shown,), answers.parse_degradation)
        if not self.connection.server.continues:
            return said, None
        return said, label_log_probs(self._asker.look(prompt, (shown,), prompt.answer_prefix))

    # -- comparison -------------------------------------------------------------------------------------------------

    def compare(
        self, a: Sequence[Tensor], b: Sequence[Tensor], reference: Sequence[Tensor] | None = None
    ) -> list[Preference | Unparsed]:
        """Compare pairs in both presentation orders; without the task, by the Thurstone probability of two scores."""
        if not len(a) == len(b) == len(reference if reference is not None else b):
            counts = f"{len(a)}, {len(b)}" + ("" if reference is None else f" and {len(reference)}")
            raise UsageError(f"expected as many images in a and b (and reference), got {counts}")
        if reference is not None and self.comparison is not None:
            return self.comparison.compare(a, b, reference)
        task: TaskName = "compare" if reference is None else "compare-reference"
        if reference is not None and task not in self.served.tasks and "compare" in self.served.tasks:
            task, reference = "compare", None
        if task not in self.served.tasks:
            distinct = {id(image): image for image in (*a, *b)}
            ratings = dict(zip(distinct, self.score(list(distinct.values())), strict=True))
            return by_ratings([ratings[id(image)] for image in a], [ratings[id(image)] for image in b])
        rows = list(zip(a, b, strict=True) if reference is None else zip(reference, a, b, strict=True))
        return _all(in_order(partial(self._compare, self._prompt(task)), rows, self.concurrency))

    def _compare(self, prompt: Prompt, row: tuple[Tensor, ...]) -> Preference | Unparsed:
        # Without probabilities a choice is what was written.
        read_out = self.decoding != "reason" and self.connection.server.continues
        band = self.served.tie_band if read_out else None
        made = Provenance(self.name, prompt.version, "reason" if band is None else self.decoding)
        looks = []
        for views in views_together(row, self.served.views):
            *before, first, second = (picture(view) for view in views)
            there = self._choice(prompt, (*before, first, second))
            back = self._choice(prompt, (*before, second, first))
            looks.append(combine_choices(there, back, made, band))
        return pool_choices(looks, band)

    def _choice(self, prompt: Prompt, shown: tuple[Picture, ...]) -> tuple[Written[Choice], float]:
        """What is written, and the probability that the image shown as A is better, ties split."""
        found: list[tuple[Written[Choice], Reply]] = self._asker.write(prompt, shown, answers.parse_choice)
        said = found[0][0]
        if self.connection.server.continues:
            return said, first_better(self._asker.look(prompt, shown, "<think> </think><answer>"))
        return said, {"A": 1.0, "B": 0.0}.get(str(said.value), 0.5)

    # -- shared -----------------------------------------------------------------------------------------------------

    def _whole(self, image: Tensor) -> tuple[Picture]:
        return (picture(single_view(image, self.served.views)),)

    def _each(
        self, images: Sequence[Tensor], ask: Callable[[Picture], T], reflected: bool = False
    ) -> list[tuple[list[View], list[T]]]:
        """Ask about every view of every image; per image its views, without their pixels, and the answers.

        With ``reflected`` also about the reflections that the policy wants.
        """
        policy = self.served.views

        def views() -> Iterator[tuple[int, View]]:
            for i, image in enumerate(images):
                found = views_of(image, policy)
                yield from ((i, view) for view in (*found, *(reflections_of(found, policy) if reflected else ())))

        def work(place: tuple[int, View]) -> tuple[int, View, T]:
            i, view = place
            return i, View(torch.empty(0), view.weight), ask(picture(view.pixels))

        said: list[tuple[list[View], list[T]]] = [([], []) for _ in images]
        for i, view, answer in _all(in_order(work, views(), self.concurrency)):
            said[i][0].append(view)
            said[i][1].append(answer)
        return said

    @property
    def _manner(self) -> str:
        """The decoding with what else decides a score."""
        at_written = self.decoding != "reason" and not self.connection.server.continues
        drawn = f", {self.samples} samples, temperature {self.temperature:g}, seed {self.seed}"
        said = self.decoding + (" at the written answer" if at_written else "") + (drawn if self.samples > 1 else "")
        return said + (", text first" if self.text_first else "") + (", structured" if self.structured else "")

    def _prompt(self, task: TaskName) -> Prompt:
        known = self.served.prompts
        if task not in known or (task not in self.served.tasks and task != "score"):
            raise CriticError(f"{self.name} was not trained to answer {task!r}: it can {', '.join(self.served.tasks)}")
        return known[task]


def _all(found: Sequence[T | Exception]) -> list[T]:
    """The results; raises the first error, when the others have been asked and are remembered."""
    for one in found:
        if isinstance(one, Exception):
            raise one
    return cast("list[T]", list(found))
