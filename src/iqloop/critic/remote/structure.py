"""Regular expressions of well-formed answers, for servers that can hold a model to one."""

from __future__ import annotations

from iqloop.critic.prompts import Prompt
from iqloop.critic.verdicts import CLASSES, SEVERITIES

_THOUGHT = r"<think>[^<]{1,4000}</think>\s?"
_RATING = r"([1-4]\.[0-9]{2}|5\.00)"
_DEGRADATION = (
    r'\{"distortion_class": "('
    + "|".join(CLASSES[:-1])
    + r')", "severity": "('
    + "|".join(SEVERITIES)
    + r')"\}|\{"distortion_class": "null", "severity": "null"\}'
)
_ANSWERS = {
    "degradation": f"({_DEGRADATION})",
    "compare": "(Image A|Image B|Similar)",
    "compare-reference": "(Image A|Image B|Similar)",
}


def answer_regex(prompt: Prompt, begin: str = "") -> str | None:
    """What follows ``begin`` in a well-formed answer to a prompt; None for one that is answered freely."""
    task = prompt.version.split("/")[1]
    if task == "describe":
        return None
    json_wanted = '"rating"' in prompt.answer_prefix
    rating = rf'\{{"rating": {_RATING}\}}' if json_wanted else _RATING
    answer = rf"<answer> {_ANSWERS.get(task, rating)} </answer>"
    whole = (_THOUGHT if prompt.thinks else "") + answer
    return whole.removeprefix(begin)
