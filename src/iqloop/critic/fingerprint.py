"""What a critic's answers follow from, known before it is asked: the key under which they may be kept on a disk.

A checkpoint's answers follow from its weights and configuration (their digest is its version), from its tokenizer,
chat template, generation settings and prompts, from the decoding with its seed (drawn answers and retries are seeded),
and from precision, device, kernels and the size of batches, by which sums are rounded. Weights that are being trained,
metrics of pyiqa (their version says nothing of their weights) and plug-ins that are silent have no fingerprint.
"""

from __future__ import annotations

import hashlib
import re
from typing import Protocol, runtime_checkable
from weakref import WeakKeyDictionary

from iqloop.critic.engine import QwenCritic
from iqloop.critic.inputs import question as templated
from iqloop.critic.protocol import Critic

_DIGEST = re.compile(r"[0-9a-f]{16}")
_vocabularies: WeakKeyDictionary[object, str] = WeakKeyDictionary()


@runtime_checkable
class Fingerprinted(Protocol):
    """A critic that says itself what its answers follow from; for plug-ins."""

    def fingerprint(self, question: str) -> str | None:
        """Changes whenever an answer to ``question`` ("score", "perceive", "compare") might; None: do not keep any."""
        ...


def fingerprint(critic: Critic, question: str) -> str | None:
    """64 hexadecimal digits or the critic's own words; None for a critic whose answers must not outlive the run.

    A question for a second checkpoint has one only when that has been loaded, by being asked.
    """
    if isinstance(critic, Fingerprinted):
        return critic.fingerprint(question)
    if not isinstance(critic, QwenCritic):
        return None
    if question == "compare" and critic.comparison is not None:
        # In the loop there always is a reference to compare with.
        return None if critic._comparer is None else fingerprint(critic._comparer, question)
    checkpoint = critic.checkpoint
    model = checkpoint.model
    if not _DIGEST.fullmatch(checkpoint.version) or model.training or any(p.requires_grad for p in model.parameters()):
        return None
    source, config = checkpoint.source, model.config
    follows_from = (
        checkpoint.version,
        critic.name,
        [(task, prompt, templated(checkpoint, prompt, critic.text_first)) for task, prompt in source.prompts.items()],
        (checkpoint.tasks, checkpoint.views, checkpoint.answer_begin, checkpoint.tie_band, source.max_new_tokens),
        sorted(model.generation_config.to_dict().items()),
        _vocabulary(checkpoint.tokenizer),
        (critic.decoding, critic.samples, critic.temperature, critic.seed, critic.text_first, critic.batch_size),
        (str(checkpoint.device), str(model.dtype), getattr(model, "hf_device_map", None)),
        (config._attn_implementation, config.vision_config._attn_implementation),
    )
    return hashlib.sha256(repr(follows_from).encode()).hexdigest()


def _vocabulary(tokenizer: object) -> str:
    """Digest of a fast tokenizer, which of a large one is worth remembering."""
    if tokenizer not in _vocabularies:
        text = tokenizer.backend_tokenizer.to_str()  # type: ignore[attr-defined]  # every Qwen tokenizer is a fast one
        _vocabularies[tokenizer] = hashlib.sha256(text.encode()).hexdigest()
    return _vocabularies[tokenizer]
