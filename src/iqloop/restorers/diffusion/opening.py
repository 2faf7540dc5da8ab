"""Open any diffusers pipeline, from a folder or by its name on the hub, without running code that comes with it.

Weights are read from ``.safetensors`` alone, ``.py`` files in a folder are refused, and a safety checker or a watermark
is not loaded: what is generated here is ranked and shown to the person who asked for it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch

from iqloop.errors import IqloopError, PrerequisiteError, ToolError
from iqloop.restorers.diffusers_tool import INDEX, LEFT_OUT, quiet, unwarned
from iqloop.restorers.diffusion.parts import import_diffusers
from iqloop.restorers.diffusion.thrift import searched_by_tree

EMBEDDED = {"ldm-mini-x2": Path(__file__).parents[2] / "weights" / "generators" / "ldm-mini-x2"}
"""The generators that come in the package, by name."""


def open_pipeline(name: str | Path, device: str | torch.device = "cpu", offline: bool = False) -> Any:
    """A pipeline, ready to be called; half precision on CUDA, float32 elsewhere.

    Args:
        name: one of `EMBEDDED`, a folder with ``model_index.json``, or ``OWNER/NAME`` on the model hub, which is
            fetched into the hub's cache.
        device: where it runs.
        offline: take a name of the hub from the cache only.

    Raises:
        PrerequisiteError: diffusers is not installed, or the hub cannot be reached.
        ToolError: the folder is no pipeline, brings code, is damaged, or its weights are pickled.
    """
    diffusers = import_diffusers()
    quiet()
    folder = EMBEDDED.get(str(name), Path(name))
    local = folder.is_dir()
    if local:
        _check(folder)
    elif str(name) in EMBEDDED:
        raise ToolError(f"{name}: missing from this installation: install the package again")
    elif str(name).count("/") != 1 or str(name).startswith((".", "/", "~")):
        known = ", ".join(EMBEDDED)
        raise ToolError(f"{name}: no such folder; expected {known}, a pipeline's folder, or OWNER/NAME on the hub")
    target = torch.device(device)
    options: dict[str, Any] = {"torch_dtype": torch.float16 if target.type == "cuda" else torch.float32}
    try:
        with unwarned():
            pipeline = diffusers.DiffusionPipeline.from_pretrained(
                folder if local else str(name),
                use_safetensors=True,
                local_files_only=local or offline,
                **dict.fromkeys(_unused(folder) if local else (), None),
                **options,
            )
            pipeline.to(target)
    except IqloopError:
        raise
    except Exception as error:  # the library raises whatever a damaged folder or a broken connection provokes
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        if local:
            raise ToolError(f"{folder.name}: cannot be opened as a pipeline ({reason})") from error
        raise PrerequisiteError(
            f"{name} cannot be fetched ({reason}): go online, or name the folder of a copy with {INDEX}"
        ) from error
    pipeline.set_progress_bar_config(disable=True)
    searched_by_tree(pipeline)
    return pipeline


def version_of(name: str | Path, pipeline: Any) -> str:
    """What a pipeline's output follows from besides the request: the folder's files by content, or the hub's commit."""
    import diffusers

    folder = EMBEDDED.get(str(name), Path(name))
    if not folder.is_dir():
        return f"{getattr(pipeline.config, '_commit_hash', None) or 'unknown'}, diffusers {diffusers.__version__}"
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.suffix in (".json", ".txt", ".safetensors")):
        with path.open("rb") as file:
            digest.update(path.relative_to(folder).as_posix().encode() + hashlib.file_digest(file, "sha256").digest())
    return f"{digest.hexdigest()[:16]}, diffusers {diffusers.__version__}"


def _check(folder: Path) -> None:
    if not (folder / INDEX).is_file():
        raise ToolError(f"{folder}: a folder without {INDEX} is no diffusers pipeline")
    code = next(folder.rglob("*.py"), None)
    if code is not None:
        raise ToolError(f"{folder.name}: comes with code ({code.name}), which is not run")


def _unused(folder: Path) -> list[str]:
    """The parts of a folder that are not loaded."""
    import json

    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ToolError(f"{folder / INDEX}: damaged ({type(error).__name__})") from error
    # An image encoder is left out for restoring; generating may need it.
    return [part for part in LEFT_OUT if part in index and part in ("safety_checker", "watermarker")]
