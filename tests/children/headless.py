"""Ends its main thread and goes on in another: the system then shows the process as a zombie."""

import ctypes
import threading
import time

threading.Thread(target=time.sleep, args=(1000,)).start()
ctypes.CDLL(None).syscall(60, 0)  # exit(2) of this thread alone, on x86-64
