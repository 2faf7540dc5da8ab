"""Why a run ended. Every run ends with exactly one of these."""

from __future__ import annotations

from typing import Literal

StopReason = Literal[
    "clean",
    "done",
    "no-improvement",
    "no-further-improvement",
    "bicubic",
    "no-tools",
    "unparsed",
    "perceive-only",
    "max-steps",
    "max-tool-calls",
    "max-critic-calls",
    "time-limit",
    "total-time-limit",
]

STOP_REASONS: dict[StopReason, str] = {
    "clean": "nothing suspected was left to treat in the input: it was left alone",
    "done": "the image was improved and nothing more is suspected",
    "no-improvement": "something is suspected, but no tool's output beat the input, or none was sure enough",
    "no-further-improvement": "the image was improved; something is still suspected, but no tool improved it further",
    "bicubic": "no upscaler beat bicubic interpolation, so the size asked for was reached by bicubic interpolation",
    "no-tools": "something is suspected, but no registered tool treats it",
    "unparsed": "an answer of the critic about the input or the current best could not be read",
    "perceive-only": "search is 'none': the image was perceived and not changed",
    "max-steps": "the budget of steps was spent",
    "max-tool-calls": "the budget of tool calls was spent",
    "max-critic-calls": "the budget of questions to the critic was spent",
    "time-limit": "the time limit was reached",
    "total-time-limit": "the time limit of the whole run was reached",
}
"""What each reason means, for users. With a scale above 1, reasons other than ``bicubic`` may also end with a bicubic
image when the budget did not suffice; the trace's last step says so."""
