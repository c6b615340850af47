"""What instances used in the last minutes, for the small graphs of the status page."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

WINDOW_S = 900.0
"""How far back."""
SPACING_S = 15.0
"""Samples that come closer are left out."""

Sample = tuple[float, float, int]
"""Moment (monotonic), CPU in percent of one core, memory in bytes."""


class Histories:
    """The last samples of each instance."""

    def __init__(self) -> None:
        self._samples: dict[str, deque[Sample]] = {}

    def note(self, name: str, at: float, cpu_percent: float | None, memory_bytes: int | None) -> None:
        """Remember what `name` used at monotonic time `at`, unless something is not known or was noted just now."""
        if cpu_percent is None or memory_bytes is None:
            return
        samples = self._samples.setdefault(name, deque(maxlen=int(WINDOW_S / SPACING_S) + 2))
        if not samples or at - samples[-1][0] >= SPACING_S:
            samples.append((at, cpu_percent, memory_bytes))

    def keep(self, names: Iterable[str]) -> None:
        """Forget all other instances."""
        self._samples = {name: self._samples[name] for name in names if name in self._samples}

    def recent(self, name: str, now: float) -> list[tuple[float, float, int]]:
        """Return (seconds ago, CPU in percent, memory in bytes) of the last minutes before `now`, the oldest first."""
        samples = self._samples.get(name, ())
        return [(round(now - at, 1), round(cpu, 1), memory) for at, cpu, memory in samples if now - at <= WINDOW_S]
