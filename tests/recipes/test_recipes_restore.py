"""restore, apply, distort: what is written where, and what is left alone."""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from iqloop.agents import trace_schema
from iqloop.io import read
from iqloop.recipes.help_page import FIELDS

from .helpers import SIDE, ScriptedCritic, lines, run


def files() -> set[str]:
    return {str(path) for path in Path().rglob("*") if path.is_file()}


def test_restore_improves_a_noisy_photograph(photo: Path, critic: ScriptedCritic) -> None:
    result = run("restore", photo, "--json")
    assert result.exit_code == 0 and result.stderr == ""
    (row,) = lines(result)
    assert tuple(row) == FIELDS["restore"]
    assert row["output"] == "photo.restored.png" and len(row["steps"]) == 1
    assert row["score_after"] > row["score_before"]
    assert read("photo.restored.png").pixels.shape == (3, SIDE, SIDE)
    assert files() == {"photo.png", "photo.restored.png"}


def test_restore_says_what_it_did(photo: Path, critic: ScriptedCritic) -> None:
    out = run("restore", photo).stdout
    assert "photo.png: obvious noise" in out and "taken: score" in out
    assert "no-further-improvement: the image was improved" in out and "photo.restored.png: " in out


def test_not_improved_is_a_byte_copy_and_3(photo: Path, critic: ScriptedCritic) -> None:
    critic.kind = "null"
    result = run("restore", photo, "--json")
    assert result.exit_code == 3
    (row,) = lines(result)
    assert row["steps"] == [] and row["stop_reason"] == "clean" and row["score_before"] == row["score_after"]
    assert Path("photo.restored.png").read_bytes() == photo.read_bytes()


def test_not_improved_in_another_format_is_converted(photo: Path, critic: ScriptedCritic) -> None:
    critic.kind = "null"
    assert run("restore", photo, "-o", "out.webp").exit_code == 3
    assert read("out.webp").format == "WEBP"
    assert bool((read("out.webp").pixels == read(photo).pixels).all())


def test_not_improved_but_stripped(here: Path, noisy: NDArray[np.uint8], critic: ScriptedCritic) -> None:
    critic.kind = "null"
    exif = Image.Exif()
    exif[0x010F] = "Camera"
    Image.fromarray(noisy).save("photo.jpg", exif=exif, quality=95)
    assert run("restore", "photo.jpg", "--strip-metadata").exit_code == 3
    assert read("photo.jpg").exif is not None and read("photo.restored.jpg").exif is None


def test_nothing_is_overwritten_and_no_work_is_done(photo: Path, critic: ScriptedCritic) -> None:
    Path("photo.restored.png").write_bytes(b"mine")
    result = run("restore", photo, "--json")
    assert result.exit_code == 1 and critic.batches == []
    assert "exists already" in lines(result)[0]["error"] and "--overwrite" in result.stderr
    assert Path("photo.restored.png").read_bytes() == b"mine"
    assert run("restore", photo, "--overwrite").exit_code == 0
    assert Path("photo.restored.png").read_bytes() != b"mine"


def test_in_place_only_with_overwrite(photo: Path, critic: ScriptedCritic) -> None:
    before = photo.read_bytes()
    assert run("restore", photo, "-o", photo).exit_code == 1
    assert photo.read_bytes() == before
    assert run("restore", photo, "-o", photo, "--overwrite").exit_code == 0
    assert photo.read_bytes() != before
    critic.kind, before = "null", photo.read_bytes()
    assert run("restore", photo, "-o", photo, "--overwrite").exit_code == 3
    assert photo.read_bytes() == before


def test_folder_keeps_names_and_writes_traces(folder: Path, critic: ScriptedCritic) -> None:
    result = run("restore", folder, "-o", "out", "--json")
    assert result.exit_code == 0
    assert [row["output"] for row in lines(result)] == ["out/noisy.png", "out/sub/clean.png"]
    assert {name for name in files() if name.startswith("out")} == {
        "out/noisy.png", "out/sub/clean.png",
        "out/.iqloop/noisy.json", "out/.iqloop/sub/clean.json", "out/.iqloop/summary.jsonl",
    }  # fmt: skip
    trace = json.loads(Path("out/.iqloop/noisy.json").read_text())
    jsonschema.validate(trace, trace_schema())
    assert trace["input"]["path"] == "noisy.png" and trace["output"]["path"] == "noisy.png"
    for side, path in (("input", "in/noisy.png"), ("output", "out/noisy.png")):
        assert trace[side]["sha256"] == hashlib.sha256(Path(path).read_bytes()).hexdigest()
    assert Path("out/sub/clean.png").read_bytes() == Path("in/sub/clean.png").read_bytes()


def test_traces_of_one_stem_do_not_collide(folder: Path, noisy: NDArray[np.uint8], critic: ScriptedCritic) -> None:
    Image.fromarray(noisy).save("in/noisy.webp", lossless=True)
    assert run("restore", folder, "-o", "out").exit_code == 0
    traces = {path.name for path in Path("out/.iqloop").iterdir()}
    assert traces == {"noisy.png.json", "noisy.webp.json", "sub", "summary.jsonl"}


def test_two_inputs_of_one_output_are_not_mixed(folder: Path, noisy: NDArray[np.uint8], critic: ScriptedCritic) -> None:
    Image.fromarray(noisy).save("in/noisy.gif")
    result = run("restore", folder, "-o", "out", "--json", "--overwrite")
    assert result.exit_code == 1
    assert "different names" in next(row["error"] for row in lines(result) if "error" in row)


def test_resume_skips_what_is_done(folder: Path, critic: ScriptedCritic) -> None:
    first = lines(run("restore", folder, "-o", "out", "--json"))
    critic.batches.clear()
    again = run("restore", folder, "-o", "out", "--json", "--resume")
    assert again.exit_code == 0 and critic.batches == []
    assert lines(again) == first
    Path("out/sub/clean.png").unlink()
    assert run("restore", folder, "-o", "out", "--resume").exit_code == 0
    assert critic.batches and Path("out/sub/clean.png").exists()


def test_resume_does_a_changed_input_again(folder: Path, clean: NDArray[np.uint8], critic: ScriptedCritic) -> None:
    run("restore", folder, "-o", "out")
    Image.fromarray(255 - clean).save("in/sub/clean.png")
    assert run("restore", folder, "-o", "out", "--resume").exit_code == 1  # not ours to replace
    assert run("restore", folder, "-o", "out", "--resume", "--overwrite").exit_code == 0
    assert read("out/sub/clean.png").pixels.mean() == read("in/sub/clean.png").pixels.mean()


def test_resume_in_place_restores_once(folder: Path, critic: ScriptedCritic) -> None:
    arguments = ["restore", folder, "-o", folder, "--overwrite", "--resume"]
    assert run(*arguments).exit_code == 0
    once = Path("in/noisy.png").read_bytes()
    critic.batches.clear()
    assert run(*arguments).exit_code == 0 and critic.batches == []
    assert Path("in/noisy.png").read_bytes() == once


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no names that are not text")
def test_a_name_that_is_not_text(here: Path, noisy: NDArray[np.uint8], critic: ScriptedCritic) -> None:
    name = os.fsdecode(b"\xff.png")
    with Path(name).open("wb") as file:
        Image.fromarray(noisy).save(file, "PNG")
    assert lines(run("restore", name, "-o", "out", "--json"))[0]["input"] == name
    assert run("score", ".").exit_code == 0
    jsonschema.validate(json.loads(next(Path("out/.iqloop").iterdir()).read_text()), trace_schema())


@pytest.mark.parametrize("trace", ["", "{}", '{"input": []}', "not json"])
def test_resume_survives_a_damaged_trace(folder: Path, critic: ScriptedCritic, trace: str) -> None:
    run("restore", folder, "-o", "out")
    Path("out/.iqloop/noisy.json").write_text(trace)
    Path("out/noisy.png").unlink()
    assert run("restore", folder, "-o", "out", "--resume").exit_code == 0


def test_resume_without_traces_is_wrong_usage(photo: Path, critic: ScriptedCritic) -> None:
    assert run("restore", photo, "--resume").exit_code == 2


def test_trace_of_one_file(photo: Path, critic: ScriptedCritic) -> None:
    assert run("restore", photo, "--trace", "run.json").exit_code == 0
    jsonschema.validate(json.loads(Path("run.json").read_text()), trace_schema())
    Path("photo.restored.png").unlink()
    assert run("restore", photo, "--trace", "run.json").exit_code == 1
    assert not Path("photo.restored.png").exists()


def test_keep_steps(photo: Path, critic: ScriptedCritic) -> None:
    assert run("restore", photo, "-o", "out", "--keep-steps").exit_code == 0
    trace = json.loads(Path("out/.iqloop/photo.json").read_text())
    kept = [made["path"] for made in trace["candidates"] if made["path"]]
    assert kept and all((Path("out") / path).is_file() for path in kept)


def test_dry_run_writes_nothing(folder: Path, critic: ScriptedCritic) -> None:
    before = files()
    result = run("restore", folder, "-o", "out", "--dry-run", "--json", "--scale", 2)
    assert result.exit_code == 0 and files() == before
    row = lines(result)[0]
    assert tuple(row)[: len(FIELDS["restore"])] == FIELDS["restore"] and row["steps"] == []
    assert [step["treatment"] for step in row["plan"]] == ["noise", "low-resolution"]
    assert row["plan"][0]["tools"] and row["diagnosis"] == "obvious noise"
    assert "would treat noise" in run("restore", folder, "-o", "out", "--dry-run").stdout
    assert "leave it alone" in run("restore", folder, "-o", "out", "--dry-run", "--exclude", "noise").stdout


def test_only_exclude_plan_and_search(photo: Path, critic: ScriptedCritic) -> None:
    for arguments in (["--only", "blur"], ["--exclude", "noise,blur"], ["--search", "none"], ["--max-tool-calls", "0"]):
        result = run("restore", photo, "--overwrite", "--json", *arguments)
        assert result.exit_code == 3 and lines(result)[0]["calls"] == 0
    critic.kind = "null"
    (row,) = lines(run("restore", photo, "--overwrite", "--json", "--plan", "noise"))
    assert row["steps"]
    assert run("restore", photo, "--overwrite", "--plan", "nonsense").exit_code == 2


def test_budget_is_kept(photo: Path, critic: ScriptedCritic) -> None:
    (row,) = lines(run("restore", photo, "--json", "--max-tool-calls", 1, "--plan", "noise,blur"))
    assert row["calls"] == 1 and row["stop_reason"] == "max-tool-calls"


def test_scale_enlarges_even_what_is_not_improved(here: Path, noisy: NDArray[np.uint8], critic: ScriptedCritic) -> None:
    rgba = np.dstack([noisy, np.full(noisy.shape[:2], 128, np.uint8)])
    Image.fromarray(rgba).save("alpha.png")
    assert run("restore", "alpha.png", "--scale", 2, "--search", "none").exit_code == 0
    critic.kind = "null"
    assert run("restore", "alpha.png", "--scale", 2, "--overwrite", "--exclude", "low-resolution").exit_code == 0
    found = read("alpha.restored.png")
    assert found.pixels.shape == (3, 2 * SIDE, 2 * SIDE)
    assert found.alpha is not None and float((found.alpha - 128 / 255).abs().max()) < 1e-6


def test_depth_grey_and_alpha_are_kept(here: Path, noisy: NDArray[np.uint8], critic: ScriptedCritic) -> None:
    Image.fromarray(noisy[..., 0].astype(np.uint16) * 257).save("deep.png")
    Image.fromarray(np.dstack([noisy, noisy[..., 0]])).save("alpha.png")
    for command in (["restore", "--plan", "noise", "--overwrite"], ["apply", "tv", "--overwrite"]):
        assert run(*command, "deep.png", "alpha.png").exit_code == 0
        deep, alpha = read("deep.restored.png"), read("alpha.restored.png")
        assert (deep.bit_depth, deep.greyscale) == (16, True)
        before = read("alpha.png").alpha
        assert alpha.alpha is not None and before is not None and bool((alpha.alpha == before).all())
        assert not bool((alpha.pixels == read("alpha.png").pixels).all())


def test_every_kind_goes_through(here: Path, noisy: NDArray[np.uint8], critic: ScriptedCritic) -> None:
    image = Image.fromarray(noisy)
    image.convert("CMYK").save("cmyk.jpg")
    image.convert("P").save("palette.png")
    image.crop((0, 0, 1, 1)).save("one.png")
    image.save("still.gif")
    result = run("restore", "cmyk.jpg", "palette.png", "one.png", "still.gif", "-o", "out", "--json")
    assert result.exit_code == 0, result.stderr
    assert {path.name for path in Path("out").glob("*.*")} >= {"cmyk.jpg", "palette.png", "one.png", "still.png"}


@pytest.mark.parametrize("command", [["restore"], ["apply", "dct"], ["distort", "--type", "noise"]])
def test_an_animation_is_refused(
    here: Path, noisy: NDArray[np.uint8], critic: ScriptedCritic, command: list[str]
) -> None:
    Image.fromarray(noisy).save("moving.gif", save_all=True, append_images=[Image.fromarray(255 - noisy)])
    result = run(*command, "moving.gif")
    assert result.exit_code == 1 and "2 frames" in result.stderr and len(result.stderr.splitlines()) == 1
    assert files() == {"moving.gif"}


@pytest.mark.parametrize("command", [["restore"], ["apply", "stretch"], ["distort", "--type", "noise:1"]])
def test_bad_files_are_named_and_outrank_3(photo: Path, critic: ScriptedCritic, command: list[str]) -> None:
    critic.kind = "null"
    Path("empty.png").write_bytes(b"")
    Path("text.png").write_text("hello")
    Path("cut.png").write_bytes(photo.read_bytes()[:3000])
    result = run(*command, "empty.png", "text.png", "cut.png", "missing.png", photo, "--json", "-o", "out")
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 4
    rows = lines(result)
    assert [row.get("path") for row in rows] == ["empty.png", "text.png", "cut.png", "missing.png", None]
    assert Path("out/photo.png").exists()


@pytest.mark.parametrize("command", [["restore"], ["apply", "stretch"], ["distort", "--type", "noise"]])
def test_outputs_that_cannot_be(photo: Path, critic: ScriptedCritic, command: list[str]) -> None:
    Path("file").write_text("")
    result = run(*command, photo, "-o", "file/out.png")
    assert result.exit_code == 1 and "to be a folder" in result.stderr
    assert run(*command, photo, "other.png", "-o", "out.png").exit_code == 2
    assert run(*command, photo, "-o", "out.gif").exit_code == 2
    assert critic.batches == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_folder(photo: Path, critic: ScriptedCritic) -> None:
    Path("locked").mkdir(mode=0o500)
    result = run("restore", photo, "-o", "locked/out.png")
    assert result.exit_code == 1 and "no permission" in result.stderr and critic.batches == []


def test_a_full_disk_is_one_line_and_leaves_nothing(
    photo: Path, critic: ScriptedCritic, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("iqloop.io.files.os.replace", full)
    for command in (["restore"], ["apply", "stretch"], ["distort", "--type", "noise"]):
        alone = ["--no-cache"] if command == ["restore"] else []
        result = run(*command, *alone, photo, "-o", "out")
        assert result.exit_code == 1 and "no space left" in result.stderr and len(result.stderr.splitlines()) == 1
    assert files() == {"photo.png"}
    # A cache that cannot be written is no failure of the file.
    cached = run("restore", photo, "-o", "out").stderr.splitlines()
    assert len(cached) == 2 and "the cache in" in cached[0] and "no space left" in cached[1]


def test_streams(photo: Path, critic: ScriptedCritic) -> None:
    critic.kind = "null"
    result = run("restore", "-", "-o", "-", stdin=photo.read_bytes())
    assert result.exit_code == 3 and result.stdout_bytes == photo.read_bytes()
    assert "nothing suspected" in result.stderr
    critic.kind = "noise"
    result = run("restore", "-", "-o", "-", "--quiet", stdin=photo.read_bytes())
    assert result.exit_code == 0 and result.stderr == ""
    assert read(result.stdout_bytes).pixels.shape == (3, SIDE, SIDE)
    assert run("restore", "-", "-o", "out.png", stdin=photo.read_bytes()).exit_code == 0
    assert run("restore", "-", stdin=photo.read_bytes()).exit_code == 2
    assert run("restore", "-", "-o", "-", "--json", stdin=photo.read_bytes()).exit_code == 2
    assert run("restore", photo, "out.png", "-o", "-").exit_code == 2
    result = run("apply", "bicubic-x2", "-", "-o", "-", stdin=photo.read_bytes())
    assert read(result.stdout_bytes).width == 2 * SIDE


def test_verbose_tells_the_events(photo: Path, critic: ScriptedCritic) -> None:
    result = run("restore", photo, "--verbose", "--json")
    assert "c0: obvious noise" in result.stderr and len(lines(result)) == 1


def test_a_tool_of_ones_own_that_is_no_model(photo: Path, critic: ScriptedCritic) -> None:
    assert run("restore", photo, "--tool", "mine=missing.safetensors").exit_code == 2
    assert run("apply", "missing.safetensors", photo).exit_code == 2


def test_a_tool_of_ones_own(photo: Path, critic: ScriptedCritic) -> None:
    import torch
    from safetensors.torch import save_file

    sizes = [3, *[8] * 8, 3]
    state: dict[str, torch.Tensor] = {}
    for layer, (narrow, wide) in enumerate(itertools.pairwise(sizes)):
        made = torch.nn.Conv2d(narrow, wide, 3)
        state |= {f"model.{2 * layer}.{name}": value.data for name, value in made.named_parameters()}
    save_file(state, "net.safetensors")
    result = run("apply", "net.safetensors", photo, "--json", "--device", "cpu")
    assert result.exit_code == 0 and lines(result)[0]["tool"] == "net"
    (row,) = [row for row in lines(run("tools", "--tool", "mine=net.safetensors", "--json")) if row["name"] == "mine"]
    assert row["treats"] == ["noise"] and row["weights_licence"] == "unknown"
    result = run("restore", photo, "--tool", "mine=net.safetensors", "--trace", "run.json", "--overwrite")
    assert result.exit_code == 0, result.stderr


def test_interrupt_while_restoring_leaves_nothing(photo: Path, critic: ScriptedCritic) -> None:
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    critic.fault = interrupt
    assert run("restore", photo, "-o", "out").exit_code == 130
    assert files() == {"photo.png"}


def test_a_real_checkpoint_end_to_end(photo: Path, tiny_folder: Path) -> None:
    command = [sys.executable, "-m", "iqloop", "restore", "photo.png", "-o", "out", "--device", "cpu"]
    done = subprocess.run([*command, "--critic", tiny_folder, "--json"], capture_output=True, check=False)
    assert done.returncode in (0, 3), done.stderr
    assert done.stderr == b""
    (line,) = done.stdout.splitlines()
    assert tuple(json.loads(line)) == FIELDS["restore"]
    jsonschema.validate(json.loads(Path("out/.iqloop/photo.json").read_text()), trace_schema())


def test_apply_fields(photo: Path) -> None:
    result = run("apply", "stretch", photo, "--json")
    assert result.exit_code == 0
    (row,) = lines(result)
    assert tuple(row) == FIELDS["apply"]
    assert (row["input"], row["output"], row["tool"]) == ("photo.png", "photo.restored.png", "stretch")
    assert run("apply", "stretch", photo).exit_code == 1
    assert run("apply", "strech", photo).exit_code == 2


def test_distort_equals_the_library(
    here: Path, clean: NDArray[np.uint8], photograph: Callable[..., NDArray[np.uint8]]
) -> None:
    from iqloop import distort

    Image.fromarray(clean).save("clean.png")
    result = run("distort", "clean.png", "--type", "noise_gaussian_RGB:moderate", "--seed", 3, "--json")
    (row,) = lines(result)
    assert list(row) == ["input", "output", "distortions", "down", "seed"]
    assert row["output"] == "clean.distorted.png"
    expected = distort.apply(clean, "noise_gaussian_RGB", "moderate", seed=3)
    assert np.array_equal(np.asarray(Image.open("clean.distorted.png")), expected)


def test_distort_a_mixture_of_a_folder(folder: Path) -> None:
    arguments = ["distort", folder, "--type", "noise:moderate", "--type", "compression:3.5", "--down", 2, "--json"]
    first = lines(run(*arguments, "-o", "one"))
    assert lines(run(*arguments, "-o", "two"))[0]["distortions"] == first[0]["distortions"]
    assert Path("one/noisy.png").read_bytes() == Path("two/noisy.png").read_bytes()
    assert first[0]["seed"] != first[1]["seed"]
    assert [one["severity"] for one in first[0]["distortions"]] == [2.0, 3.5]
    assert read("one/noisy.png").width == SIDE // 2


@pytest.mark.parametrize("kind", ["nonsense", "noise:0.5", "noise:6", "noise:very", "noise:nan"])
def test_distort_refuses(photo: Path, kind: str) -> None:
    result = run("distort", photo, "--type", kind)
    assert result.exit_code == 2 and len(result.stderr.splitlines()) == 1


def test_distort_lists(here: Path) -> None:
    rows = lines(run("distort", "--list", "--json"))
    assert {"name": "blur_gaussian", "category": "blur", "parameters": [[1, 2, 3, 4, 5]]} in rows
    assert "noise\tnoise_gaussian_RGB\t0.05" in run("distort", "--list").stdout


def test_tiles_are_as_large_as_one_says(photo: Path, critic: ScriptedCritic) -> None:
    outputs = []
    for tile in ("whole", "64", "auto"):
        result = run("apply", "upscale-x2", photo, "-o", f"{tile}.png", "--tile", tile, "--device", "cpu")
        assert result.exit_code == 0, result.stderr
        outputs.append(read(Path(f"{tile}.png")).pixels)
    assert all(float((other - outputs[0]).abs().max()) <= 1 / 255 for other in outputs)
    result = run("restore", photo, "--tile", "many")
    assert result.exit_code == 2 and "expected auto, whole, or a number of pixels, got 'many'" in result.stderr
    assert run("apply", "upscale-x2", photo, "--tile", "0").exit_code == 2


def test_a_net_of_the_package_cleans_a_photograph(
    clean: NDArray[np.uint8], noisy: NDArray[np.uint8], photo: Path
) -> None:
    assert run("apply", "denoise", photo, "-o", "out.png", "--device", "cpu").exit_code == 0
    after = (read(Path("out.png")).pixels * 255).permute(1, 2, 0).numpy()
    before = float(np.square(noisy.astype(float) - clean).mean())
    assert float(np.square(after - clean).mean()) < before / 3


def test_how_to_search_and_what_with(photo: Path, critic: ScriptedCritic) -> None:
    for more, tools in (
        (["--plan", "dct"], ["dct"]),
        (["--only", "tv"], ["tv"]),
        (["--exclude", "denoise,median-switch,tv,dct", "--profile", "strong"], ["dct-strong"]),
        (["--search", "exhaustive", "--plan", "tv"], ["tv"]),
        (["--search", "beam:2", "--only", "dct"], ["dct"]),
    ):
        (row,) = lines(run("restore", photo, "-o", "out.png", "--overwrite", "--json", *more))
        assert row["steps"] == tools, more
    for wrong, words in (
        (["--plan", "magic"], "plan: expected some of"),
        (["--search", "beam"], "search must be one of greedy, beam:K"),
        (["--profile", "wild"], "balanced"),
        (["--order", "photo.png"], "train order"),
        (["--judge", "photo.png"], "train judge"),
    ):
        result = run("restore", photo, *wrong)
        assert result.exit_code == 2 and words in result.stderr, (wrong, result.stderr)


def test_an_order_and_a_judge_of_ones_own(photo: Path, critic: ScriptedCritic) -> None:
    Path("order.json").write_text(json.dumps({"stages": [["darken"], ["noise"]]}))
    (row,) = lines(run("restore", photo, "--order", "order.json", "--trace", "t.json", "--json"))
    assert row["steps"] and json.loads(Path("t.json").read_text())["settings"]["order"] == [["darken"], ["noise"]]
    sure = {"bias": 5.0, "features": {}}
    judge = {
        "form": "iqloop-evidence/2",
        "critic": "scripted",
        "version": "1",
        "origin": {},
        "traces": {},
        "presence": {},
    }
    judge |= {"promise": {"noise": sure}, "verdict": {"noise": sure | {"bias": -5.0}}}
    Path("judge.json").write_text(json.dumps(judge))
    refused = run("restore", photo, "-o", "out.png", "--judge", "judge.json", "--json")
    assert refused.exit_code == 3 and lines(refused)[0]["stop_reason"] == "no-improvement"
    Path("judge.json").write_text(json.dumps(judge | {"version": "2"}))
    other = run("restore", photo, "--overwrite", "--judge", "judge.json")
    assert other.exit_code == 2 and "got some for scripted 2" in other.stderr


def test_a_stamp_says_what_was_done(here: Path, noisy: NDArray[np.uint8], critic: ScriptedCritic) -> None:
    Image.fromarray(noisy).save("photo.jpg", quality=95)
    assert run("restore", "photo.jpg", "--stamp", "--only", "tv").exit_code == 0
    with Image.open("photo.restored.jpg") as image:
        assert image.getexif()[0x0131].startswith("iqloop ") and image.getexif()[0x0131].endswith("(tv)")


def test_what_is_on_disk_is_not_made_again(
    photo: Path, critic: ScriptedCritic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IQLOOP_CACHE", str(Path("cache").absolute()))
    first = lines(run("restore", photo, "-o", "a.png", "--only", "dct", "--json"))[0]
    assert Path("cache").is_dir()

    def never(*_: object, **__: object) -> None:
        raise AssertionError("a tool ran")

    monkeypatch.setattr("iqloop.restorers.classical.ClassicalTool.restore", never)
    second = lines(run("restore", photo, "-o", "b.png", "--only", "dct", "--json"))[0]
    for row in (first, second):
        row.pop("seconds"), row.pop("output")
    assert first == second and Path("a.png").read_bytes() == Path("b.png").read_bytes()
    assert lines(run("restore", photo, "-o", "c.png", "--only", "dct", "--json", "--no-cache"))[0]["steps"] == []
