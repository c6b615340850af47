"""A fork right into a cgroup, which Python does not offer (clone3(2), Linux 5.7).

A process that is forked and then moved waits for a lock that every fork and exit of the machine takes, for 10 to 20 ms
(cgroup_threadgroup_rwsem); one that is born in its cgroup does not.
"""

from __future__ import annotations

import ctypes
import os
import struct

_CLONE3 = 435
"""The number of the system call, the same on all architectures."""
_CLONE_PARENT = 0x8000
_CLONE_INTO_CGROUP = 0x2_0000_0000
_ARGUMENTS = struct.Struct("11Q")
"""struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size,
cgroup."""

_LIBC = ctypes.PyDLL(None, use_errno=True)  # keeps the interpreter's lock: the child needs it
_LIBC.syscall.restype = ctypes.c_long


def fork_sibling(cgroup: int) -> int:
    """Fork a child of this process's parent into a cgroup, whose open folder is given; returns 0 in it. Raises OSError.

    Only for a process without other threads: neither Python nor the C library learns that it was forked, so what locks
    others held would stay locked. The C library goes on to believe that the child has the caller's thread id.
    """
    arguments = _ARGUMENTS.pack(_CLONE_PARENT | _CLONE_INTO_CGROUP, 0, 0, 0, 0, 0, 0, 0, 0, 0, cgroup)
    pid: int = _LIBC.syscall(ctypes.c_long(_CLONE3), arguments, ctypes.c_size_t(len(arguments)))
    if pid < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return pid
