"""A kernel that may write in its own folder only: `python -m pgpt_lib.course.sandbox -f CONNECTION_FILE`.

On Linux from 5.13 on, Landlock takes from the process the right to change files elsewhere, and from 6.7 and 6.12 on to
open TCP connections and to signal other processes; none of it needs root, and children inherit it. Limits on memory
and file size work on every Unix. What the platform cannot do is left out and told by `isolation()`.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import runpy
import struct
import sys
from pathlib import Path

FOLDER = "PGPT_SANDBOX_FOLDER"
MEMORY = "PGPT_SANDBOX_MEMORY"  # bytes
FILE_BYTES = 256 * 2**20
TASKS = 256  # processes and threads, beyond those that the user has already; root is not held to it
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # system calls, the same on every architecture
PATH_BENEATH, NET_PORT = 1, 2
WRITE_FILE = 1 << 1
CHANGES = WRITE_FILE | sum(1 << bit for bit in range(4, 13))  # remove and make entries of every kind
REFER, TRUNCATE = 1 << 13, 1 << 14
BIND_TCP, CONNECT_TCP = 1, 2
SCOPES = 3  # abstract sockets and signals
NO_NEW_PRIVS = 38


def landlock_version() -> int:
    """Version of the kernel's Landlock interface; 0 where there is none."""
    if platform.system() != "Linux":
        return 0
    return max(0, _libc().syscall(CREATE_RULESET, None, 0, 1))


def isolation() -> dict[str, bool]:
    """What is kept from a student's code on this platform."""
    version = landlock_version()
    return {
        "writes_elsewhere": version >= 1,
        "connections": version >= 4,
        "signals": version >= 6,
        "memory": os.name == "posix",
        "reads_elsewhere": False,
    }


def confine(folder: Path, ports: list[int]) -> None:
    """Give up, for this process and its children, all changes to files outside `folder`, and the network.

    Args:
        folder: where files may be changed.
        ports: TCP ports that may be listened on, those of the kernel's own channels.

    Raises:
        OSError: the kernel refuses; nothing has been given up then.
    """
    version = landlock_version()
    if version < 1:
        return
    files = CHANGES | (REFER if version >= 2 else 0) | (TRUNCATE if version >= 3 else 0)
    net = BIND_TCP | CONNECT_TCP if version >= 4 else 0
    fields = [files] + ([net] if version >= 4 else []) + ([SCOPES] if version >= 6 else [])
    attributes = struct.pack(f"={len(fields)}Q", *fields)
    rules = _call(CREATE_RULESET, ctypes.c_char_p(attributes), len(attributes), 0)
    devices = [Path("/dev/null"), Path("/dev/zero"), Path("/dev/shm"), Path("/dev/tty")]
    for path in [folder, *(device for device in devices if device.exists())]:
        handle = os.open(path, os.O_PATH)
        allowed = files if path.is_dir() else files & (WRITE_FILE | TRUNCATE)
        _call(ADD_RULE, rules, PATH_BENEATH, ctypes.c_char_p(struct.pack("=Qi", allowed, handle)), 0)
        os.close(handle)
    for port in ports if net else []:
        _call(ADD_RULE, rules, NET_PORT, ctypes.c_char_p(struct.pack("=QQ", BIND_TCP, port)), 0)
    if _libc().prctl(NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    _call(RESTRICT_SELF, rules, 0)
    os.close(rules)


def limit(memory: int) -> None:
    """Limit memory, the size of a file, and the number of processes; no core files."""
    try:
        import resource
    except ImportError:  # no Unix
        return
    kind = resource.RLIMIT_DATA if platform.system() == "Linux" else resource.RLIMIT_AS
    for what, most in ((kind, memory), (resource.RLIMIT_FSIZE, FILE_BYTES), (resource.RLIMIT_CORE, 0)):
        resource.setrlimit(what, (most, most))
    if platform.system() == "Linux":
        resource.setrlimit(resource.RLIMIT_NPROC, (own := _tasks() + TASKS, own))


def main() -> None:
    """Confine this process, then become the kernel."""
    connection = json.loads(Path(sys.argv[sys.argv.index("-f") + 1]).read_text())
    ports = [value for name, value in connection.items() if name.endswith("_port")]
    limit(int(os.environ[MEMORY]))
    confine(Path(os.environ[FOLDER]), ports)
    sys.path.insert(0, "")  # as for any notebook: modules beside it can be imported
    runpy.run_module("ipykernel_launcher", run_name="__main__")


def _tasks() -> int:
    """Threads of all of this user's processes."""
    import psutil

    mine = os.getuid()
    found = 0
    for process in psutil.process_iter():
        try:
            found += process.num_threads() if process.uids().real == mine else 0
        except psutil.Error:
            continue
    return found


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _call(number: int, *arguments: object) -> int:
    result = _libc().syscall(number, *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"Landlock: {os.strerror(code)}")
    return int(result)


if __name__ == "__main__":
    main()
