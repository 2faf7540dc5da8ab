"""Some work at once, its results in order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_order(work: Callable[[T], R], items: Iterable[T], at_once: int) -> list[R | Exception]:
    """``work`` on every item, ``at_once`` of them at a time; what failed is its exception.

    An item is taken when somebody is free to work on it, so no more than ``at_once`` are ever in the making. An
    exception of ``items`` itself stands in the place of the item that it should have given, which is the last.
    """
    found: dict[int, R | Exception] = {}
    lock, stopped = threading.Lock(), threading.Event()
    waiting, count = iter(items), 0

    def serve() -> None:
        nonlocal count
        while not stopped.is_set():
            with lock:
                place = count
                try:
                    item = next(waiting)
                except StopIteration:
                    return
                except Exception as error:
                    found[place] = error
                    stopped.set()
                    return
                count += 1
            try:
                found[place] = work(item)
            except Exception as error:
                found[place] = error

    # Daemons: an interrupted run must not wait for a server.
    threads = [threading.Thread(target=serve, daemon=True) for _ in range(at_once)]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    finally:
        stopped.set()
    return [found[place] for place in sorted(found)]
