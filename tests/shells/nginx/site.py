"""An nginx that speaks TLS, with an authority of our own, and who asks it."""

import asyncio
import socket
import subprocess

import aiohttp
from rig.nginx import free_port
from yarl import URL

from tests.shells.nginx.servers import configured, quick

LAB = "lab.example.com"
BOB = "bob.example.com"


class Site:
    """An nginx that speaks TLS on `secure` and not on `port`, and who asks it."""

    def __init__(self, server, authority, certificates):
        self.server = server
        self.publisher = quick(server.run)
        self.authority = authority
        self.shared, self.own = certificates
        self.secure = free_port()

    def spec(self, **more):
        """Return [nginx], with TLS."""
        listen = (f"127.0.0.1:{self.server.port}", f"127.0.0.1:{self.secure} ssl")
        tls = {"tls_certificate": self.shared[0], "tls_certificate_key": self.shared[1]}
        return self.server.spec(**({"listen": listen} | tls | more))

    async def serve(self, *instances, **more):
        """Put a configuration in force, and start nginx with it if it does not run."""
        outcome = await self.publisher.publish(configured(self.spec(**more), *instances))
        if self.server.process is None:
            await self.server.start()
            outcome = await self.publisher.publish(configured(self.spec(**more), *instances))
        assert outcome.ok, outcome.error
        return outcome

    async def ask(self, host, path, *, tls=True, **more):
        """Return status, headers and body of a GET."""
        port = self.secure if tls else self.server.port
        where = {"ssl": self.authority.trusting(), "server_hostname": host} if tls else {}
        headers = {"Host": f"{host}:{port}", **more.pop("headers", {})}
        url = URL(f"http{'s' * tls}://127.0.0.1:{port}{path}", encoded=True)
        async with (
            aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session,
            session.get(url, headers=headers, allow_redirects=False, **where, **more) as answer,
        ):
            return answer.status, answer.headers, await answer.text()

    def serial(self, name, context=None, port=None):
        """Shake hands and return the serial number of the certificate that is shown. Raises OSError."""
        with (
            socket.create_connection(("127.0.0.1", port or self.secure), timeout=10) as plain,
            (context or self.authority.trusting()).wrap_socket(plain, server_hostname=name) as shaken,
        ):
            return shaken.getpeercert()["serialNumber"]

    async def until_serial(self, name, serial):
        """Wait until nginx's new workers show a certificate."""
        async with asyncio.timeout(20):
            while await asyncio.to_thread(self.serial, name) != serial:  # noqa: ASYNC110  (another program, without an event)
                await asyncio.sleep(0.02)


def serial_of(pair):
    """Return the serial number of a certificate, as the ssl module writes it."""
    said = subprocess.run(["openssl", "x509", "-noout", "-serial", "-in", pair[0]], capture_output=True, check=True)
    return said.stdout.decode().strip().removeprefix("serial=")
