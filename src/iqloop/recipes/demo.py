"""The demonstration: a real photograph is degraded in two ways and restored with what ships in the package.

    python -m iqloop.recipes.demo FOLDER

writes ``original.png``, ``degraded.png``, ``restored.png``, ``before-after.png`` and ``trace.json`` to FOLDER and
prints the diagnosis, every step and the gain. The photograph is scikit-image's astronaut (NASA, public domain); nothing
of it was used in training.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iqloop.recipes.waiting import sleep_soon

if TYPE_CHECKING:
    from torch import Tensor

    from iqloop.agents import Event, Restoration

DEGRADATIONS = (("brightness_darken_gamma_RGB", 1.0), ("noise_gaussian_RGB", 3.0))
"""What is done to the photograph, in a camera's order."""
SEED = 7


@dataclass(frozen=True)
class Demo:
    """What came of the demonstration."""

    outcome: Restoration
    psnr_before: float
    """Of the degraded photograph against the original, in dB."""
    psnr_after: float
    """Of the restored one."""

    @property
    def gain(self) -> float:
        """In dB."""
        return self.psnr_after - self.psnr_before


def run_demo(folder: Path, critic: Any = None, say: Any = print) -> Demo:
    """Degrade, restore, write everything to ``folder``; ``critic`` None takes the embedded one."""
    import numpy as np
    import torch
    from skimage import data

    from iqloop import distort, io
    from iqloop.agents import restore
    from iqloop.agents.trace import to_json
    from iqloop.critic.known import create_critic
    from iqloop.restorers import default_registry
    from iqloop.restorers.full_reference import tensor_psnr as psnr

    folder.mkdir(parents=True, exist_ok=True)
    original = np.array(data.astronaut())
    mixture = [distort.Distortion(name, severity) for name, severity in DEGRADATIONS]
    degraded = distort.apply_all(original, mixture, seed=SEED)
    io.write(io.read(original), folder / "original.png", overwrite=True)
    io.write(io.read(degraded), folder / "degraded.png", overwrite=True)
    photo = io.read(folder / "degraded.png")
    say(f"Degraded: {', then '.join(f'{name} at severity {severity:g}' for name, severity in DEGRADATIONS)}")

    def listen(event: Event) -> None:
        say(f"  {event.message}")

    outcome = restore(
        photo.pixels, critic or create_critic(), default_registry(plugins=False, user=False), seed=0, on_event=listen
    )
    io.write(photo.with_pixels(outcome.image), folder / "restored.png", overwrite=True)
    io.write_bytes_atomic(folder / "trace.json", to_json(outcome.trace).encode(), overwrite=True)
    truth = torch.from_numpy(original).permute(2, 0, 1).float() / 255
    demo = Demo(outcome, psnr(photo.pixels, truth), psnr(outcome.image, truth))
    panel = side_by_side([photo.pixels, outcome.image, truth])
    io.write(io.read(panel), folder / "before-after.png", overwrite=True)
    say(f"Steps: {' -> '.join(outcome.steps) or 'none'} ({outcome.stop_reason}); {outcome.seconds:.1f} s")
    say(f"PSNR against the original: {demo.psnr_before:.2f} -> {demo.psnr_after:.2f} dB ({demo.gain:+.2f})")
    say(f"Critic: {outcome.score_before:.2f} -> {outcome.score_after:.2f} on 1 to 5")
    say(f"Look at {folder / 'before-after.png'} (degraded, restored, original) and {folder / 'trace.json'}")
    return demo


def side_by_side(images: list[Tensor], gap: int = 8) -> Tensor:
    """Images ``(3, H, W)`` of one size in a row, white between them."""
    import torch

    bar = torch.ones(3, images[0].shape[1], gap)
    row = [part for image in images for part in (image.cpu(), bar)][:-1]
    return torch.cat(row, dim=2)


if __name__ == "__main__":
    sleep_soon()
    run_demo(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))
