"""What a server can do wrong: waiting is bounded, the error is one sentence, and finished work is kept."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from torch import Tensor

from iqloop.critic.known import create_critic
from iqloop.critic.remote.address import parse_address
from iqloop.critic.remote.connection import Connection
from iqloop.critic.remote.faults import Fault
from iqloop.critic.remote.in_order import in_order
from iqloop.critic.remote.patience import ALL_PAUSES, FAILURES, LONGEST_PAUSE, LOOK_AGAIN, Patience, pause_before
from iqloop.critic.remote.pictures import Picture, picture
from iqloop.critic.remote.remote_critic import RemoteCritic
from iqloop.critic.remote.served import served_as
from iqloop.critic.verdicts import Rating
from iqloop.errors import CriticError

from ..recipes.helpers import lines, run
from .remote_fakes import ScriptedServer, Serve, document, hang_up, says, status, wait_for

pytest.importorskip("openai", reason="the extra serve is not installed")

FINE = '<think> Fine. </think><answer> {"rating": 4.00} </answer>'


@pytest.fixture
def pauses() -> list[float]:
    """What would have been waited."""
    return []


@pytest.fixture
def connect(pauses: list[float]) -> Callable[..., RemoteCritic]:
    """A critic of a scripted server that writes its answers and notes its pauses."""

    def make(server: ScriptedServer, concurrency: int = 8, **options: Any) -> RemoteCritic:
        connection = Connection(parse_address(server.url), pause=pauses.append, **options)
        return RemoteCritic(connection, served_as("q-insight"), decoding="reason", concurrency=concurrency)

    return make


@pytest.fixture
def files(tmp_path: Path, photograph: Any) -> list[Path]:
    made = [tmp_path / f"{name}.png" for name in ("astronaut", "coffee", "chelsea")]
    for file in made:
        Image.fromarray(photograph(file.stem, 112)).save(file)
    return made


# -- one question ------------------------------------------------------------------------------------------------------


def test_500_ten_times(
    serve: Serve, images: list[Tensor], connect: Callable[..., RemoteCritic], pauses: list[float]
) -> None:
    server = serve(says(FINE))
    server.faults.extend([status(500, "out of luck")] * 10)
    critic = connect(server, retries=4)
    for _ in range(2):
        with pytest.raises(CriticError, match=r"answers 500 \(out of luck\) \(5 tries\): look at the server's log"):
            critic.score(images[:1])
    assert len(server.asked) == 10 and len(pauses) == 8
    assert [0.5 * 2**k <= pause <= 0.75 * 2**k for k, pause in zip([0, 1, 2, 3] * 2, pauses, strict=True)] == [True] * 8
    assert isinstance(critic.score(images[:1])[0], Rating)


def test_429_waits_as_long_as_it_is_told(
    serve: Serve, images: list[Tensor], connect: Callable[..., RemoteCritic], pauses: list[float]
) -> None:
    server = serve(says(FINE))
    server.faults.extend([status(429, "slow down", Retry_After="7"), status(503, Retry_After="0")])
    assert isinstance(connect(server).score(images[:1])[0], Rating)
    assert 7 <= pauses[0] <= 10.5 and pauses[1] == 0 and len(pauses) == 2


def test_a_pause_is_bounded_and_so_are_all_of_them(
    serve: Serve, images: list[Tensor], connect: Callable[..., RemoteCritic], pauses: list[float]
) -> None:
    server = serve(says(FINE))
    server.faults.extend([status(429, Retry_After="86400")] * 9)
    with pytest.raises(CriticError, match="429"):
        connect(server, retries=100).score(images[:1])
    assert pauses == [LONGEST_PAUSE] * int(ALL_PAUSES / LONGEST_PAUSE)
    for told, expected in ((None, 0.5), (3.0, 3.0)):
        fault = Fault("answers 429", "wait", passing=True, retry_after=told)
        assert pause_before(1, fault, lambda: 0.0) == expected
        assert pause_before(1, fault, lambda: 0.999) == pytest.approx(1.5 * expected, rel=1e-2)


def test_a_slow_server(
    serve: Serve, images: list[Tensor], connect: Callable[..., RemoteCritic], pauses: list[float]
) -> None:
    server, over = serve(says(FINE)), threading.Event()
    server.faults.extend([wait_for(over)] * 2)
    critic = connect(server, timeout=0.2, retries=4)  # a server that hangs costs twice the timeout, not five times
    with pytest.raises(CriticError, match=r"did not answer in time \(2 tries\): give a longer timeout"):
        critic.score(images[:1])
    over.set()
    assert len(pauses) == 1


@pytest.mark.parametrize(
    "text", ["<html>Welcome</html>", '{"choices": [{"message": {"content": "4', "[]", '{"choices": []}', "null"]
)
def test_nonsense_is_asked_again_and_then_named(
    serve: Serve, images: list[Tensor], connect: Callable[..., RemoteCritic], pauses: list[float], text: str
) -> None:
    server = serve(says(FINE))
    server.faults.append(document(text))
    assert isinstance(connect(server).score(images[:1])[0], Rating) and len(pauses) == 1
    server.faults.extend([document(text)] * 2)
    with pytest.raises(CriticError, match=r"no chat completion .*\(2 tries\): is it an OpenAI-compatible server"):
        connect(server, retries=1).score(images[1:2])


def test_a_lost_connection_is_made_again(
    serve: Serve, images: list[Tensor], connect: Callable[..., RemoteCritic], pauses: list[float]
) -> None:
    server = serve(says(FINE))
    server.faults.append(hang_up)
    assert isinstance(connect(server).score(images[:1])[0], Rating) and len(pauses) == 1


@pytest.mark.parametrize(
    ("code", "advice"), [(401, "IQLOOP_API_KEY"), (404, "model's name"), (400, "model's name"), (413, "of this size")]
)
def test_what_no_other_try_can_mend_is_told_at_once(
    serve: Serve,
    images: list[Tensor],
    connect: Callable[..., RemoteCritic],
    pauses: list[float],
    code: int,
    advice: str,
) -> None:
    server = serve(says(FINE))
    server.faults.append(status(code, "because\nof this"))
    with pytest.raises(CriticError, match=rf"answers {code} \(because of this\): .*{advice}"):
        connect(server).score(images[:1])
    assert len(server.asked) == 1 and pauses == []


def test_a_wrong_name_is_named(serve: Serve, images: list[Tensor]) -> None:
    server = serve(says(FINE), owner="somebody")
    critic = create_critic(f"{server.url}#other", decoding="reason")
    with pytest.raises(CriticError, match=r"404 \(The model `other` does not exist.\): .*name after #"):
        critic.score(images[:1])


# -- many questions ----------------------------------------------------------------------------------------------------


def test_answers_that_came_are_kept_when_one_did_not(
    serve: Serve, images: list[Tensor], connect: Callable[..., RemoteCritic]
) -> None:
    server = serve(says(FINE))
    critic = connect(server, concurrency=1, retries=0)
    server.faults.extend([document(json.dumps(server.complete({"messages": [{}], "max_tokens": 99}))), status(500)])
    with pytest.raises(CriticError, match="500"):
        critic.score(images)
    assert len(server.asked) == 3
    assert [rating.mean for rating in critic.score(images) if isinstance(rating, Rating)] == [4.0] * 3
    assert len(server.asked) == 4  # only the one that failed


def test_a_server_that_has_gone_is_not_waited_for_again_and_again(
    serve: Serve, images: list[Tensor], connect: Callable[..., RemoteCritic], pauses: list[float]
) -> None:
    server = serve(says(FINE))
    critic = connect(server, retries=2)
    server.answers_left = 0
    for image in images:
        with pytest.raises(CriticError, match=r"cannot be reached .*\(3 tries\): is the server running"):
            critic.score([image])
    assert len(images) == FAILURES and len(pauses) == 2 * FAILURES
    for image in images:
        with pytest.raises(CriticError, match="has gone: it cannot be reached"):
            critic.score([image])
    assert len(pauses) == 2 * FAILURES


def test_a_server_that_came_back_is_asked_once_until_it_answers() -> None:
    import openai

    now, alive = [0.0], [False]
    waited: list[float] = []
    looks = itertools.count()

    def look() -> bool:
        next(looks)
        return alive[0]

    patience = Patience("there", look, retries=3, pause=waited.append, clock=lambda: now[0])

    def fail() -> None:
        raise openai.APIConnectionError(request=None)  # type: ignore[arg-type]

    for _ in range(FAILURES):
        with pytest.raises(CriticError, match="4 tries"):
            patience.insist(fail)
    for _ in range(5):
        with pytest.raises(CriticError, match="has gone"):
            patience.insist(lambda: "never asked")
    assert next(looks) == 1  # one look serves for a while
    alive[0], now[0] = True, LOOK_AGAIN + 1
    before = len(waited)
    with pytest.raises(CriticError, match=r"there cannot be reached \(.*\): is"):
        patience.insist(fail)
    assert len(waited) == before
    assert patience.insist(lambda: "back") == "back"
    with pytest.raises(CriticError, match="4 tries"):
        patience.insist(fail)


def test_an_error_of_ours_is_no_fault_of_the_server() -> None:
    patience = Patience("there", lambda: True, pause=lambda _: pytest.fail("waited"))
    with pytest.raises(ZeroDivisionError):
        patience.insist(lambda: 1 // 0)


def test_work_is_taken_when_somebody_is_free() -> None:
    begun, done, most = itertools.count(1), [0], [0]
    lock = threading.Lock()

    def items() -> Iterator[int]:
        for i in range(40):
            with lock:
                most[0] = max(most[0], next(begun) - done[0])
            yield i

    def work(i: int) -> int:
        with lock:
            done[0] += 1
        if i % 7 == 3:
            raise ValueError(str(i))
        return i * i

    found = in_order(work, items(), 4)
    assert most[0] <= 4
    assert [str(one) if isinstance(one, ValueError) else one for one in found] == [
        str(i) if i % 7 == 3 else i * i for i in range(40)
    ]

    def broken() -> Iterator[int]:
        yield 1
        raise RuntimeError("no more")

    first, last = in_order(work, broken(), 1)
    assert first == 1 and isinstance(last, RuntimeError)


# -- the command line --------------------------------------------------------------------------------------------------


def test_a_server_that_is_down_at_the_start_is_one_sentence(serve: Serve, files: list[Path]) -> None:
    server = serve(says(FINE))
    server.close()
    result = run("score", *files, "--critic", f"{server.url}#m")
    assert result.exit_code == 2 and result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert f"{server.url} cannot be reached" in result.stderr and "is the server running?" in result.stderr


def test_a_server_that_dies_in_the_middle_costs_what_was_not_done(serve: Serve, files: list[Path]) -> None:
    server = serve(says(FINE))
    server.answers_left = 1
    options = ("--critic-option", "retries=0", "--critic-option", "concurrency=1", "--decode", "reason", "--json")
    result = run("score", *files, "--critic", server.url, *options)
    assert result.exit_code == 1
    done, *failed = lines(result)
    assert done["path"] == str(files[0]) and done["score"] == 4.0 and done["metric"] == f"{server.url}#scripted"
    assert [line["path"] for line in failed] == [str(file) for file in files[1:]]
    assert all("cannot be reached" in line["error"] for line in failed)
    assert result.stderr.count("\n") == 2


def test_a_server_that_dies_in_a_run_of_500_loses_nothing(serve: Serve, tmp_path: Path) -> None:
    files = [tmp_path / f"{number:03d}.png" for number in range(500)]
    for number, file in enumerate(files):
        Image.new("RGB", (28, 28), (number % 256, number // 256, 0)).save(file)
    server = serve(says(FINE))
    server.answers_left = 203
    options = ("--critic-option", "retries=0", "--decode", "reason", "--json")
    rows = lines(run("score", tmp_path, "--critic", server.url, *options))
    assert [row["path"] for row in rows] == list(map(str, files))
    missing = [row["path"] for row in rows if "error" in row]
    assert 290 <= len(missing) <= 305
    again = serve(says(FINE))
    rest = run("score", *missing, "--critic", again.url, *options)
    assert rest.exit_code == 0 and [row["path"] for row in lines(rest)] == missing
    # What was under way when it died is all that was asked twice: no more than one call, of four batches of eight.
    assert len(server.asked) + len(again.asked) <= 500 + 32


def test_answers_that_cannot_be_read_are_named(serve: Serve, files: list[Path]) -> None:
    server = serve(says("Nice picture!"))
    result = run("score", files[0], "--critic", server.url, "--decode", "reason", "--json")
    assert result.exit_code == 1
    assert "could not be read" in lines(result)[0]["error"]


def test_perceive_over_a_server(serve: Serve, files: list[Path]) -> None:
    dark = '<think> Dark. </think><answer> {"distortion_class": "darken", "severity": "serious"} </answer>'
    server = serve(says(dark), owner="somebody", models=("q-insight",))
    result = run("perceive", files[0], "--critic", server.url, "--json")
    assert result.exit_code == 0
    assert (lines(result)[0]["distortion_class"], lines(result)[0]["severity"]) == ("darken", "serious")


def test_no_picture_is_encoded_before_its_turn(
    serve: Serve, images: list[Tensor], connect: Callable[..., RemoteCritic], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(says(FINE))
    encoded_after: list[int] = []

    def noted(pixels: Tensor) -> Picture:
        encoded_after.append(len(server.asked))
        return picture(pixels)

    monkeypatch.setattr("iqloop.critic.remote.remote_critic.picture", noted)
    connect(server, concurrency=1).score(images)
    assert encoded_after == [0, 1, 2]
