"""A certificate authority of one's own, by the openssl command, and places where certbot puts what it got."""

import ssl
import subprocess
from pathlib import Path

PLAIN = "[req]\ndistinguished_name = name\n[name]\n"
"""No extension that is not asked for: the system's own configuration has some."""


class Authority:
    """Gives out certificates below `folder`; `trusting()` makes clients that know it."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.folder.mkdir(exist_ok=True)
        (self.folder / "openssl.cnf").write_text(PLAIN)
        self._made = 0
        self._new("ca", "/CN=Test CA", "-addext", "basicConstraints=critical,CA:TRUE")

    def certificate(self, *names, days=30, fields=()):
        """Return the paths of a certificate and its key for host names or addresses."""
        self._made += 1
        alternatives = ",".join(f"{'IP' if name.replace('.', '').isdigit() else 'DNS'}:{name}" for name in names)
        name = f"{self._made}-{names[0].replace('*', '_')}"
        ours = ("-CA", self.folder / "ca.pem", "-CAkey", self.folder / "ca.key")
        self._new(name, f"/CN={names[0]}", "-addext", f"subjectAltName={alternatives}", *ours, *fields, days=days)
        return str(self.folder / f"{name}.pem"), str(self.folder / f"{name}.key")

    def lend(self):
        """Let everybody read the keys: nginx may run as an ordinary user."""
        for path in self.folder.glob("*.key"):
            path.chmod(0o644)

    def lock(self, name):
        """Protect a key of ours by a passphrase, as a file beside it."""
        made = ("openssl", "ec", "-in", "ca.key", "-aes128", "-passout", "pass:x", "-out", name)
        subprocess.run(made, cwd=self.folder, check=True, capture_output=True)

    def live(self, name, pair):
        """Lay links to a certificate and its key as certbot does, or swing them; return the links' paths."""
        links = []
        for path, kind in zip(pair, ("fullchain", "privkey"), strict=True):
            link = self.folder / "live" / name / f"{kind}.pem"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(path)
            links.append(str(link))
        return tuple(links)

    def trusting(self):
        """Return a client's context that trusts this authority alone."""
        return ssl.create_default_context(cafile=str(self.folder / "ca.pem"))

    def _new(self, name, subject, *more, days=30):
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{name}.key")
        made = ("openssl", "req", "-x509", "-config", "openssl.cnf", "-subj", subject, "-days", str(days), *key, *more)
        subprocess.run([*made, "-out", f"{name}.pem"], cwd=self.folder, check=True, capture_output=True)
