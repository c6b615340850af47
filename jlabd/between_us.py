"""What the daemon's own probe and its own stand-in say to each other, when they meet on an instance's socket.

While an instance starts, the daemon and the server accept on the same socket: a probe may reach the daemon itself.
"""

PROBE_AGENT = "jlabd probe"
"""The probe's User-Agent."""

NOT_ACCEPTING = "the server does not accept connections yet"
"""What the stand-in answers to it, as plain text with status 503."""
