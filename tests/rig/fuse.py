"""A file system in user space that is no more than one folder, which it says is root's: who may mount one may lie."""

import contextlib
import ctypes
import os
import struct
import threading

LIBC = ctypes.CDLL(None, use_errno=True)
MS_NOSUID, MS_NODEV, MNT_DETACH = 2, 4, 2
GETATTR, INIT = 3, 26
ENOENT = 2
LARGEST = 256 * 1024


@contextlib.contextmanager
def mounted(folder, uid):
    """Mount it at `folder` as fusermount does for the user `uid` with allow_other. Raises OSError."""
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40755,user_id={uid},group_id={uid},allow_other"
    try:
        if LIBC.mount(b"lie", os.fsencode(folder), b"fuse", MS_NOSUID | MS_NODEV, options.encode()) != 0:
            raise OSError(ctypes.get_errno(), "mount")
        server = threading.Thread(target=_serve, args=(device,))
        server.start()
        try:
            yield
        finally:
            LIBC.umount2(os.fsencode(folder), MNT_DETACH)
            server.join()
    finally:
        os.close(device)


def _serve(device):
    """Answer until it is unmounted."""
    while True:
        try:
            request = os.read(device, LARGEST)
        except OSError:
            return
        _, opcode, number = struct.unpack_from("<IIQ", request)
        answer = {INIT: _INIT, GETATTR: _FOLDER}.get(opcode, b"")
        with contextlib.suppress(OSError):  # who asked has gone, or wants no answer
            os.write(device, struct.pack("<IiQ", 16 + len(answer), 0 if answer else -ENOENT, number) + answer)


_INIT = struct.pack("<IIIIHHII", 7, 31, 0, 0, 0, 0, 4096, 1) + bytes(36)
_FOLDER = struct.pack("<QII", 0, 0, 0) + struct.pack("<6Q10I", 1, *[0] * 5, *[0] * 3, 0o40755, 2, *[0] * 5)
