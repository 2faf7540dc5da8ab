"""A run as a JSON document: what was seen, tried, judged and decided, and what it cost.

The form is published as ``trace.schema.json`` beside this file (JSON Schema, draft 2020-12; no other properties are
allowed). ``schema`` names the version: it changes when a reader of the former one could be misled.
All clock readings are in properties named ``seconds``, so that two runs with one seed can be compared
(`without_times`).
"""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib import metadata, resources
from typing import Any, cast

from iqloop.agents.budget import Budget, Spending
from iqloop.agents.diagnosis import PERCEIVED, severity_of, with_certainty
from iqloop.agents.evidence import Evidence
from iqloop.agents.judge import Judgement
from iqloop.agents.questions import Questions
from iqloop.agents.records import CandidateRecord, StepRecord, TryRecord
from iqloop.agents.settings import RestoreSettings
from iqloop.agents.stop import STOP_REASONS, StopReason
from iqloop.critic.verdicts import Degradation, Preference, Provenance, Unparsed

SCHEMA = "iqloop-trace/1"
PACKAGES = ("iqloop", "torch", "transformers", "numpy", "spandrel", "opencv-python-headless", "scikit-image")
"""Distributions whose version may change a result."""
TIME_FIELD = "seconds"
Document = dict[str, Any]


@dataclass(frozen=True)
class FileRecord:
    """An image file of a run; the loop itself knows none, `with_files` fills them in."""

    path: str | None = None
    sha256: str | None = None
    """Of the file's bytes, not of the pixels."""


@dataclass(frozen=True)
class CriticRecord:
    """Who judged."""

    name: str
    version: str
    score_range: tuple[float, float]
    lower_better: bool
    capabilities: tuple[str, ...]
    evidence: str | None
    """Which evidence its answers were weighed by (`iqloop.agents.evidence.Evidence.name`); None for rules alone."""
    provenances: Mapping[str, tuple[Provenance, ...]]
    """For each question that was asked: model, prompt version and decoding of the answers."""


@dataclass(frozen=True)
class Spent:
    """What a run cost."""

    steps: int
    """Steps that had a tool to try."""
    tool_calls: int
    critic_calls: int
    tool_cache_hits: int
    critic_cache_hits: int
    seconds: float


@dataclass(frozen=True)
class Trace:
    """Everything about one run but the pixels."""

    input: FileRecord
    output: FileRecord
    output_candidate: str
    versions: Mapping[str, str]
    critic: CriticRecord
    seed: int
    scale: int
    settings: RestoreSettings
    budget: Budget
    candidates: tuple[CandidateRecord, ...]
    """The input (``c0``) first; the output is one of them."""
    diagnosis: Degradation | Unparsed | None
    """The input's."""
    final_diagnosis: Degradation | Unparsed | None
    """Of the last current best that was perceived."""
    steps: tuple[StepRecord, ...]
    spent: Spent
    stop_reason: StopReason
    improved: bool
    accepted_tools: tuple[str, ...]
    score_before: float | None
    score_after: float | None


@cache
def installed_versions() -> Mapping[str, str]:
    """Versions of Python and of `PACKAGES`, without importing them; what is not installed is left out."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def record_critic(questions: Questions, evidence: Evidence | None = None) -> CriticRecord:
    """The critic and the origins of its answers."""
    critic = questions.critic
    origins = {question: tuple(found) for question, found in sorted(questions.provenances.items())}
    capabilities = tuple(sorted(critic.capabilities))
    weighed = None if evidence is None else evidence.name
    return CriticRecord(
        critic.name, critic.version, critic.score_range, critic.lower_better, capabilities, weighed, origins
    )


def record_spending(spending: Spending) -> Spent:
    """The counters as they stand."""
    return Spent(
        spending.steps,
        spending.tool_calls,
        spending.critic_calls,
        spending.tool_cache_hits,
        spending.critic_cache_hits,
        spending.seconds(),
    )


def with_files(
    trace: Trace,
    *,
    input_path: str | None = None,
    input_sha256: str | None = None,
    output_path: str | None = None,
    output_sha256: str | None = None,
    candidate_paths: Mapping[str, str] | None = None,
    candidate_sha256s: Mapping[str, str] | None = None,
) -> Trace:
    """The trace with the names and hashes of files; ``candidate_paths`` and ``candidate_sha256s`` map candidate ids to
    relative paths, and to the hashes of the files there."""
    paths, hashes = candidate_paths or {}, candidate_sha256s or {}
    return replace(
        trace,
        input=FileRecord(input_path, input_sha256),
        output=FileRecord(output_path, output_sha256),
        candidates=tuple(
            replace(made, path=paths.get(made.id, made.path), file_sha256=hashes.get(made.id, made.file_sha256))
            for made in trace.candidates
        ),
    )


def to_document(trace: Trace) -> Document:
    """The trace as JSON types only; it satisfies `trace_schema`."""
    output = next(made for made in trace.candidates if made.id == trace.output_candidate)
    return {
        "schema": SCHEMA,
        "input": _file(trace.input, trace.candidates[0]),
        "output": _file(trace.output, output),
        "versions": dict(trace.versions),
        "critic": _critic(trace.critic),
        "seed": trace.seed,
        "scale": trace.scale,
        "settings": _plain(asdict(trace.settings)),
        "budget": asdict(trace.budget),
        "candidates": [asdict(made) for made in trace.candidates],
        "diagnosis": _diagnosis(trace.diagnosis),
        "final_diagnosis": _diagnosis(trace.final_diagnosis),
        "steps": [_step(step) for step in trace.steps],
        "spent": asdict(trace.spent),
        "stop_reason": trace.stop_reason,
        "stop_explanation": STOP_REASONS[trace.stop_reason],
        "improved": trace.improved,
        "accepted_tools": list(trace.accepted_tools),
        "score_before": trace.score_before,
        "score_after": trace.score_after,
    }


def to_json(trace: Trace, indent: int | None = 2) -> str:
    """The document as text; non-ASCII characters are kept."""
    return json.dumps(to_document(trace), indent=indent, ensure_ascii=False, allow_nan=False) + "\n"


def without_times(trace: Trace | Mapping[str, Any]) -> Document:
    """The document without its clock readings: equal for two runs with one seed and equal settings."""
    document = to_document(trace) if isinstance(trace, Trace) else trace
    return cast(Document, _drop_times(document))


@cache
def trace_schema() -> Document:
    """The published JSON Schema."""
    text = resources.files("iqloop.agents").joinpath("trace.schema.json").read_text(encoding="utf-8")
    return cast(Document, json.loads(text))


def _file(file: FileRecord, image: CandidateRecord) -> Document:
    return {
        "path": file.path,
        "sha256": file.sha256,
        "candidate": image.id,
        "pixels_sha256": image.sha256,
        "width": image.width,
        "height": image.height,
    }


def _critic(critic: CriticRecord) -> Document:
    # A range without an end (some pyiqa metrics) has no JSON number.
    ends = [end if math.isfinite(end) else None for end in critic.score_range]
    return {
        "name": critic.name,
        "version": critic.version,
        "score_range": ends,
        "lower_better": critic.lower_better,
        "capabilities": list(critic.capabilities),
        "evidence": critic.evidence,
        "provenances": {name: [asdict(origin) for origin in found] for name, found in critic.provenances.items()},
    }


def _diagnosis(perceived: Degradation | Unparsed | None) -> Document | None:
    if perceived is None:
        return None
    if isinstance(perceived, Unparsed):
        return {"unparsed": True, "reason": perceived.reason, "raw": perceived.raw}
    known = with_certainty(perceived)
    return {
        "unparsed": False,
        "distortion_class": known.distortion_class,
        "severity": known.severity,
        "probabilities": _floats(known.probabilities),
        "severity_probabilities": {name: _floats(ladder) for name, ladder in known.severity_probabilities.items()},
        "expected_severities": {treatment: severity_of(known, treatment) for treatment in PERCEIVED},
        "reasoning": known.reasoning,
        "raw": known.raw,
    }


def _floats(values: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items()}


def _step(step: StepRecord) -> Document:
    return {
        "index": step.index,
        "kind": step.kind,
        "treatment": step.treatment,
        "severity": step.severity,
        "promise": step.promise,
        "started_from": step.started_from,
        "diagnosis": _diagnosis(step.diagnosis),
        "tries": [_try(attempt) for attempt in step.tries],
        "taken": step.taken,
        "decision": step.decision,
    }


def _try(attempt: TryRecord) -> Document:
    judged = attempt.judgement or Judgement(False, "")
    return {
        "tool": attempt.tool,
        "tool_version": attempt.tool_version,
        "started_from": attempt.started_from,
        "candidate": attempt.candidate,
        "decision": attempt.decision,
        "reason": attempt.reason,
        "cached": attempt.cached,
        "seconds": attempt.seconds,
        "score_before": judged.score_before,
        "score_after": judged.score_after,
        "severity_before": judged.severity_before,
        "severity_after": judged.severity_after,
        "probability": judged.probability,
        "comparison": _comparison(judged.comparison),
        "evidence": judged.evidence,
        "fidelity": None if judged.fidelity is None else asdict(judged.fidelity),
    }


def _comparison(preference: Preference | None) -> Document | None:
    if preference is None:
        return None
    return {
        "choice": preference.choice,
        "probability": preference.probability,
        "method": preference.method,
        "reasoning": preference.reasoning,
        "raw": list(preference.raw),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def _drop_times(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _drop_times(item) for key, item in value.items() if key != TIME_FIELD}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_drop_times(item) for item in value]
    return value
