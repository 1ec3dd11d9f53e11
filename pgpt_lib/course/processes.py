"""What a submission's code starts, however far it goes to be lost sight of: counted from above, and ended."""

from __future__ import annotations

import contextlib
import ctypes
import platform
import time

import psutil

CHILD_SUBREAPER = 36  # of Linux's prctl
ROUNDS = 50


def adopt_orphans() -> None:
    """On Linux, make this process the parent of all below it whose own parent has ended; elsewhere nothing happens.

    Otherwise init adopts them, and nothing tells any more whose they were.
    """
    if platform.system() == "Linux":
        ctypes.CDLL(None).prctl(CHILD_SUBREAPER, 1, 0, 0, 0)


def below(pid: int) -> list[psutil.Process]:
    """The processes that a process started, and those that they started, as far as they run."""
    found = []
    with contextlib.suppress(psutil.Error):
        for process in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
    return found


def end_below(pid: int) -> None:
    """End all processes below one that runs on or is suspended: while it is there, it adopts what is left of them.

    One that is being ended may start another, so this looks again, for about a second.
    """
    for _ in range(ROUNDS):
        left = below(pid)
        if not left:
            return
        for process in left:
            with contextlib.suppress(psutil.Error, OSError):
                process.kill()
        time.sleep(0.02)


def end_with_all_below(pid: int) -> None:
    """End a process and all below it. It is suspended first, so that it makes nothing of their end."""
    with contextlib.suppress(psutil.Error, OSError):
        process = psutil.Process(pid)
        try:
            process.suspend()
            end_below(pid)
        finally:
            process.kill()
