"""Confines a process for good, by the Linux kernel: no sockets to hosts, no processes, no files written elsewhere.

`confine` is called in a process that does nothing but replay (`adapters.cli.apart`), or by an application in a process
that it can spare, for there is no way back. What the kernel refuses it refuses to C libraries, ctypes, children and
threads too; `guard` sees less, and says what was tried. Two mechanisms, neither of which takes privileges:

- seccomp (Linux 3.17): a filter of system calls, by number and plain arguments, for all threads of the process;
- Landlock (Linux 5.13): writing below the folders that are named, for this thread and those that it starts from now on.

Connections and files that are open stay usable. x86-64 and aarch64; elsewhere `why_not` says so.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from actionbus.replay.errors import ReplayError
from actionbus.replay.sandbox import guard


class _Machine(NamedTuple):
    """What differs between processors."""

    audit: int
    seccomp: int
    socket: int
    clone: int
    signals: tuple[int, ...]
    """Whose first argument is a process: kill, tgkill, rt_sigqueueinfo, rt_tgsigqueueinfo."""
    refused: tuple[int, ...]


_EVERYWHERE: Final = (424, 425, 434, 438, 452)  # pidfd_send_signal, io_uring_setup, pidfd_open, pidfd_getfd, fchmodat2
_CLONE3: Final = 435
_MACHINES: Final = {
    "x86_64": _Machine(
        0xC000003E,
        317,
        41,
        56,
        (62, 234, 129, 297),
        # fork, vfork, execve, execveat, tkill, ptrace, process_vm_writev, mount, unshare, setns, bpf, chmod, fchmodat,
        # chown, lchown, fchownat, utime, utimes, futimesat, utimensat, setxattr, lsetxattr, removexattr, lremovexattr
        (
            57,
            58,
            59,
            322,
            200,
            101,
            311,
            165,
            272,
            308,
            321,
            90,
            268,
            92,
            94,
            260,
            132,
            235,
            261,
            280,
            188,
            189,
            197,
            198,
        ),
    ),
    "aarch64": _Machine(
        0xC00000B7,
        277,
        198,
        220,
        (129, 131, 138, 240),
        # execve, execveat, tkill, ptrace, process_vm_writev, mount, unshare, setns, bpf, fchmodat, fchownat, utimensat,
        # setxattr, lsetxattr, removexattr, lremovexattr
        (221, 281, 130, 117, 271, 40, 97, 268, 280, 53, 54, 88, 5, 6, 14, 15),
    ),
}
_ALLOW: Final = 0x7FFF0000
_ERRNO: Final = 0x00050000
_LOAD, _EQUAL, _SET, _ABOVE, _RETURN = 0x20, 0x15, 0x45, 0x35, 0x06
_NUMBER, _ARCHITECTURE, _FIRST = 0, 4, 16
"""Where a system call's number, processor and first argument stand in what a filter is given."""
_THREAD: Final = 0x10000
_X32: Final = 0x40000000
_DEVICES: Final = (Path("/dev/null"), Path("/dev/tty"))
_WRITE: Final = 0x2
_WRITES: Final = {1: 0x1FF2, 2: 0x3FF2, 3: 0x7FF2}
"""By version of Landlock, the bits for whatever writes, makes, moves and removes."""


class _Instruction(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint16), ("yes", ctypes.c_uint8), ("no", ctypes.c_uint8), ("k", ctypes.c_uint32)]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.POINTER(_Instruction))]


class _Below(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32)]


def why_not() -> str | None:
    """Why a process cannot be confined here, or None."""
    if not sys.platform.startswith("linux"):
        return f"{platform.system()} has no way to confine a process that needs no privileges"
    if platform.machine() not in _MACHINES:
        return f"the numbers of system calls on {platform.machine()} are not known here"
    return None


def confine(folders: Sequence[Path], *, unix_sockets: bool) -> str | None:
    """Confine this process for good; what could not be done, or None. Raises ReplayError where nothing can be.

    It may write below `folders`, to its terminal and to nowhere. `unix_sockets` lets it open such, as a database may
    need.
    """
    if why := why_not():
        raise ReplayError(f"this process cannot be confined: {why}")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(38, 1, 0, 0, 0) != 0:  # PR_SET_NO_NEW_PRIVS, without which only root may do the rest
        raise ReplayError(f"this process cannot be confined: {os.strerror(ctypes.get_errno())}")
    guard.install()  # which looks for libraries, as can be done only now
    guard.is_whole_process = True
    undone = _keep_files(libc, folders)
    _filter_calls(libc, unix_sockets=unix_sockets)
    return undone


def _keep_files(libc: ctypes.CDLL, folders: Sequence[Path]) -> str | None:
    version = libc.syscall(444, None, 0, 1)
    if version < 1:
        return "files elsewhere can be written: this kernel has no Landlock (Linux 5.13)"
    writes = ctypes.c_uint64(_WRITES[min(version, 3)])
    ruleset = libc.syscall(444, ctypes.byref(writes), ctypes.sizeof(writes), 0)
    if ruleset < 0:
        return f"files elsewhere can be written: {os.strerror(ctypes.get_errno())}"
    try:
        for folder in (*folders, *(each for each in _DEVICES if each.exists())):
            opened = os.open(folder, os.O_PATH | os.O_CLOEXEC)
            allowed = _WRITE if folder in _DEVICES else writes.value
            below = _Below(allowed, opened)
            done = libc.syscall(445, ruleset, 1, ctypes.byref(below), 0)
            os.close(opened)
            if done != 0:
                raise ReplayError(f"this process cannot be confined: {folder}: {os.strerror(ctypes.get_errno())}")
        if libc.syscall(446, ruleset, 0) != 0:
            raise ReplayError(f"this process cannot be confined: {os.strerror(ctypes.get_errno())}")
    finally:
        os.close(ruleset)
    return None


def _filter_calls(libc: ctypes.CDLL, *, unix_sockets: bool) -> None:
    machine = _MACHINES[platform.machine()]
    code = _filter(machine, os.getpid(), unix_sockets=unix_sockets)
    program = _Program(len(code), (_Instruction * len(code))(*code))
    # SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC
    if (done := libc.syscall(machine.seccomp, 1, 1, ctypes.byref(program))) != 0:
        why = f"thread {done} has a filter of its own" if done > 0 else os.strerror(ctypes.get_errno())
        raise ReplayError(f"this process cannot be confined: {why}")


def _filter(machine: _Machine, own: int, *, unix_sockets: bool) -> list[_Instruction]:
    refuse = _Instruction(_RETURN, 0, 0, _ERRNO | errno.EPERM)
    allow = _Instruction(_RETURN, 0, 0, _ALLOW)

    def first_is(call: int, comparison: int, value: int) -> list[_Instruction]:
        """Allow this call if its first argument is so, refuse it otherwise."""
        return [
            _Instruction(_EQUAL, 0, 4, call),
            _Instruction(_LOAD, 0, 0, _FIRST),
            _Instruction(comparison, 0, 1, value),
            allow,
            refuse,
        ]

    code = [
        _Instruction(_LOAD, 0, 0, _ARCHITECTURE),
        _Instruction(_EQUAL, 1, 0, machine.audit),
        refuse,
        _Instruction(_LOAD, 0, 0, _NUMBER),
        _Instruction(_ABOVE, 0, 1, _X32),
        refuse,
        # So that the C library makes threads by `clone`, whose flags can be looked at.
        _Instruction(_EQUAL, 0, 1, _CLONE3),
        _Instruction(_RETURN, 0, 0, _ERRNO | errno.ENOSYS),
    ]
    code += first_is(machine.clone, _SET, _THREAD)
    for call in machine.signals:
        code += first_is(call, _EQUAL, own)
    if unix_sockets:
        code += first_is(machine.socket, _EQUAL, socket.AF_UNIX)
    for call in (*machine.refused, *_EVERYWHERE, *(() if unix_sockets else (machine.socket,))):
        code += [_Instruction(_EQUAL, 0, 1, call), refuse]
    return [*code, allow]
