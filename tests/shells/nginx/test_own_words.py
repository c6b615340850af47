"""What an administrator tells nginx in words of her own: directives, and a template."""

import re
from dataclasses import replace

from jlabd.spec import RouteSpec
from tests.shells.nginx.servers import configured
from tests.shells.nginx.site import BOB, LAB


async def test_own_directives(small_site, labs):
    """`extra` stands in the instance's location; it cannot get out of it, and nginx says where it is wrong."""
    alice = await labs.start("alice", route=RouteSpec(extra="add_header X-Own yes;\nlimit_except GET { deny all; }\n"))
    bob = await labs.start("bob", server_name=BOB)
    await small_site.serve(alice, bob)
    assert (await small_site.ask(LAB, "/alice/"))[1]["X-Own"] == "yes"
    assert "X-Own" not in (await small_site.ask(BOB, "/"))[1]
    for extra in ("}", "} location /x {", "nonsense;", 'add_header X "', "add_header X-Own yes", "include"):
        wrong = replace(alice, route=RouteSpec(extra=extra))
        outcome = await small_site.publisher.publish(configured(small_site.spec(), wrong, bob))
        assert re.search(r"/live/extra/alice.conf:[12]\b", outcome.error), extra
        assert (await small_site.ask(LAB, "/alice/"))[0] == 200


async def test_an_own_template(small_site, labs):
    """A template takes the place of ours and may include parts of ours; a change of it is a new configuration."""
    template = small_site.server.folder / "own.j2"
    template.write_text(
        '{% include "redirect.j2" %}\nserver { {% include "listen.j2" %}{% include "proxy.j2" %}\n'
        'location / { add_header X-Template "{{ name }}"; set $jlabd_again ""; proxy_pass {{ upstream | quoted }}; }\n'
        "}\n"
    )
    bob = await labs.start("bob", server_name=BOB, route=RouteSpec(template=str(template)))
    await small_site.serve(bob)
    status, headers, _ = await small_site.ask(BOB, "/x")
    assert (status, headers["X-Template"]) == (200, "bob")
    assert (await small_site.ask(BOB, "/x", tls=False))[0] == 308
    assert not (await small_site.serve(bob)).changed
    template.write_text(template.read_text() + "# changed\n")
    assert (await small_site.serve(bob)).changed
    template.unlink()
    outcome = await small_site.publisher.publish(configured(small_site.spec(), bob))
    assert f"The template {template} cannot be read: No such file or directory." in outcome.error
