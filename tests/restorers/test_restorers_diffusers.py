"""Pipelines of a few thousand random weights, built from configuration: sizes, seeds, tiles, and what is refused."""

from __future__ import annotations

import json
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from iqloop.errors import PrerequisiteError, ToolError, UsageError
from iqloop.restorers import Registry
from iqloop.restorers.diffusers_tool import Settings, load_pipeline_tool, padded, tile_seed

from ..recipes.helpers import run

diffusers = pytest.importorskip("diffusers", reason="the extra diffusion is not installed")
transformers = pytest.importorskip("transformers")

IMAGE = torch.rand(1, 3, 21, 34, generator=torch.Generator().manual_seed(1))
WIDE = 16
"""Of the text features."""


def tokenizer(folder: Path, limit: int = 8) -> Any:
    """Reads the letters a to e, and nothing else."""
    vocabulary = ["<|startoftext|>", "<|endoftext|>", *"abcde", *(f"{letter}</w>" for letter in "abcde")]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return transformers.CLIPTokenizer.from_pretrained(folder, model_max_length=limit)


def text_encoder(projected: bool = False) -> Any:
    config = transformers.CLIPTextConfig(
        vocab_size=12,
        hidden_size=WIDE,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=8,
        projection_dim=WIDE,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    return (transformers.CLIPTextModelWithProjection if projected else transformers.CLIPTextModel)(config)


def autoencoder(blocks: int = 3, scaling: float = 0.18215) -> Any:
    return diffusers.AutoencoderKL(
        block_out_channels=(8,) * blocks,
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=4,
        sample_size=64,
        scaling_factor=scaling,
    )


def unet(channels: int = 4, **more: Any) -> Any:
    return diffusers.UNet2DConditionModel(
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        in_channels=channels,
        out_channels=4,
        layers_per_block=1,
        attention_head_dim=4,
        norm_num_groups=4,
        sample_size=16,
        cross_attention_dim=more.pop("cross_attention_dim", WIDE),
        **more,
    )


def refiner(folder: Path, made: str = "StableDiffusionImg2ImgPipeline") -> None:
    getattr(diffusers, made)(
        vae=autoencoder(),
        text_encoder=text_encoder(),
        tokenizer=tokenizer(folder.with_name(f"{folder.name}-words")),
        unet=unet(),
        scheduler=diffusers.DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)


def text_to_image(folder: Path) -> None:
    refiner(folder, "StableDiffusionPipeline")


def refiner_xl(folder: Path) -> None:
    words = tokenizer(folder.with_name(f"{folder.name}-words"))
    diffusers.StableDiffusionXLPipeline(
        vae=autoencoder(),
        text_encoder=text_encoder(),
        text_encoder_2=text_encoder(projected=True),
        tokenizer=words,
        tokenizer_2=words,
        unet=unet(
            cross_attention_dim=2 * WIDE,
            addition_embed_type="text_time",
            addition_time_embed_dim=4,
            projection_class_embeddings_input_dim=WIDE + 6 * 4,
        ),
        scheduler=diffusers.EulerDiscreteScheduler(),
        add_watermarker=False,
    ).save_pretrained(folder)


def upscaler(folder: Path) -> None:
    diffusers.StableDiffusionUpscalePipeline(
        vae=autoencoder(scaling=0.08333),
        text_encoder=text_encoder(),
        tokenizer=tokenizer(folder.with_name(f"{folder.name}-words")),
        unet=unet(7, num_class_embeds=100),
        low_res_scheduler=diffusers.DDPMScheduler(),
        scheduler=diffusers.DDIMScheduler(steps_offset=1, clip_sample=False),
    ).save_pretrained(folder)


def latent(folder: Path) -> None:
    diffusers.LDMSuperResolutionPipeline(
        vqvae=diffusers.VQModel(
            block_out_channels=(8, 8, 8),
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            latent_channels=3,
            num_vq_embeddings=32,
            norm_num_groups=4,
        ),
        unet=diffusers.UNet2DModel(
            block_out_channels=(8, 16),
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            in_channels=6,
            out_channels=3,
            layers_per_block=1,
            attention_head_dim=4,
            norm_num_groups=4,
            sample_size=16,
        ),
        # Draws noise in each step.
        scheduler=diffusers.EulerAncestralDiscreteScheduler(),
    ).save_pretrained(folder)


MAKERS: dict[str, Callable[[Path], None]] = {
    "refiner": refiner,
    "text-to-image": text_to_image,
    "refiner-xl": refiner_xl,
    "upscaler": upscaler,
    "latent": latent,
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One folder of each kind, as diffusers saves it."""
    home = tmp_path_factory.mktemp("pipelines")
    torch.manual_seed(0)
    with warnings.catch_warnings():
        # Schedulers of diffusers build arrays as numpy once wanted them.
        warnings.simplefilter("ignore", DeprecationWarning)
        for name, make in MAKERS.items():
            make(home / name)
    return {name: home / name for name in MAKERS}


@pytest.fixture
def copy(folders: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """A folder that a test may damage."""
    return lambda name: Path(shutil.copytree(folders[name], tmp_path / name))


@pytest.mark.parametrize(
    ("name", "scale", "treats"),
    [
        ("refiner", 1, ("noise", "compression", "blur")),
        ("text-to-image", 1, ("noise", "compression", "blur")),
        ("refiner-xl", 1, ("noise", "compression", "blur")),
        ("upscaler", 4, ("low-resolution",)),
        ("latent", 4, ("low-resolution",)),
    ],
)
def test_round_trip(
    folders: dict[str, Path], capfd: pytest.CaptureFixture[str], name: str, scale: int, treats: tuple[str, ...]
) -> None:
    tool = load_pipeline_tool(folders[name], steps=4)
    info = tool.info
    assert (info.name, info.scale, info.treats, info.cost, info.seeded) == (name, scale, treats, "heavy", True)
    assert info.weights_licence == "unknown" and len(info.version) == 16 and "M parameters" in info.summary
    kept, state = IMAGE.clone(), torch.get_rng_state()
    first = tool.restore(IMAGE, seed=3)
    assert first.shape == (1, 3, 21 * scale, 34 * scale) and first.dtype == torch.float32
    assert float(first.min()) >= 0 and float(first.max()) <= 1 and first.std() > 0
    assert torch.equal(first, load_pipeline_tool(folders[name], steps=4).restore(IMAGE, seed=3))
    assert not torch.equal(first, tool.restore(IMAGE, seed=4))
    assert torch.equal(IMAGE, kept) and torch.equal(torch.get_rng_state(), state)
    printed = capfd.readouterr()
    assert printed.out == printed.err == ""


@pytest.mark.parametrize("name", ["refiner", "upscaler", "latent"])
def test_any_size(folders: dict[str, Path], name: str) -> None:
    tool = load_pipeline_tool(folders[name], steps=2)
    for height, width in [(1, 1), (3, 50), (16, 8)]:
        result = tool.restore(torch.rand(1, 3, height, width))
        assert result.shape[-2:] == (height * tool.info.scale, width * tool.info.scale)


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (5, 16), (16, 16)])
def test_padding_reflects(shape: tuple[int, int]) -> None:
    image = torch.rand(1, 3, *shape)
    grown = padded(image, 16)
    assert grown.shape[-2:] == (16, 16) and torch.equal(grown[..., : shape[0], : shape[1]], image)
    if shape == (5, 16):
        assert torch.equal(grown[..., 5:9, :], image[..., :4, :].flip(-2))
        assert torch.equal(grown[..., 9:13, :], image[..., 1:5, :])


def test_sees_the_image_in_its_own_range(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}
    for name, part in [("refiner", "vae"), ("latent", "unet")]:
        tool = load_pipeline_tool(folders[name], steps=1)
        # Euler's schedulers scale what they are given, the image included.
        tool.pipeline.scheduler = diffusers.DDIMScheduler()
        network = getattr(tool.pipeline, part)
        method = "encode" if part == "vae" else "forward"
        call = getattr(network, method)

        def watch(x: Tensor, *args: Any, name: str = name, call: Any = call, **options: Any) -> Any:
            seen[name] = x
            return call(x, *args, **options)

        monkeypatch.setattr(network, method, watch)
        tool.restore(torch.cat([torch.zeros(1, 3, 8, 8), torch.ones(1, 3, 8, 8)], dim=-1))
    for image in (seen["refiner"], seen["latent"][:, 3:]):
        assert torch.equal(image[..., :8], torch.full((1, 3, 8, 8), -1.0)) and torch.equal(
            image[..., 8:], -image[..., :8]
        )


@pytest.mark.parametrize(
    ("strength", "steps", "done"),
    [(1e-6, 5, 1), (0.2, 4, 1), (0.29, 100, 29), (0.58, 50, 29), (0.99, 3, 3), (1.0, 3, 3)],
)
def test_strength_in_whole_steps(folders: dict[str, Path], strength: float, steps: int, done: int) -> None:
    assert min(int(steps * Settings(strength=strength, steps=steps).exact_strength), steps) == done
    if steps < 10:
        tool = load_pipeline_tool(folders["refiner"], strength=strength, steps=steps)
        assert tool.restore(IMAGE).shape == IMAGE.shape and tool.pipeline.num_timesteps == done


def test_strength_is_how_far_it_goes(folders: dict[str, Path]) -> None:
    # The autoencoder's own loss is the same at any strength.
    plain, weak, strong = (
        load_pipeline_tool(folders["refiner"], strength=strength, steps=1000 if strength < 0.1 else 20).restore(IMAGE)
        for strength in (0.001, 0.05, 0.9)
    )
    assert (weak - plain).abs().mean() < (strong - plain).abs().mean()


@pytest.mark.parametrize(("name", "side"), [("refiner", 40), ("upscaler", 24), ("latent", 24)])
def test_tiles(folders: dict[str, Path], name: str, side: int) -> None:
    tool = load_pipeline_tool(folders[name], steps=1, tile=side)
    image = torch.rand(1, 3, side + 20, side + 9)
    seen: list[tuple[int, int]] = []
    restore_part = tool._part

    def watch(seed: int, part: Tensor) -> Tensor:
        seen.append((int(part[0, 3, 0, 0]), int(part[0, 4, 0, 0])))
        return restore_part(seed, part)

    tool._part = watch  # type: ignore[method-assign]
    result = tool.restore(image, seed=5)
    assert result.shape[-2:] == tuple(length * tool.info.scale for length in image.shape[-2:])
    assert len(seen) == len(set(seen)) == 4 and (0, 0) in seen
    assert torch.equal(result, tool.restore(image, seed=5))


def test_noise_follows_the_place_not_the_order(folders: dict[str, Path]) -> None:
    from iqloop.restorers.diffusers_tool import placed

    tool = load_pipeline_tool(folders["refiner"], steps=2)
    whole = placed(torch.full((1, 3, 32, 64), 0.5))
    left, right = whole[..., :32], whole[..., 32:]
    first, second = tool._part(0, left), tool._part(0, right)
    assert torch.equal(tool._part(0, right), second) and torch.equal(tool._part(0, left), first)
    assert not torch.equal(first, second)
    assert len({tile_seed(seed, row, column) for seed in (-1, 0, 2**70) for row in (0, 8) for column in (0, 8)}) == 12


def test_halves_and_tells(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    tool, said = load_pipeline_tool(folders["refiner"], steps=1, tile=None), list[str]()
    call = tool._call

    def greedy(image: Tensor, generator: torch.Generator) -> Tensor:
        if image.shape[-1] > 50:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return call(image, generator)

    monkeypatch.setattr(tool, "_call", greedy)
    with pytest.warns(RuntimeWarning, match="trying 40"):
        tool.restore(torch.rand(1, 3, 80, 80))
    tool.on_halving = said.append
    assert tool.restore(torch.rand(1, 3, 80, 80)).shape[-2:] == (80, 80) and len(said) == 1


def test_the_trained_size_is_the_tile(folders: dict[str, Path]) -> None:
    assert load_pipeline_tool(folders["refiner"])._tile == 64
    assert load_pipeline_tool(folders["refiner"], tile=None)._tile is None


def test_version_follows_all_that_the_output_does(copy: Callable[[str], Path]) -> None:
    from safetensors.torch import load_file, save_file

    folder = copy("refiner")
    settings: list[dict[str, Any]] = [{}, {"steps": 9}, {"strength": 0.3}, {"prompt": "a"}, {"guidance": 2.0}]
    versions = {load_pipeline_tool(folder, **more).info.version for more in [*settings, {"tile": 96}]}
    assert len(versions) == 6 and load_pipeline_tool(folder, name="b").info.version in versions
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    size = path.stat().st_size
    save_file({key: value * 1.01 for key, value in load_file(path).items()}, path, {"format": "pt"})
    # Another training of the same network: no file has another size.
    assert path.stat().st_size == size and load_pipeline_tool(folder).info.version not in versions


def test_prompt_and_guidance_matter(folders: dict[str, Path]) -> None:
    plain = load_pipeline_tool(folders["refiner"], steps=5).restore(IMAGE)
    said = load_pipeline_tool(folders["refiner"], steps=5, prompt="a bad cab", guidance=3.0).restore(IMAGE)
    assert not torch.equal(plain, said)


def test_half_precision_files_alone(copy: Callable[[str], Path]) -> None:
    folder = copy("refiner")
    for path in sorted(folder.rglob("*.safetensors")):
        path.rename(path.with_suffix(".fp16.safetensors"))
    tool = load_pipeline_tool(folder, steps=2)
    assert tool.pipeline.unet.dtype == tool.pipeline.text_encoder.dtype == torch.float32
    assert tool.restore(IMAGE).shape == IMAGE.shape


def test_registry_adds_folders(copy: Callable[[str], Path]) -> None:
    folder = copy("latent").rename(copy("upscaler").with_name("mine-1.5"))
    registry = Registry()
    assert registry.add_file(str(folder)).name == "mine-1.5"
    assert registry.add_file(f"mine-1:blur={folder}").treats == ("blur",)
    assert [entry.info.name for entry in registry.tools_for("low-resolution", 4)] == ["mine-1.5"]


@pytest.mark.parametrize("named", [False, True])
def test_command_line(folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool) -> None:
    from iqloop.restorers import diffusers_tool

    one = diffusers_tool.Kind("LDMSuperResolutionPipeline", "latent", 1, ("low-resolution",), 64)
    monkeypatch.setitem(diffusers_tool.KINDS, "LDMSuperResolutionPipeline", one)
    Image.new("RGB", (19, 11), (90, 120, 30)).save(tmp_path / "photo.png")
    out = tmp_path / "out.png"
    tool = ["four", "--tool", f"four={folders['latent']}"] if named else [folders["latent"]]
    result = run("apply", *tool, tmp_path / "photo.png", "-o", out, "--device", "cpu", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["tool"] == ("four" if named else "latent")
    with Image.open(out) as restored:
        assert restored.size == (76, 44)


def test_command_line_on_a_folder_of_something_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("bicubic-x2", "photographs"):
        Path(name).mkdir()
    Image.new("RGB", (8, 8)).save("photo.png")
    # A tool's name stays one, whatever lies here.
    assert run("apply", "bicubic-x2", "photo.png", "-o", "out.png").exit_code == 0
    result = run("apply", "./photographs", "photo.png", "-o", "other.png")
    assert result.exit_code != 0 and "a folder without model_index.json is no diffusers pipeline" in result.stderr


def refused(folder: Path, **settings: Any) -> str:
    with pytest.raises(ToolError) as caught:
        load_pipeline_tool(folder, **settings)
    message = str(caught.value)
    assert "\n" not in message and folder.name in message
    return message


def test_refuses_what_is_no_pipeline(tmp_path: Path) -> None:
    assert "no such folder" in refused(tmp_path / "nowhere")
    folder = tmp_path / "empty"
    folder.mkdir()
    assert "without model_index.json" in refused(folder)
    with pytest.raises(ToolError, match=r"without model_index\.json"):
        Registry().add_file(f"mine={folder}")
    (folder / "model_index.json").write_text("{")
    assert "damaged" in refused(folder)


@pytest.mark.parametrize("named", ["FluxPipeline", ["pipeline", "MyPipeline"], None])
def test_refuses_other_classes(tmp_path: Path, named: object) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": named}))
    message = refused(tmp_path)
    assert f"of class {named}; expected one of StableDiffusionImg2ImgPipeline" in message
    assert "LDMSuperResolutionPipeline" in message


def test_refuses_pickled_weights(copy: Callable[[str], Path]) -> None:
    folder = copy("latent")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save({"a": torch.ones(1)}, weights.with_suffix(".bin"))
    weights.unlink()
    assert "unet has no .safetensors; pickled weights may run code" in refused(folder)


def test_refuses_code(copy: Callable[[str], Path], tmp_path: Path) -> None:
    folder = copy("latent")
    # diffusers once ran a file with the name of the library that a part's class is from.
    (folder / "unet" / "diffusers.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w')")
    assert "unet comes with code" in refused(folder) and not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    ("part", "named"),
    [
        ("unet", ["os", "system"]),
        ("unet", ["transformers", "pipeline"]),
        ("scheduler", ["diffusers", "DiffusionPipeline"]),
        ("unet", ["diffusers", "NoSuchModel"]),
    ],
)
def test_refuses_other_parts(copy: Callable[[str], Path], part: str, named: list[str]) -> None:
    folder = copy("latent")
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {part: named}))
    assert f"{part} is {'.'.join(named)}; expected a class of diffusers or transformers" in refused(folder)


def test_refuses_incomplete_folders(copy: Callable[[str], Path]) -> None:
    from safetensors.torch import load_file, save_file

    folder = copy("refiner")
    words = folder / "tokenizer"
    words.rename(folder / "aside")
    assert "subfolder tokenizer is missing" in refused(folder)
    (folder / "aside").rename(words)
    for path in [*words.glob("vocab.json"), *words.glob("tokenizer.json")]:
        path.rename(folder / path.name)
    assert "tokenizer has no vocab.json" in refused(folder)
    for path in [*folder.glob("vocab.json"), *folder.glob("tokenizer.json")]:
        path.rename(words / path.name)
    for part in ("unet", "text_encoder"):
        (path,) = (folder / part).glob("*.safetensors")
        state, whole = load_file(path), path.read_bytes()
        lost = sorted(state)[0]
        del state[lost]
        save_file(state, path, {"format": "pt"})
        assert f"{part} lacks 1 of its tensors" in refused(folder)
        path.write_bytes(whole[: len(whole) // 2])
        assert f"{part} is incomplete or damaged" in refused(folder)
        path.write_bytes(whole)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"text_encoder": [None, None]}))
    assert "names no text_encoder" in refused(folder)


def test_refuses_settings(folders: dict[str, Path]) -> None:
    for settings, message in [
        ({"strength": 0.0}, "strength must be above 0"),
        ({"strength": 1.1}, "strength must be above 0"),
        ({"steps": 0}, "steps must be a positive"),
        ({"guidance": float("nan")}, "guidance must not be"),
        ({"tile": 0}, "tile must be"),
        ({"treats": ["fog"]}, "treats must name some of"),
    ]:
        with pytest.raises(UsageError, match=message):
            load_pipeline_tool(folders["refiner"], **settings)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no strength"):
        load_pipeline_tool(folders["upscaler"], strength=0.2)
    with pytest.raises(UsageError, match="reads no prompt"):
        load_pipeline_tool(folders["latent"], prompt="a")


def test_refuses_values_that_are_not_numbers(folders: dict[str, Path]) -> None:
    tool = load_pipeline_tool(folders["latent"], steps=1)
    with torch.no_grad():
        tool.pipeline.vqvae.decoder.conv_out.bias.fill_(float("nan"))
    with pytest.raises(ToolError, match="not numbers"):
        tool.restore(IMAGE)


def test_failures_name_the_tool(folders: dict[str, Path]) -> None:
    # More steps than the schedule has.
    tool = load_pipeline_tool(folders["refiner"], name="mine", steps=1001, strength=1e-6)
    with pytest.raises(ToolError, match=r"mine failed on \(1, 3, 21, 34\)"):
        tool.restore(IMAGE)
    with pytest.raises(ToolError, match="expects one RGB image"):
        tool.restore(torch.rand(3, 8, 8))


def test_says_what_to_install(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(PrerequisiteError, match=r"diffusers is not installed: run  pip install 'iqloop\[diffusion\]'"):
        load_pipeline_tool(folders["latent"])
