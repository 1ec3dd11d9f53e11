"""Ending a long computation between two steps instead of in the middle of one."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any, NoReturn

FOLLOWED = "PGPT_FOLLOW"
"""Environment variable: the process whose end ends a training (see `follow`)."""
WATCH_SECONDS = 1.0


class StopSignals:
    """While entered, a first Ctrl-C or SIGTERM only sets `requested`; a second one acts at once.

    Outside the main thread, where Python allows no handlers, signals keep their usual effect.
    """

    def __init__(self) -> None:
        self.requested: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.requested = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self._previous.clear()

    def __exit__(self, *_: object) -> None:
        self._restore()

    def leave(self, message: str) -> NoReturn:
        """Say why, and do what the signal asked for: KeyboardInterrupt for Ctrl-C, else exit status 128 + signal."""
        print(message, file=sys.stderr, flush=True)
        if self.requested == signal.SIGINT:
            raise KeyboardInterrupt(message)
        sys.exit(128 + (self.requested or signal.SIGTERM))


def follow_if_asked() -> None:
    """`follow` the process that the environment names, if it names one."""
    if FOLLOWED in os.environ:
        follow(int(os.environ[FOLLOWED]))


def follow(pid: int) -> None:
    """Stop, as by SIGTERM, when another process of this machine is gone: whoever waited for the result is."""
    import psutil

    try:
        followed = psutil.Process(pid)
    except psutil.NoSuchProcess:
        followed = None

    def lives() -> bool:
        try:
            return followed is not None and followed.is_running() and followed.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def watch() -> None:
        while lives():
            time.sleep(WATCH_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
