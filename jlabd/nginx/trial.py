"""The trial of a candidate: nginx's own test, with all of nginx's own configuration, before a running one can read it.

Where jlabd may (as root, or where ordinary users may have namespaces), the program that tests sees the candidate in the
place of the generation that `live` points to, and it alone does. Whether it really looks there is asked once, with a
file that nginx cannot but refuse by name: a `test_command` may hand on to a container or another machine. Where this is
not possible `live` points to the candidate while it is being tested, and back if it is refused.
"""

from __future__ import annotations

import os

from jlabd.nginx.command import COMMAND_TIMEOUT_S, NOT_FOUND, CommandResult, CommandRunner, PublishError, problem
from jlabd.nginx.generations import Generations
from jlabd.spec import NginxSpec

_QUESTION = "jlabd_asks_whether_nginx_reads_this"
_REFUSED = {"main.conf": f"{_QUESTION};\n"}


class Trial:
    """Tests candidates for one daemon."""

    def __init__(self, run: CommandRunner) -> None:
        self._run = run
        self._proven: set[tuple[tuple[str, ...], str]] = set()
        """Test commands, and folders, that are known to see what they are shown."""

    async def passes_unseen(self, folder: Generations, nginx: NginxSpec, candidate: int) -> bool:
        """Return whether nginx has accepted it, unseen by a running one; False: it has to be tested in place.

        Raises PublishError if it is refused, OSError.
        """
        result = await self._run(nginx.test_command, COMMAND_TIMEOUT_S, view=folder.view(candidate))
        if result.without_view:
            return False
        trouble = problem(nginx.test_command, result)
        if trouble and self._is_believed(nginx, result):
            raise _refused(trouble, result)
        return not trouble and await self._sees_what_it_is_shown(folder, nginx)

    @staticmethod
    def _is_believed(nginx: NginxSpec, result: CommandResult) -> bool:
        """Say whether the refusal would be the same outside: in a user namespace there is no sudo and no capability."""
        return os.geteuid() == 0 or f" in {nginx.config_dir}/" in result.output

    async def _sees_what_it_is_shown(self, folder: Generations, nginx: NginxSpec) -> bool:
        key = nginx.test_command, nginx.config_dir
        if key not in self._proven:
            number = folder.next_number()
            try:
                await folder.write(number, _REFUSED)
                result = await self._run(nginx.test_command, COMMAND_TIMEOUT_S, view=folder.view(number))
            finally:
                folder.drop(number)
            if result.status != 0 and _QUESTION in result.output:
                self._proven.add(key)
        return key in self._proven

    async def test_in_place(self, nginx: NginxSpec) -> None:
        """Test what `live` points to. Raises PublishError if it is refused."""
        result = await self._run(nginx.test_command, COMMAND_TIMEOUT_S)
        if trouble := problem(nginx.test_command, result):
            raise _refused(trouble, result)


def _refused(trouble: str, result: CommandResult) -> PublishError:
    return PublishError(
        f"nginx does not accept the configuration, so nothing was changed: {trouble}",
        refused=result.status != NOT_FOUND,
    )
