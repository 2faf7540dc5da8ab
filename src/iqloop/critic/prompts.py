"""The published prompts, word for word, and how they are laid out around the images.

Q-Insight: Li et al. 2025, Table A, and the released demos. VisualQuality-R1: Wu et al. 2025, released code. The words
are the interface that those checkpoints were trained on: change one and the scores change, so every prompt carries a
version that goes into verdicts, caches and traces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

TaskName = Literal["score", "degradation", "compare", "compare-reference", "describe"]
Message = dict[str, Any]

# No full stop after the last tag: the code has none, the paper's table prints one.
Q_INSIGHT_SYSTEM = (
    "A conversation between User and Assistant. The user asks a question, and the Assistant solves it. "
    "The assistant first thinks about the reasoning process in the mind and then provides the user with the answer. "
    "The reasoning process and answer are enclosed within <think> </think> and <answer> </answer> tags, respectively, "
    "i.e., <think> reasoning process here </think><answer> answer here </answer>"
)
_SCORE = (
    "What is your overall rating on the quality of this picture? The rating should be a float between 1 and 5, "
    "rounded to two decimal places, with 1 representing very poor quality and 5 representing excellent quality."
)
_DEGRADATION = (
    "Analyze the given image and determine if it contains any of the following distortions: "
    '"noise", "compression", "blur", or "darken". If a distortion is present, classify its severity as "slight", '
    '"moderate", "obvious", "serious", or "catastrophic". Return the result in JSON format with the following keys: '
    '"distortion_class": The detected distortion (or "null" if none). and "severity": The severity level '
    '(or "null" if none).'
)
_COMPARE_REFERENCE = (
    "Decide which enhanced image is superior or if they are comparable. Evaluate based on: 1) fidelity and "
    "consistency with the reference image; 2) overall perceptual quality. Return **exactly one** of: Image A, "
    "Image B, or Similar."
)
# Printed in the paper with placeholders, in no code: the images stand where the placeholders are.
_COMPARE = (
    ", assess the visual quality of both the Image A and the Image B, explain and justify which one is better "
    'considering composition and degradation. Your answer should be "Image A" or "Image B".'
)

IMAGE = None
"""Stands for the next image in a prompt's parts."""


@dataclass(frozen=True)
class Prompt:
    """One question: its texts and images in order."""

    version: str
    """``family/task/number``; changes with any character of the text."""
    parts: tuple[str | None, ...]
    """Texts, and `IMAGE` where an image stands."""
    system: str | None = None
    """The system turn; None leaves it to the checkpoint's chat template."""
    answer_prefix: str = ""
    """What an assistant's turn begins with when the answer is read out without reasoning, up to the answer's first
    character of meaning."""
    thinks: bool = True
    """Whether a written answer has a thought before it: False for prompts that ask for the answer alone."""

    @property
    def images(self) -> int:
        """How many images it takes."""
        return self.parts.count(IMAGE)

    def messages(self, text_first: bool = False) -> list[Message]:
        """Chat messages; ``text_first`` puts a single image after its text, as the published demos do."""
        parts = self.parts[::-1] if text_first and len(self.parts) == 2 else self.parts
        content = [{"type": "image"} if part is IMAGE else {"type": "text", "text": part} for part in parts]
        turns: list[Message] = [{"role": "user", "content": content}]
        if self.system is not None:
            turns.insert(0, {"role": "system", "content": [{"type": "text", "text": self.system}]})
        return turns


_NO_THOUGHT = "<think> </think><answer> "

Q_INSIGHT: dict[TaskName, Prompt] = {
    "score": Prompt(
        "q-insight/score/1",
        (IMAGE, _SCORE + ' Return the final answer in JSON format with the following keys: "rating": The score.'),
        Q_INSIGHT_SYSTEM,
        _NO_THOUGHT + '{"rating": ',
    ),
    "degradation": Prompt(
        "q-insight/degradation/1", (IMAGE, _DEGRADATION), Q_INSIGHT_SYSTEM, _NO_THOUGHT + '{"distortion_class": "'
    ),
    "compare": Prompt(
        "q-insight/compare/1",
        ("Given Image A: ", IMAGE, " and Image B: ", IMAGE, _COMPARE),
        Q_INSIGHT_SYSTEM,
        _NO_THOUGHT + "Image ",
    ),
    "compare-reference": Prompt(
        "q-insight/compare-reference/1",
        (
            "Given a low-quality reference image and two enhanced outputs. Reference Image:",
            IMAGE,
            "Image A:",
            IMAGE,
            "Image B:",
            IMAGE,
            _COMPARE_REFERENCE,
        ),
        Q_INSIGHT_SYSTEM,
        _NO_THOUGHT,
    ),
    "describe": Prompt("q-insight/describe/1", (IMAGE, "Please describe the quality of this image."), Q_INSIGHT_SYSTEM),
}
"""Q-Insight's tasks; images first, as trained. Its description is the reasoning of VisualQuality-R1's question."""

_VQ_R1 = "You are doing the image quality assessment task. Here is the question: " + _SCORE

VISUALQUALITY_R1: dict[TaskName, Prompt] = {
    "score": Prompt(
        "visualquality-r1/score/1",
        (
            IMAGE,
            _VQ_R1 + " First output the thinking process in <think> </think> tags and then output the final answer "
            "with only one score in <answer> </answer> tags.",
        ),
        answer_prefix=_NO_THOUGHT,
    ),
    "describe": Prompt("visualquality-r1/describe/1", (IMAGE, "Please describe the quality of this image.")),
}
"""VisualQuality-R1's tasks; the system turn is the checkpoint's own."""

VISUALQUALITY_R1_DIRECT: dict[TaskName, Prompt] = {
    **VISUALQUALITY_R1,
    "score": Prompt(
        "visualquality-r1/score-direct/1",
        (IMAGE, _VQ_R1 + " Please only output the final answer with only one score in <answer> </answer> tags."),
        answer_prefix="<answer> ",
        thinks=False,
    ),
}
"""VisualQuality-R1 without thinking: in its README, never trained."""
