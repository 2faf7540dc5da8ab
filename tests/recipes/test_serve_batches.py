"""iqloop serve under load: batches, faults, and what is not waited for."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from torch import Tensor

pytest.importorskip("fastapi", reason="the extra serve is not installed")

from iqloop.recipes.serve.limits import Limits
from iqloop.recipes.serve.load import send_all
from iqloop.recipes.serve.patience import Deadline

from ..agents.agents_fakes import degradation, tool
from .serve_helpers import WAIT, Running, WatchedCritic, begun, brightness, grey, rating_of, serving


def test_two_hundred_at_once_each_get_their_own_answer() -> None:
    critic = WatchedCritic()
    files = [(f"{level}.png", grey(level, 8 + level % 5, 8 + level % 7)) for level in range(200)]
    with serving(critic) as served:
        load = send_all(served.address, files, 200, {f"{level}.png": rating_of(level) for level in range(200)})
        assert (load.requests, load.failed, load.wrong) == (200, (), ())
        assert served.metric('iqloop_batch_images_sum{kind="score"}') == 200
    assert sum(critic.batches) == 200 and max(critic.batches) == 8
    assert len(critic.threads) == 1
    assert 0 < load.percentile(0.5) <= load.percentile(0.95) <= load.percentile(1) <= load.seconds


def test_the_client_notices_wrong_and_missing_answers() -> None:
    files = [("a.png", grey(10)), ("b.png", grey(20)), ("c.png", b"no image")]
    with serving(WatchedCritic()) as served:
        load = send_all(served.address, files, 2, {"a.png": rating_of(10), "b.png": rating_of(99), "c.png": 1.0})
    assert [name.partition(":")[0] for name in load.wrong] == ["b.png"]
    assert len(load.failed) == 1 and load.failed[0].startswith("c.png: 422 is not an image")
    assert len(load.latencies) == 2


def test_a_batch_is_made_of_what_came_while_the_critic_was_busy() -> None:
    critic = WatchedCritic()
    critic.open.clear()
    with serving(critic, limits=Limits(batch_size=3)) as served:
        with begun(*(lambda level=level: served.post("/score", grey(level)) for level in range(7))) as answers:
            assert critic.entered.acquire(timeout=WAIT)
            _until(served, "iqloop_requests_in_flight", 8)  # this question is one of them
            critic.open.set()
        assert [answer[1]["score"] for answer in answers] == pytest.approx([rating_of(level) for level in range(7)])
    assert sum(critic.batches) == 7 and max(critic.batches) == 3


def _until(served: Running, line: str, value: float) -> None:
    """Ask until a counter has its value; each question waits for the server, so that nothing spins."""
    for _ in range(2000):
        if served.metric(line) == value:
            return
    raise AssertionError(f"{line} never became {value}")


def test_only_the_culprit_of_a_batch_fails() -> None:
    def score(image: Tensor) -> float:
        if brightness(image) > 4.9:
            raise ValueError("secret: /srv/weights")
        return brightness(image)

    critic = WatchedCritic(score)
    critic.open.clear()
    levels = [10, 255, 20, 30]
    with serving(critic) as served:
        with begun(*(lambda level=level: served.post("/score", grey(level)) for level in levels)) as answers:
            assert critic.entered.acquire(timeout=WAIT)
            _until(served, "iqloop_requests_in_flight", 5)
            critic.open.set()
        assert [status for status, _ in answers] == [200, 500, 200, 200]
        assert "secret" not in str(answers) and "log" in answers[1][1]["error"]
        assert [(path, status, str(error)) for path, status, error in served.reports] == [
            ("/score", 500, "secret: /srv/weights")
        ]


def test_a_file_that_cannot_be_decoded_fails_alone() -> None:
    critic = WatchedCritic()
    with serving(critic) as served:
        cut = grey(40, 64, 64)[:-30]
        with begun(lambda: served.post("/score", cut), lambda: served.post("/score", grey(50))) as answers:
            pass
        assert answers[0][0] == 422 and "damaged or cut short" in answers[0][1]["error"]
        assert answers[1][0] == 200 and answers[1][1]["score"] == pytest.approx(rating_of(50))
        assert not served.reports


def test_a_full_queue_says_when_to_come_again() -> None:
    critic = WatchedCritic()
    critic.open.clear()
    with serving(critic, limits=Limits(queue=2, batch_size=1)) as served:
        with begun(*[lambda: served.post("/score", grey(5))] * 2) as answers:
            assert critic.entered.acquire(timeout=WAIT)
            _until(served, "iqloop_requests_in_flight", 3)
            status, headers, body = served.ask("POST", "/score", grey(6), "image/png")
            assert (status, headers["retry-after"]) == (503, "1") and b"busy" in body
            assert served.ask("GET", "/health")[0] == 200
            critic.open.set()
        assert [status for status, _ in answers] == [200, 200]
        assert served.post("/score", grey(6))[0] == 200


def test_what_is_late_gets_504(monkeypatch: pytest.MonkeyPatch) -> None:
    async def in_time(_: Deadline, reading: Any) -> Any:
        return await reading  # however busy this machine is

    monkeypatch.setattr(Deadline, "body", in_time)
    critic = WatchedCritic()
    critic.open.clear()
    with serving(critic, limits=Limits(timeout=0.05)) as served:
        with begun(*[lambda: served.post("/score", grey(5))] * 3) as answers:
            pass  # the critic is held up until all have given up
        assert [status for status, _ in answers] == [504] * 3 and "0.05 s" in answers[0][1]["error"]
        assert served.metric('iqloop_requests_total{route="/score",status="504"}') == 3


def test_who_has_gone_is_not_answered() -> None:
    critic = WatchedCritic()
    critic.open.clear()
    with serving(critic, limits=Limits(batch_size=1)) as served:
        with begun(lambda: served.post("/score", grey(5))):
            assert critic.entered.acquire(timeout=WAIT)
            caller = served.connect()
            caller.request("POST", "/score", grey(6), {"Content-Type": "image/png"})
            _until(served, 'iqloop_images_total{route="/score"}', 2)
            caller.close()
            _until(served, 'iqloop_requests_total{route="/score",status="499"}', 1)
            critic.open.set()
        assert served.post("/score", grey(7))[0] == 200
    assert critic.asked == ["score", "score"]


def test_a_long_restoration_does_not_hold_up_scores() -> None:
    in_tool, go_on = threading.Event(), threading.Event()

    def slow(image: Tensor) -> Tensor:
        in_tool.set()
        assert go_on.wait(WAIT)
        return image * 0.5

    critic = WatchedCritic()
    critic._perceive = lambda image: degradation(noise=4.0)
    with serving(critic, tool("slow", "noise", slow)) as served:
        with begun(lambda: served.ask("POST", "/restore", grey(128), "image/png")) as restored:
            assert in_tool.wait(WAIT)
            assert served.post("/score", grey(9))[0] == 200
            status, order = served.form("/rank?by=score", *(("file", f"{n}", grey(n)) for n in (3, 4)))
            assert status == 200 and order["places"][0]["filename"] == "4"
            go_on.set()
        assert restored[0][0] == 200 and int(restored[0][1]["x-iqloop-calls"]) >= 1
    assert len(critic.threads) == 1


def test_a_restoration_that_nobody_waits_for_ends_at_its_next_question() -> None:
    in_tool, go_on = threading.Event(), threading.Event()

    def slow(image: Tensor) -> Tensor:
        in_tool.set()
        assert go_on.wait(WAIT)
        return image * 0.5

    critic = WatchedCritic()
    critic._perceive = lambda image: degradation(noise=4.0)
    with serving(critic, tool("slow", "noise", slow)) as served:
        caller = served.connect()
        caller.request("POST", "/restore", grey(128), {"Content-Type": "image/png"})
        assert in_tool.wait(WAIT)
        caller.close()
        _until(served, 'iqloop_requests_total{route="/restore",status="499"}', 1)
        before = len(critic.asked)
        go_on.set()
        # Restorations are done one after the other: when this one is answered, the other has ended.
        assert served.post("/restore?answer=json&max_critic_calls=0", grey(128))[1]["critic_calls"] == 0
        assert len(critic.asked) == before > 0
        assert not served.reports


def test_stopping_finishes_what_is_being_answered() -> None:
    critic = WatchedCritic()
    critic.open.clear()
    with serving(critic) as served:
        with begun(lambda: served.post("/score", grey(77))) as answers:
            assert critic.entered.acquire(timeout=WAIT)
            served.server.should_exit = True
            critic.open.set()
        assert answers[0][0] == 200 and answers[0][1]["score"] == pytest.approx(rating_of(77))
        served.thread.join(WAIT)
        with pytest.raises(ConnectionRefusedError):
            served.post("/score", grey(1))
