"""Templated reasoning for the supervised warm start: what a careful viewer would write, in the published format.

The text is grounded in the label: it names the class, then the evidence of the very function that distorted the image,
then the severity, so that each word can rest on those before it. The class comes first because a greedy answer takes
the likeliest beginning: the likeliest of eighteen functions need not belong to the likeliest of five classes, and
"no distortion", which has a single one, would win too often. Part of the answers carry no thought
(``<think> </think>``), which is the form in which scores and label probabilities are read out directly.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from iqloop.critic.prompts import Q_INSIGHT, Q_INSIGHT_SYSTEM, VISUALQUALITY_R1
from iqloop.critic.training.crops import Label
from iqloop.critic.training.opinion import FUNCTIONS
from iqloop.critic.verdicts import CLASSES, SEVERITIES

if TYPE_CHECKING:
    from iqloop.critic.training.pairs import Pair

EVIDENCE: dict[str, tuple[str, ...]] = {
    "noise_gaussian_RGB": ("Fine random grain covers flat areas and edges alike, in every colour channel.",),
    "noise_gaussian_YCrCb": ("Coloured blotches and grain shift the hue from pixel to pixel.",),
    "noise_speckle": ("The grain grows with brightness: bright areas are rough while dark areas stay calm.",),
    "noise_spatially_correlated": ("Soft clumps of grain, a few pixels wide, lie over smooth areas.",),
    "noise_poisson": ("Grain like that of a sensor with little light lies over the picture.",),
    "noise_impulse": ("Isolated black, white and coloured dots are scattered over the picture.",),
    "compression_jpeg": ("Edges of small square blocks and ringing near contours are visible.",),
    "compression_jpeg_2000": ("Fine texture is smeared away in patches and contours show soft ripples.",),
    "blur_gaussian": ("Edges are evenly soft in all directions and fine texture is missing.",),
    "blur_motion": ("Details are drawn out in one direction, as if the camera had moved.",),
    "blur_glass": ("Edges are soft and crumbled, as if seen through rough glass.",),
    "blur_lens": ("Points spread into small disks, as with a lens out of focus.",),
    "blur_zoom": ("Details are drawn out from the centre towards the borders.",),
    "blur_jitter": ("Edges are crumbled: pixels seem to be shuffled with their neighbours.",),
    "brightness_darken_shfit_HSV": ("All tones are pushed down and shadows are cut to black.",),
    "brightness_darken_shfit_RGB": ("All tones are pushed down, shadows are black and colours look heavy.",),
    "brightness_darken_gamma_HSV": ("Middle tones are much too dark while highlights keep their place.",),
    "brightness_darken_gamma_RGB": ("Middle tones are too dark and contrast is heavy.",),
}
"""What each function of `FUNCTIONS` leaves behind."""

CLEAN_EVIDENCE = ("Edges are crisp, flat areas are smooth and the light is natural.",)

NAMES = {"noise": "noise", "blur": "blur", "compression": "compression artifacts", "darken": "darkening"}

WORTH = ((4.2, "excellent"), (3.4, "good"), (2.6, "fair"), (1.8, "poor"), (0.0, "bad"))
"""Words for scores, from the top."""

SHORT = 0.35
"""Fraction of answers without a thought."""


def evidence(label: Label, rng: np.random.Generator) -> str:
    """A sentence on what is to be seen; empty for a rated photograph, of which only the score is known."""
    if label.function is not None:
        options = EVIDENCE[FUNCTIONS[label.function]]
    elif label.distortion_class is not None:
        options = CLEAN_EVIDENCE
    else:
        return ""
    return options[int(rng.integers(len(options)))]


def degradation_answer(label: Label, rng: np.random.Generator) -> str:
    """The answer to the degradation prompt."""
    assert label.distortion_class is not None
    kind = CLASSES[label.distortion_class]
    severity = "null" if label.severity is None else SEVERITIES[label.severity - 1]
    seen = evidence(label, rng)
    thought = (
        f"There is {NAMES[kind]}. {seen} It is {severity}." if kind in NAMES else f"There is no distortion. {seen}"
    )
    return _wrap(thought, {"distortion_class": kind, "severity": severity}, rng)


def score_answer(label: Label, rng: np.random.Generator) -> str:
    """The answer to the score prompt."""
    word = next(word for bound, word in WORTH if label.score >= bound)
    sentence = f"The overall quality is {word}."
    return _wrap(f"{evidence(label, rng)} {sentence}".strip(), {"rating": round(label.score, 2)}, rng)


def describe_answer(label: Label, rng: np.random.Generator) -> str:
    """The answer to the description prompt: the thought alone is the answer."""
    word = next(word for bound, word in WORTH if label.score >= bound)
    return f"{evidence(label, rng)} The overall quality is {word}.".strip()


def comparison_answer(pair: Pair, rng: np.random.Generator) -> str:
    """The answer to a comparison: what sets the two images apart, then which one is better."""
    words = {"A": "Image A", "B": "Image B", "similar": "Similar"}
    if pair.choice == "similar":
        thought = "No clear difference is visible."
    elif pair.kind == "severity":
        thought = f"{NAMES[pair.distortion_class].capitalize()} is slight in {words[pair.choice]}."
    else:
        thought = f"Edges and texture are natural in {words[pair.choice]}."
    thought = "" if rng.random() < SHORT else f"{thought} "
    return f"<think> {thought}</think><answer> {words[pair.choice]} </answer>"


def corpus() -> Iterator[str]:
    """Every word that the tokenizer should know well."""
    for prompts in (Q_INSIGHT, VISUALQUALITY_R1):
        for prompt in prompts.values():
            yield from (part for part in prompt.parts if part is not None)
    yield Q_INSIGHT_SYSTEM
    yield "system user assistant Image A Image B Similar You are a helpful assistant."
    rng = np.random.default_rng(0)
    for i in range(2000):
        function = int(rng.integers(len(FUNCTIONS) + 1))
        if function == len(FUNCTIONS):
            label = Label(CLASSES.index("null"), None, None, 4.6)
        else:
            name = FUNCTIONS[function]
            kind = next(k for k in CLASSES if k in name)
            label = Label(CLASSES.index(kind), function, int(rng.integers(1, 6)), float(rng.uniform(1, 5)))
        yield (degradation_answer, score_answer, describe_answer)[i % 3](label, rng)


def _wrap(thought: str, answer: dict[str, object], rng: np.random.Generator) -> str:
    text = json.dumps(answer)
    if "rating" in answer:
        text = f'{{"rating": {answer["rating"]:.2f}}}'
    thought = "" if rng.random() < SHORT else f"{thought} "
    return f"<think> {thought}</think><answer> {text} </answer>"
