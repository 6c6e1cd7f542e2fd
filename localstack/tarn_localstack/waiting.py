"""Waiting for conditions. Nothing in this package or in its tests sleeps and hopes: it asks until an answer or a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class TimedOut(AssertionError):
    """The condition did not come true in time. An assertion error, so that tests report it as theirs."""


def wait_for(what: str, ask: Callable[[], T], seconds: float, every: float = 0.1) -> T:
    """The first truthy answer of `ask`; after `seconds`, a `TimedOut` that names the last answer or exception."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            last: object = ask()
            if last:
                return last  # type: ignore[return-value]
        except TimedOut:
            raise
        except Exception as error:  # noqa: BLE001: whatever it is may be over at the next attempt
            last = error
        if time.monotonic() >= deadline:
            raise TimedOut(f"{what}: not within {seconds:g} s; last answer: {last!r}")
        time.sleep(every)
