"""A policy of SELinux, linked from modules as `semodule` does it, and questions to it. It is not in force anywhere."""

import json
import shutil
import subprocess

MODULES = ["base", "apache", "unconfined", "ssh", "unprivuser", "staff", "sssd", "nscd", "xserver", "xdg", "getty"]
"""The part of Debian's policy that has nginx and the users, and what that part requires."""

SYSTEM_PYTHON = "/usr/bin/python3"
"""Has setools, which is not on PyPI."""

# Answers questions about the policy that it was started with, one a line.
ASKER = """
import json, sys
import setools
policy = setools.SELinuxPolicy(sys.argv[1])
def allowed(source, target, kind):
    found = setools.TERuleQuery(policy, ruletype=["allow"], source=source, target=target, tclass=[kind]).results()
    return sorted({permission for rule in found for permission in rule.perms})
def becomes(source, target):
    query = setools.TERuleQuery(policy, ruletype=["type_transition"], source=source, target=target, tclass=["process"])
    return next((str(rule.default) for rule in query.results()), None)
def having(attribute):
    return [str(kind) for kind in policy.lookup_typeattr(attribute).expand()]
for line in sys.stdin:
    name, *words = json.loads(line)
    print(json.dumps(globals()[name](*words)), flush=True)
"""


class Policy:
    """A store of modules below `root`, linked, for the policy named `kind`. To be asked within a `with`."""

    def __init__(self, root, kind="default"):
        self.root = root
        self.kind = kind
        self._asker = None

    @classmethod
    def of(cls, files, root, kind="default"):
        """Return one that has MODULES out of the files of Debian's package."""
        made = cls(root, kind)
        shutil.copytree(files / "etc/selinux/default", made.place)
        for folder in (made.place / "policy", made.place / "contexts/files", root / "var/lib/selinux" / kind):
            folder.mkdir(parents=True, exist_ok=True)
        (root / "etc/selinux/config").write_text(f"SELINUXTYPE={kind}\n")
        made.change("-i", *(files / f"usr/share/selinux/default/{name}.pp.bz2" for name in MODULES))
        return made

    @property
    def place(self):
        """Return where the linked policy, its contexts and lists are."""
        return self.root / "etc/selinux" / self.kind

    def copy(self, root):
        """Return another one with the same modules."""
        shutil.copytree(self.root, root, symlinks=True)
        return Policy(root, self.kind)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._asker is not None:
            self._asker.communicate()
            self._asker = None

    def change(self, *words):
        """Install (-i) or remove (-r) modules, and link."""
        assert self._asker is None, "it has been asked already"
        command = ["semodule", "-p", self.root, "-s", self.kind, "-n", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def _ask(self, *words):
        if self._asker is None:
            (binary,) = (self.place / "policy").iterdir()
            command = [SYSTEM_PYTHON, "-c", ASKER, binary]
            self._asker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._asker.stdin.write(json.dumps(words) + "\n")
        self._asker.stdin.flush()
        return json.loads(self._asker.stdout.readline())

    def allowed(self, source, target, kind):
        """Return what `source` may do to objects of the class `kind` that have the type `target`."""
        return set(self._ask("allowed", source, target, kind))

    def becomes(self, source, target):
        """Return the domain that `source` gets into by executing files of the type `target`, None if it stays."""
        return self._ask("becomes", source, target)

    def having(self, attribute):
        """Return the types that have an attribute."""
        return self._ask("having", attribute)

    def label(self, path, kind):
        """Return the type that a path gets; `kind` is file, dir, link or socket."""
        contexts = self.place / "contexts/files/file_contexts"
        command = ["matchpathcon", "-n", "-f", contexts, "-m", kind, path]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return said.strip().split(":")[2]
