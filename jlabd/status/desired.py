"""Whether everything that should run does: the question behind exit code 3 of `jlabctl status`.

Imports nothing, because the command asks it each time.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

AS_DESIRED = {
    "running": ("ready", "idle"),
    "stopped": ("stopped", "stopping"),
}
"""Desired state → the actual states that fulfil it.

As with systemd's units, one that is only `starting` does not run yet. One that is `unhealthy` does not answer. One that
is `idle` sleeps by its own rule and wakes at the first visit."""


def all_as_desired(document: Mapping[str, Any]) -> bool:
    """Return whether each instance of the status document is in a state that fulfils what is desired of it.

    Instances whose desired state the caller may not see (null) do not count.
    """
    return all(_as_desired(instance) for instance in document["instances"])


def _as_desired(instance: Mapping[str, Any]) -> bool:
    desired = instance["desired"]
    return desired is None or instance["state"] in AS_DESIRED.get(desired, ())
