"""The critic: any Qwen2.5-VL checkpoint that was trained on the published prompts, behind the `Critic` protocol.

The 7B checkpoints and the embedded mini run through the same lines. Decoding modes of a score:

* ``expected`` (default): no reasoning; the expectation over the answer's digits in one forward. Deterministic,
  differentiable.
* ``reason``: the answer is written out and parsed: greedily, or ``samples`` times at ``temperature``, which gives a
  mean and a deviation.
* ``reason+expected``: the reasoning is written out, then the expectation is taken at its answer.

A degradation is always reasoned, greedily; the probabilities of classes and severities beside it are the likelihoods
of the label words. An image with several views (`iqloop.critic.views`) gets one verdict: scores are averaged by
weight, log-probabilities too, and the reasoning is that of the view that speaks for the majority.

However many questions are asked about an image, it is encoded once and read once (`iqloop.critic.context`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeVar, cast

import torch
from torch import Tensor

from iqloop.critic import answers
from iqloop.critic.branches import branch_log_probs
from iqloop.critic.checkpoint import Checkpoint
from iqloop.critic.context import IMAGE_END, Context, Seen, extend, look, see, tokens_of
from iqloop.critic.cores import cores_for, even_size, side_by_side
from iqloop.critic.expected import expected_rating
from iqloop.critic.inputs import question
from iqloop.critic.pooling import (
    LABELS,
    average,
    combine_choices,
    combine_degradations,
    combine_ratings,
    from_log_probs,
    pool_answers,
    pool_choices,
)
from iqloop.critic.prompts import Prompt, TaskName
from iqloop.critic.protocol import Capability
from iqloop.critic.reason import Draw, Written, write, write_parsed
from iqloop.critic.thurstone import by_ratings
from iqloop.critic.verdicts import (
    Choice,
    DecodingMode,
    Degradation,
    Preference,
    Provenance,
    Rating,
    Unparsed,
)
from iqloop.critic.views import View, reflections_of, views_of, views_together
from iqloop.critic.written_answers import SCORE_RANGE, capabilities_of, check_decoding
from iqloop.errors import CriticError, UsageError

T = TypeVar("T")

Question = Literal["score", "perceive", "describe"]
"""What `QwenCritic.ask` answers about one image."""

# They end as answers do, with a quote and a brace, which are one token. Of "null" no severity is asked: it can only be
# "null" too, and where the class was forced even that is not likely.
_LABEL_BRANCHES = [f'{kind}", "severity": "{word}"}}' for kind, word in LABELS] + ['null", "severity": "']
_CHOICE_BRANCHES = ["Image A </answer>", "Image B </answer>", "Similar </answer>"]
_TASK_OF: dict[Question, TaskName] = {"score": "score", "perceive": "degradation", "describe": "describe"}


class Answers(NamedTuple):
    """What was said about one image; None where nothing was asked."""

    score: Rating | Unparsed | None = None
    degradation: Degradation | Unparsed | None = None
    description: str | None = None


@dataclass
class Sitting:
    """B images, or rows of images, in front of one checkpoint: each read once, whatever is asked."""

    checkpoint: Checkpoint
    images: Sequence[Sequence[Seen]]
    text_first: bool = False
    _heads: dict[str, Context] = field(default_factory=dict)
    _asked: dict[str, Context] = field(default_factory=dict)

    def ask(self, prompt: Prompt) -> Context:
        """The context with the question read; for questions that are answered in several ways.

        Its last token is left for whatever follows, which then has something to read.
        """
        if prompt.version not in self._asked:
            head, tail = self._halves(prompt)
            stem = tokens_of(self.checkpoint, tail)[:-1]
            self._asked[prompt.version] = extend(self.checkpoint, self._head(head), [stem] * len(self.images))[0]
        return self._asked[prompt.version]

    def stem(self, prompt: Prompt, begun: str) -> tuple[Context, list[int]]:
        """The longest context at hand for a question whose answer begins with ``begun``, and the tokens to read."""
        head, tail = self._halves(prompt)
        tokens = tokens_of(self.checkpoint, tail + begun)
        if prompt.version in self._asked:
            read = tokens_of(self.checkpoint, tail)[:-1]
            if tokens[: len(read)] == read:
                return self._asked[prompt.version], tokens[len(read) :]
        return self._head(head), tokens

    def continuations(
        self, prompt: Prompt, begun: str, words: Sequence[str]
    ) -> tuple[Context, list[int], list[list[int]]]:
        """Context, stem and the tokens of each continuation; words may join with what comes before them."""
        context, stem = self.stem(prompt, begun)
        _, tail = self._halves(prompt)
        whole = [tokens_of(self.checkpoint, tail + begun + word) for word in words]
        skipped = len(tokens_of(self.checkpoint, tail + begun)) - len(stem)
        shared = skipped
        while all(len(row) > shared + 1 and row[shared] == whole[0][shared] for row in whole):
            shared += 1
        return context, whole[0][skipped:shared], [row[shared:] for row in whole]

    def _halves(self, prompt: Prompt) -> tuple[str, str]:
        """The templated question up to its last image, which many questions share, and the rest."""
        text = question(self.checkpoint, prompt, self.text_first)
        cut = text.rindex(IMAGE_END) + len(IMAGE_END)
        return text[:cut], text[cut:]

    def _head(self, head: str) -> Context:
        if head not in self._heads:
            self._heads[head] = look(self.checkpoint, head, self.images)
        return self._heads[head]


@dataclass
class QwenCritic:
    """A loaded checkpoint as a critic."""

    checkpoint: Checkpoint
    decoding: DecodingMode = "expected"
    """How scores are read out."""
    batch_size: int = 8
    """Views per forward."""
    seed: int = 0
    """Of drawn answers: those of ``samples``, and the retries of answers that do not parse."""
    text_first: bool = False
    """Text before the image, as in Q-Insight's demos; it was trained image first."""
    samples: int = 1
    """Written answers per image; 1 is greedy, more are drawn at `temperature`."""
    temperature: float = 1.0
    """Of drawn answers."""
    comparison: Callable[[], QwenCritic] | None = None
    """Makes the critic that compares given a reference, when that is another checkpoint; called at the first such
    question."""

    def __post_init__(self) -> None:
        check_decoding(self.decoding, self.samples, self.temperature)
        if self.batch_size < 1:
            raise UsageError(f"batch_size must be at least 1, got {self.batch_size}")
        self._comparer: QwenCritic | None = None

    @property
    def name(self) -> str:
        """The name it was made with."""
        return self.checkpoint.source.name

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
        """Digest of weights, prompts and decoding."""
        return f"{self.checkpoint.version}/{self._prompt('score').version}/{self._manner}"

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What it was trained to answer. `compare` answers without the task too, from two scores, and says so."""
        able = capabilities_of(self.checkpoint.tasks)
        return able if self.comparison is None else able | {"compare"}

    # -- one image --------------------------------------------------------------------------------------------------

    def score(self, images: Sequence[Tensor]) -> list[Rating | Unparsed]:
        """Rate each image ``(3, H, W)`` in [0, 1]; mean and standard deviation on [1, 5]."""
        return [cast("Rating | Unparsed", said.score) for said in self.ask(images, ["score"])]

    def perceive(self, images: Sequence[Tensor]) -> list[Degradation | Unparsed]:
        """Name each image's degradation and severity, with the reasoning and the label words' probabilities."""
        return [cast("Degradation | Unparsed", said.degradation) for said in self.ask(images, ["perceive"])]

    def label_probabilities(self, images: Sequence[Tensor]) -> list[Degradation]:
        """As `perceive` but without writing any reasoning: the likeliest labels and their probabilities; cheaper."""
        return [cast(Degradation, said.degradation) for said in self.ask(images, ["perceive"], written=False)]

    def describe(self, images: Sequence[Tensor]) -> list[str]:
        """Each image's quality in words."""
        return [cast(str, said.description) for said in self.ask(images, ["describe"])]

    @torch.no_grad()
    def ask(self, images: Sequence[Tensor], questions: Iterable[Question], written: bool = True) -> list[Answers]:
        """Several questions about each image ``(3, H, W)`` in [0, 1], which is encoded and read once.

        Args:
            images: of any and mixed sizes.
            questions: "score", "perceive", "describe".
            written: False reads the degradation out by the likelihood of its label words alone, without reasoning.

        Raises:
            CriticError: the checkpoint was not trained to answer one of them.
        """
        wanted = tuple(dict.fromkeys(questions))
        prompts = {name: self._prompt(_TASK_OF[name]) for name in wanted}
        # Some images at a time: views are copies, and their memory must not grow with the number of images.
        return [
            verdict for piece in _chunks(images, 4 * self.batch_size) for verdict in self._ask(piece, prompts, written)
        ]

    def _ask(self, images: Sequence[Tensor], prompts: dict[Question, Prompt], written: bool) -> list[Answers]:
        views = [views_of(image, self.checkpoint.views) for image in images]
        wholes = [len(group) - 1 for group in views]  # the whole image, shrunk if need be, comes last
        said = _per_view(
            views,
            self.batch_size,
            lambda batch, places: self._about(batch, prompts, written, [j == wholes[i] for i, j in places]),
            cores_for(self.checkpoint.model),
        )
        turned = self._reflected(views, prompts, written)
        return [self._verdict(*one, prompts, written) for one in zip(views, said, turned, strict=True)]

    def _reflected(
        self, views: Sequence[Sequence[View]], prompts: dict[Question, Prompt], written: bool
    ) -> list[list[tuple[View, _Said]]]:
        """What is perceived in the mirror images of those that have any."""
        asked: dict[Question, Prompt] = {name: one for name, one in prompts.items() if name == "perceive"}
        mirrors = [reflections_of(group, self.checkpoint.views) if asked else [] for group in views]
        if not any(mirrors):
            return [[] for _ in views]
        said = _per_view(
            mirrors,
            self.batch_size,
            lambda batch, _: self._about(batch, asked, written, [False] * len(batch)),
            cores_for(self.checkpoint.model),
        )
        return [list(zip(*both, strict=True)) for both in zip(mirrors, said, strict=True)]

    def expected_scores(self, images: Sequence[Tensor]) -> Tensor:
        """Expected ratings ``(B,)`` in [1, 5] of images ``(3, H, W)`` in [0, 1], with a gradient back to the pixels."""
        prompt = self._prompt("score")
        views = [views_of(image, self.checkpoint.views) for image in images]

        def rate(batch: Sequence[Tensor], _: object) -> Sequence[Tensor]:
            sitting = self._sit(batch)
            context, stem = sitting.stem(prompt, prompt.answer_prefix)
            return list(expected_rating(self.checkpoint, context, [stem] * len(batch)).mean)

        means = []
        for group, ratings in zip(views, _per_view(views, self.batch_size, rate), strict=True):
            weights = torch.tensor([view.weight for view in group], device=self.checkpoint.device)
            means.append((torch.stack(ratings) * weights).sum() / weights.sum())
        return torch.stack(means)

    def _sit(self, batch: Sequence[Tensor]) -> Sitting:
        return Sitting(self.checkpoint, [[seen] for seen in see(self.checkpoint, batch)], self.text_first)

    def _about(
        self, batch: Sequence[Tensor], prompts: dict[Question, Prompt], written: bool, whole: Sequence[bool]
    ) -> list[_Said]:
        """Everything that is asked, of every view of a batch; a description of whole images only."""
        sitting = self._sit(batch)
        said = [_Said() for _ in batch]
        if "score" in prompts:
            for one, ratings in zip(said, self._ratings(sitting, prompts["score"]), strict=True):
                one.rating = ratings
        if "perceive" in prompts:
            prompt = prompts["perceive"]
            if written:
                sitting.ask(prompt)
            context, stem, labels = sitting.continuations(prompt, prompt.answer_prefix, _LABEL_BRANCHES)
            log_probs = branch_log_probs(self.checkpoint, context, [stem] * len(batch), labels).log_softmax(-1)
            for one, row in zip(said, log_probs, strict=True):
                one.labels = row
            if written:
                for one, found in zip(said, self._write(sitting, prompt, answers.parse_degradation), strict=True):
                    one.degradation = found[0]
        if "describe" in prompts and any(whole):
            rows = [row for row, is_whole in enumerate(whole) if is_whole]
            context, stem = sitting.stem(prompts["describe"], "")
            context = context.rows(torch.tensor(rows, device=context.ids.device))
            for row, text in zip(
                rows, write(self.checkpoint, context, [stem] * len(rows), [Draw()] * len(rows)), strict=True
            ):
                said[row].description = text.strip()
        return said

    def _ratings(self, sitting: Sitting, prompt: Prompt) -> list[Rating | Unparsed]:
        if self.decoding == "expected":
            context, stem = sitting.stem(prompt, prompt.answer_prefix)
            out = expected_rating(self.checkpoint, context, [stem] * len(sitting.images))
            moments = zip(out.mean.tolist(), out.std.tolist(), out.digit_mass.tolist(), strict=True)
            return [Rating(min(max(mean, 1.0), 5.0), std, mass) for mean, std, mass in moments]
        context = sitting.ask(prompt)

        def parse(text: str) -> float | Unparsed:
            return answers.parse_rating(text, *self.score_range, thinks=prompt.thinks)

        said = self._write(sitting, prompt, parse, self.samples)
        if self.decoding == "reason":
            return [
                pool_answers(rows, [float(w.value) for w in rows if not isinstance(w.value, Unparsed)], None)
                for rows in said
            ]
        places = [(i, w) for i, rows in enumerate(said) for w in rows if not isinstance(w.value, Unparsed)]
        begun = prompt.answer_prefix.split("<answer> ")[-1]
        drawn: list[list[Rating]] = [[] for _ in said]
        for piece in _chunks(places, 4 * self.batch_size):
            thoughts = [w.raw[: w.raw.index("<answer>")] + "<answer> " + begun for _, w in piece]
            stems = [sitting.stem(prompt, thought)[1] for thought in thoughts]
            rows = context.rows(torch.tensor([i for i, _ in piece], device=context.ids.device))
            out = expected_rating(self.checkpoint, rows, stems)
            for k, (i, _) in enumerate(piece):
                drawn[i].append(Rating(float(out.mean[k]), float(out.std[k]), float(out.digit_mass[k])))
        return [pool_answers(rows, [], expectations) for rows, expectations in zip(said, drawn, strict=True)]

    def _write(
        self, sitting: Sitting, prompt: Prompt, parse: Callable[[str], T | Unparsed], samples: int = 1
    ) -> list[list[Written[T]]]:
        begin = self.checkpoint.answer_begin if prompt.thinks else ""
        context, stem = sitting.stem(prompt, begin)
        return write_parsed(
            self.checkpoint,
            context,
            stem,
            parse,
            begin=begin,
            samples=samples,
            temperature=self.temperature,
            seed=self.seed,
            rows_at_once=4 * self.batch_size,
        )

    def _verdict(
        self,
        views: Sequence[View],
        said: Sequence[_Said],
        turned: Sequence[tuple[View, _Said]],
        prompts: dict[Question, Prompt],
        written: bool,
    ) -> Answers:
        score, degradation, description = None, None, None
        if "score" in prompts:
            made = Provenance(self.name, prompts["score"].version, self._manner)
            score = combine_ratings(views, [cast("Rating | Unparsed", one.rating) for one in said], made)
        if "perceive" in prompts:
            version = prompts["perceive"].version
            views, looks = [*views, *(view for view, _ in turned)], [*said, *(one for _, one in turned)]
            labels = [cast(Tensor, one.labels) for one in looks]
            if written:
                spoken = [cast("Written[answers.ParsedDegradation]", one.degradation) for one in looks]
                degradation = combine_degradations(views, spoken, labels, Provenance(self.name, version, "reason"))
            else:
                degradation = from_log_probs(average(views, labels), Provenance(self.name, version, "expected"))
        if "describe" in prompts:
            description = said[-1].description
        return Answers(score, degradation, description)

    # -- comparison -------------------------------------------------------------------------------------------------

    def compare(
        self, a: Sequence[Tensor], b: Sequence[Tensor], reference: Sequence[Tensor] | None = None
    ) -> list[Preference | Unparsed]:
        """Compare pairs in both presentation orders; without the task, by the Thurstone probability of two scores.

        An image that stands in several pairs (the same tensor) is encoded once.
        """
        if not len(a) == len(b) == len(reference if reference is not None else b):
            counts = f"{len(a)}, {len(b)}" + ("" if reference is None else f" and {len(reference)}")
            raise UsageError(f"expected as many images in a and b (and reference), got {counts}")
        if reference is not None and self.comparison is not None:
            self._comparer = self._comparer or self.comparison()
            return self._comparer.compare(a, b, reference)
        task: TaskName = "compare" if reference is None else "compare-reference"
        if reference is not None and task not in self.checkpoint.tasks and "compare" in self.checkpoint.tasks:
            task, reference = "compare", None
        if task not in self.checkpoint.tasks:
            return self._by_score(a, b)
        rows = list(zip(a, b, strict=True)) if reference is None else list(zip(reference, a, b, strict=True))
        with torch.no_grad():
            return self._compare(rows, self._prompt(task))

    def _by_score(self, a: Sequence[Tensor], b: Sequence[Tensor]) -> list[Preference | Unparsed]:
        distinct = {id(image): image for image in (*a, *b)}
        ratings = dict(zip(distinct, self.score(list(distinct.values())), strict=True))
        return by_ratings([ratings[id(image)] for image in a], [ratings[id(image)] for image in b])

    def _compare(self, rows: Sequence[tuple[Tensor, ...]], prompt: Prompt) -> list[Preference | Unparsed]:
        band = None if self.decoding == "reason" else self.checkpoint.tie_band
        made = Provenance(self.name, prompt.version, "reason" if band is None else self.decoding)
        cores = cores_for(self.checkpoint.model)
        left = {id(image): sum(image is other for row in rows for other in row) for row in rows for image in row}
        seen: dict[tuple[int, int], list[Seen]] = {}
        verdicts: list[Preference | Unparsed] = []
        for piece in _chunks(rows, max(1, self.batch_size // 2)):
            looks = [views_together(row, self.checkpoint.views) for row in piece]
            # An image is encoded once for all rows that look at it in as many places.
            new = {
                (id(image), len(look)): [views[k] for views in look]
                for row, look in zip(piece, looks, strict=True)
                for k, image in enumerate(row)
                if (id(image), len(look)) not in seen
            }
            found = iter(see(self.checkpoint, [view for views in new.values() for view in views]))
            seen.update((key, [next(found) for _ in views]) for key, views in new.items())
            shown = [
                [seen[id(image), len(look)][k] for image in row]
                for row, look in zip(piece, looks, strict=True)
                for k in range(len(look))
            ]
            orders = [shown, [[*views[:-2], views[-1], views[-2]] for views in shown]]
            there, back = side_by_side(lambda order: self._choose(prompt, order), orders, cores)
            said = iter(combine_choices(*both, made, band) for both in zip(there, back, strict=True))
            verdicts.extend(pool_choices([next(said) for _ in look], band) for look in looks)
            for row in piece:  # an image that no later pair needs is forgotten
                for image in row:
                    left[id(image)] -= 1
                    if not left[id(image)]:
                        for key in [key for key in seen if key[0] == id(image)]:
                            del seen[key]
        return verdicts

    def _choose(self, prompt: Prompt, images: Sequence[Sequence[Seen]]) -> list[tuple[Written[Choice], float]]:
        """Of each row what was written, and the probability that the image shown as A is better, ties split."""
        sitting = Sitting(self.checkpoint, images)
        sitting.ask(prompt)
        context, stem, words = sitting.continuations(prompt, "<think> </think><answer> ", _CHOICE_BRANCHES)
        p = branch_log_probs(self.checkpoint, context, [stem] * len(images), words).softmax(-1)
        first_better = (p[:, 0] + p[:, 2] / 2).tolist()
        written: list[list[Written[Choice]]] = self._write(sitting, prompt, answers.parse_choice)
        return [(found[0], chance) for found, chance in zip(written, first_better, strict=True)]

    # -- shared -----------------------------------------------------------------------------------------------------

    @property
    def _manner(self) -> str:
        """The decoding with what else decides a score."""
        drawn = f", {self.samples} samples, temperature {self.temperature:g}, seed {self.seed}"
        return self.decoding + (drawn if self.samples > 1 else "") + (", text first" if self.text_first else "")

    def _prompt(self, task: TaskName) -> Prompt:
        known = self.checkpoint.source.prompts
        if task not in known or (task not in self.checkpoint.tasks and task != "score"):
            raise CriticError(
                f"{self.name} was not trained to answer {task!r}: it can {', '.join(self.checkpoint.tasks)}"
            )
        return known[task]


@dataclass
class _Said:
    """What was said about one view."""

    rating: Rating | Unparsed | None = None
    labels: Tensor | None = None
    """``(21,)`` log-probability of each (class, severity), normalised over the 21."""
    degradation: Written[answers.ParsedDegradation] | None = None
    description: str | None = None


def _per_view(
    views: Sequence[Sequence[View]],
    batch_size: int,
    ask: Callable[[list[Tensor], list[tuple[int, int]]], Sequence[T]],
    cores: int = 1,
) -> list[list[T]]:
    """Ask about every view, batched with views of its own size (equal lengths need no padding); regrouped by image.

    ``ask`` gets the views and their places (image, view); ``cores`` batches at a time.
    """
    places = [(i, j) for i, group in enumerate(views) for j in range(len(group))]
    # The largest first: what is left to the end then takes least.
    places.sort(key=lambda place: tuple(views[place[0]][place[1]].pixels.shape), reverse=True)
    pieces = _chunks(places, even_size(len(places), batch_size, cores))
    replies = side_by_side(lambda piece: ask([views[i][j].pixels for i, j in piece], piece), pieces, cores)
    found = {
        place: one for piece, said in zip(pieces, replies, strict=True) for place, one in zip(piece, said, strict=True)
    }
    return [[found[i, j] for j in range(len(group))] for i, group in enumerate(views)]


def _chunks(items: Sequence[T], size: int) -> list[list[T]]:
    return [list(items[i : i + size]) for i in range(0, len(items), size)]
