"""A Qwen2.5-VL that only reads: what the engine asks of transformers' model, with its names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from iqloop.critic.pixels import MERGE
from iqloop.critic.qwen.language import Cache, LanguageModel, Layer
from iqloop.critic.qwen.layers import Linear
from iqloop.critic.qwen.vision import Visual


@dataclass
class Generation:
    """What ``generation_config.json`` says of writing; everything else in it is for other programs."""

    eos_token_id: int | list[int] | None = None
    suppress_tokens: list[int] | None = None
    begin_suppress_tokens: list[int] | None = None
    repetition_penalty: float | None = None
    others: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Generation:
        """From the file's object."""
        names = {one.name for one in fields(cls)} - {"others"}
        others = {name: value for name, value in settings.items() if name not in names}
        return cls(**{name: value for name, value in settings.items() if name in names}, others=others)

    def to_dict(self) -> dict[str, Any]:
        """Everything that it says."""
        return {**self.others, **{one.name: getattr(self, one.name) for one in fields(self) if one.name != "others"}}


class Body(nn.Module):
    """Tower and language model, nested as in transformers."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.image_token = config.image_token_id
        self.visual = Visual(vars(config.vision_config))
        self.language_model = LanguageModel(vars(config.text_config))

    def get_rope_index(
        self, input_ids: Tensor, mm_token_type_ids: Tensor, image_grid_thw: Tensor, attention_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Positions ``(3, B, L)`` of left-padded text with images, and ``(B, 1)`` how far the next one is from ``L``.

        Text counts on; a token of an image has the place where the image begins, plus its row and its column; text
        goes on after the longer of the image's sides. Padding is at 0.
        """
        positions = torch.zeros(3, *input_ids.shape, dtype=torch.long)
        after = torch.zeros(len(input_ids), 1, dtype=torch.long)
        grids = iter([(int(rows) // MERGE, int(columns) // MERGE) for _, rows, columns in image_grid_thw.tolist()])
        for row, (kinds, real) in enumerate(zip(mm_token_type_ids.tolist(), attention_mask.tolist(), strict=True)):
            at = start = real.index(1) if 1 in real else len(real)
            place = 0
            while at < len(kinds):
                if not kinds[at]:
                    end = next((i for i in range(at, len(kinds)) if kinds[i]), len(kinds))
                    positions[:, row, at:end] = torch.arange(place, place + end - at)
                    place, at = place + end - at, end
                    continue
                tall, wide = next(grids)
                y, x = torch.meshgrid(torch.arange(tall), torch.arange(wide), indexing="ij")
                end = at + tall * wide
                positions[:, row, at:end] = place + torch.stack([torch.zeros_like(y), y, x]).flatten(1)
                place, at = place + max(tall, wide), end
            after[row] = place - (len(kinds) - start)
        return positions.to(input_ids.device), after.to(input_ids.device)


class Qwen(nn.Module):
    """Qwen2.5-VL for reading: what the engine asks of transformers' ``Qwen2_5_VLForConditionalGeneration``."""

    def __init__(self, config: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        super().__init__()
        self.config = _attributes(config)
        self.generation_config = Generation.of(settings)
        sizes = self.config.text_config
        self.model = Body(self.config)
        self.lm_head = Linear(sizes.hidden_size, sizes.vocab_size, bias=False)

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.lm_head.weight.dtype

    def get_input_embeddings(self) -> nn.Embedding:
        """The embeddings of tokens."""
        return self.model.language_model.embed_tokens

    def empty_cache(self) -> Cache:
        """Nothing read so far."""
        return Cache([Layer() for _ in self.model.language_model.layers])


def _attributes(config: Mapping[str, Any]) -> SimpleNamespace:
    """A checkpoint's ``config.json`` with its keys as attributes, and those that say how attention is computed."""
    text, vision = (
        SimpleNamespace(**config[part], _attn_implementation="sdpa") for part in ("text_config", "vision_config")
    )
    whole = {"iqloop": {}, "tie_word_embeddings": False} | dict(config)
    return SimpleNamespace(**{**whole, "text_config": text, "vision_config": vision, "_attn_implementation": "sdpa"})
