"""``iqloop serve``: the critic and the restorer of this machine, over HTTP."""

from __future__ import annotations

import importlib.util
import json
import sys
import traceback
from pathlib import Path

import click

from iqloop.agents.budget import Budget
from iqloop.errors import missing_extra
from iqloop.recipes import failures, options
from iqloop.recipes.console import Console, complain
from iqloop.recipes.failures import reason_of

NEEDED = {
    "fastapi": "fastapi",
    "fastapi_offline": "fastapi-offline",
    "uvicorn": "uvicorn",
    "python_multipart": "python-multipart",
    "prometheus_client": "prometheus-client",
}
"""Modules of the extra, and the packages that have them."""


@click.command("serve")
@click.option("--host", default="127.0.0.1", show_default=True, help="Another than this machine's own needs a token.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0 is any that is free.")
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The token that clients send as  Authorization: Bearer TOKEN.  [default: IQLOOP_TOKEN, else none is wanted]",
)
@click.option(
    "--max-upload-mb",
    type=click.FloatRange(0, min_open=True),
    default=32,
    show_default=True,
    help="Megabytes of a request.",
)
@click.option(
    "--max-megapixels",
    type=click.FloatRange(0, min_open=True),
    default=50,
    show_default=True,
    help="Of all images of a request together, and of an output.",
)
@click.option(
    "--batch-wait-ms",
    type=click.FloatRange(0),
    default=5,
    show_default=True,
    help="Milliseconds that an image waits for others while the critic is free.",
)
@click.option(
    "--queue", type=click.IntRange(1), default=256, show_default=True, help="Requests at once; one more gets 503."
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    default=60,
    show_default=True,
    help="Seconds from a request's arrival to its answer.",
)
@options.model_files
@options.tiles
@options.budgeted
@options.ask_critic(decoding=True)
@options.talk
def command(
    host: str,
    port: int,
    token_file: Path | None,
    max_upload_mb: float,
    max_megapixels: float,
    batch_wait_ms: float,
    queue: int,
    timeout: float,
    files: tuple[str, ...],
    tile: int | str | None,
    budget: Budget,
    choice: options.CriticChoice,
    console: Console,
) -> int:
    """Answer over HTTP: critic and restorer on this machine.

    POST /score, /perceive, /compare, /rank and /restore take image files as they are; GET /health and /metrics tell how
    it goes; /docs describes it all. Requests of one kind are collected into batches. The port opens when the critic is
    loaded. Ctrl-C and SIGTERM end it when what is being answered is answered.

    The limits --max-steps, --max-tool-calls, --max-critic-calls and --time-limit are the most that one /restore may
    ask for.
    """
    for module, package in NEEDED.items():
        if importlib.util.find_spec(module) is None:
            raise missing_extra(package, "serve")
    from iqloop.recipes.inputs import CALL_BATCHES
    from iqloop.recipes.loading import load_critic, load_registry
    from iqloop.recipes.serve.app import make_app
    from iqloop.recipes.serve.limits import Limits
    from iqloop.recipes.serve.listening import bind, listen, read_token
    from iqloop.recipes.serve.running import make_server, run

    def report(path: str, status: int, error: Exception) -> None:
        if console.verbose:
            traceback.print_exception(error, file=sys.stderr)
        complain(json.dumps({"path": path, "status": status, "error": reason_of(error)}))

    token = read_token(token_file)
    limits = Limits(
        upload_bytes=round(max_upload_mb * 2**20),
        pixels=round(max_megapixels * 1e6),
        batch_size=CALL_BATCHES * choice.batch_size,
        batch_wait=batch_wait_ms / 1000,
        queue=queue,
        timeout=timeout,
    )
    with bind(host, port, token) as bound:
        tools = load_registry(files, choice.device, console.notice, tile)
        critic = load_critic(choice)
        server = make_server(make_app(critic, tools, limits, budget, token, report), timeout, console.verbose)
        address = listen(bound)
        facts = {
            "address": address,
            "critic": critic.name,
            "token": token is not None,
            "max_upload_mb": max_upload_mb,
            "max_megapixels": max_megapixels,
            "batch_size": limits.batch_size,
            "queue": queue,
            "timeout": timeout,
        }
        console.fields(facts)
        console.line(
            f"{critic.name} on {address} (/docs), {'with' if token else 'without'} a token; a request: at most "
            f"{max_upload_mb:g} MB, {max_megapixels:g} megapixels, {timeout:g} s; up to {limits.batch_size} in a "
            f"question; {queue} requests at once"
        )
        run(server, bound)
    return failures.DONE
