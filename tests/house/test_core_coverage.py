"""The pure core is tested whole, by its own tests alone."""

import subprocess
import sys

from house.tree import TOP


def test_every_branch_of_the_core_is_taken():
    """tests/core reaches each line and each branch of what decides."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/core"),
            *("--cov=jlabd.core", "--cov-branch", "--cov-fail-under=100", "--cov-report=term-missing:skip-covered"),
        ],
        cwd=TOP,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
