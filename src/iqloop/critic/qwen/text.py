"""A checkpoint's tokenizer and chat template as they stand in its folder, read without transformers.

With the names that the engine knows of a transformers processor. Templates come with a
checkpoint and are programs of a kind: they are run in Jinja's sandbox, where they can neither call nor change anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iqloop.critic.locate import read_json
from iqloop.errors import CriticError

if TYPE_CHECKING:
    from jinja2 import Template

_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def understands(folder: Path) -> bool:
    """Whether the folder's files say all there is to know."""
    return all((folder / name).is_file() for name in _FILES)


class Tokenizer:
    """Text to tokens and back."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer as Backend

        self.backend_tokenizer: Any = Backend.from_file(str(folder / "tokenizer.json"))
        pad = read_json(folder / "tokenizer_config.json").get("pad_token")
        text = pad.get("content") if isinstance(pad, dict) else pad
        found = None if text is None else self.backend_tokenizer.token_to_id(str(text))
        if found is None:
            raise CriticError(f"{folder}: expected a pad_token of the vocabulary in tokenizer_config.json, got {pad!r}")
        self.pad_token_id = int(found)

    def __call__(self, text: str, add_special_tokens: bool = False) -> dict[str, list[int]]:
        """``input_ids`` of a text."""
        return {"input_ids": list(self.backend_tokenizer.encode(text, add_special_tokens=add_special_tokens).ids)}

    def convert_tokens_to_ids(self, token: str) -> int | None:
        """The id of one token of the vocabulary; None for any other text."""
        found = self.backend_tokenizer.token_to_id(token)
        return None if found is None else int(found)

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        """The text of tokens."""
        return str(self.backend_tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens))


class TextSide:
    """Tokenizer and chat template; what is left of a processor where pixels are made elsewhere."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = Tokenizer(folder)
        self.chat_template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
        _template(self.chat_template)

    def apply_chat_template(
        self, messages: Sequence[Any], add_generation_prompt: bool = False, tokenize: bool = False
    ) -> str:
        """Chat turns as one text; ``tokenize`` is there for the name's sake and must be False."""
        assert not tokenize, "images are not known here"
        from jinja2 import TemplateError

        try:
            return str(
                _template(self.chat_template).render(messages=messages, add_generation_prompt=add_generation_prompt)
            )
        except TemplateError as error:
            raise CriticError(
                f"the checkpoint's chat template does not take the critic's questions ({error})"
            ) from error

    def batch_decode(self, rows: Sequence[Sequence[int]], skip_special_tokens: bool = False) -> list[str]:
        """The text of each row of tokens."""
        return [self.tokenizer.decode(row, skip_special_tokens) for row in rows]


@cache
def _template(source: str) -> Template:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    # As transformers compiles them: a template's own line ends and indentation are no text.
    return ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(source)
