"""nginx's servers, as people write them, in jlabd's words."""

import pytest

from jlabd.config.importers import nginx_syntax
from jlabd.config.importers.findings import Given, ImportFailedError

PROGRAM = "[program:lab]\nuser=alice\ncommand=/v/bin/jupyter lab --port=8888\n"
SERVER = r"""
map $http_upgrade $connection_upgrade {
    default upgrade;
    '' close;
}
upstream notebook {
    server localhost:8888 fail_timeout=0;
}
server {
    listen 80;
    listen [::]:80;
    server_name lab.example.org www.lab.example.org;
    client_max_body_size 2g;
    access_log /var/log/nginx/lab.log;
    auth_basic "Members only";
    location / {
        proxy_pass http://notebook;
        proxy_set_header Host $host;   # as the lab knows itself
        proxy_http_version 1.1;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection $connection_upgrade;
        proxy_read_timeout 7d;
        proxy_buffering off;
    }
    location ~* /(api/kernels/[^/]+/(channels|iopub|shell|stdin)|terminals/websocket)/? {
        proxy_pass http://notebook;
    }
    location ~ /.well-known { allow all; }
}
"""


def test_server(files):
    """A host of its own: server_name, sizes and times; headers, websockets and logs are jlabd's."""
    result = files.imported({"lab.ini": PROGRAM, "lab.conf": SERVER})
    assert result.only == {
        "user": "alice",
        "venv": "/v",
        "server_name": "lab.example.org",
        "nginx": {"client_max_body_size": "2g", "read_timeout": "7d"},
    }
    assert "nginx" not in result.table
    assert "unix socket" in result.why("port 8888")
    assert "websockets" in result.why("location ~* /(api/kernels")
    assert "kept people out" in result.why("auth_basic Members only")
    assert "needs" in result.why("proxy_set_header Host $host, proxy_http_version 1.1")
    assert "one name" in result.why("server_name www.lab.example.org")
    assert "of its own" in result.why("map $http_upgrade $connection_upgrade")
    assert "instances only" in result.why("location ~ /.well-known")


def test_paths_on_one_host(files):
    """Several labs below paths of one host: base_url each, and the host is nginx's."""
    programs = "".join(
        f"[program:{name}]\nuser={name}\ncommand=/v/bin/jupyter lab --port={port} --ServerApp.base_url=/{name}\n"
        for name, port in (("alice", 8881), ("bob", 8882))
    )
    server = """
server {
    listen 8080;
    server_name labs.example.org;
    location /alice { proxy_pass http://127.0.0.1:8881; proxy_read_timeout 60s; }
    location ^~ /bob/ { proxy_pass http://127.0.0.1:8882/bob/; client_max_body_size 0; }
}
"""
    result = files.imported({"labs.ini": programs, "labs.conf": server})
    assert result.table["nginx"] == {"server_name": ["labs.example.org"], "listen": ["8080"]}
    alice, bob = result.table["instance"]["alice"], result.table["instance"]["bob"]
    assert (alice["base_url"], bob["base_url"]) == ("/alice/", "/bob/")
    assert bob["nginx"] == {"client_max_body_size": "0"}
    assert "listen" not in alice
    assert "waits a day" in result.why("proxy_read_timeout 60s")


def test_own_host_name_of_the_machine(files):
    """The name that all labs share by default cannot be one lab's: the lab gets its root instead."""
    server = "server { listen 80; server_name own.example.com; location / { proxy_pass http://127.0.0.1:8888; } }"
    result = files.imported({"lab.ini": PROGRAM, "lab.conf": server})
    assert result.only["base_url"] == "/"
    assert result.table["nginx"] == {"server_name": ["own.example.com"]}


TLS = """
server {
    if ($host = lab.example.org) { return 301 https://$host$request_uri; } # managed by Certbot
    listen 80;
    server_name lab.example.org;
    location /.well-known/acme-challenge/ { root /var/www/certbot; }
    return 404;
}
server {
    listen 443 ssl http2;
    server_name lab.example.org;
    ssl_certificate /etc/letsencrypt/live/lab.example.org/fullchain.pem; # managed by Certbot
    ssl_certificate_key /etc/letsencrypt/live/lab.example.org/privkey.pem;
    include /etc/letsencrypt/options-ssl-nginx.conf;
    ssl_dhparam /etc/letsencrypt/ssl-dhparams.pem;
    ssl_protocols TLSv1 TLSv1.2;
    add_header Strict-Transport-Security "max-age=31536000; includeSubDomains" always;
    location PATH { proxy_pass http://127.0.0.1:8888; }
}
"""
CERTIFICATE = {
    "tls_certificate": "/etc/letsencrypt/live/lab.example.org/fullchain.pem",
    "tls_certificate_key": "/etc/letsencrypt/live/lab.example.org/privkey.pem",
}


def test_tls_of_a_host_of_its_own(files):
    """The certificate is the lab's, and nginx speaks TLS on the same ports; ciphers and protocols are jlabd's."""
    result = files.imported({"lab.ini": PROGRAM, "lab.conf": TLS.replace("PATH", "/")})
    assert result.only["nginx"] == CERTIFICATE
    shared = {"listen": ["80", "443 ssl"], "hsts": 31536000, "acme_root": "/var/www/certbot"}
    assert result.table["nginx"] == shared
    assert "sends people on to https" in result.why("server lab.example.org")
    assert "modern TLS only" in result.why("ssl_dhparam")


def test_tls_of_a_shared_host(files):
    """Below a path the certificate is that of the host that all labs share, which listens by itself."""
    text = TLS.replace("PATH", "/alice/").replace("443 ssl http2", "8443 ssl")
    result = files.imported({"lab.ini": PROGRAM, "lab.conf": text})
    assert result.table["nginx"] == CERTIFICATE | {
        "server_name": ["lab.example.org"],
        "listen": ["80", "8443 ssl"],
        "hsts": 31536000,
        "acme_root": "/var/www/certbot",
    }
    assert result.only["base_url"] == "/alice/"
    usual = files.imported({"lab.ini": PROGRAM, "lab.conf": TLS.replace("PATH", "/alice/")})
    assert "listen" not in usual.table["nginx"]


def test_named_location(files):
    """A location that goes on to a @name leads where that leads."""
    server = """
upstream jlab { server unix:/run/jlab.sock; }
server {
    server_name x.example.org;
    location /jlab { error_page 418 = @jlab; try_files /nonexistent @jlab; }
    location @jlab { proxy_pass http://jlab; proxy_read_timeout 1d; }
}
"""
    options = "--ServerApp.sock=/run/jlab.sock --ServerApp.base_url=/jlab/"
    program = f"[program:lab]\nuser=alice\ncommand=/v/bin/jupyter lab {options}\n"
    result = files.imported({"lab.ini": program, "lab.conf": server})
    assert result.only["base_url"] == "/jlab/"
    assert result.only["nginx"] == {"read_timeout": "1d"}
    assert "hands it over" in result.why("ServerApp.sock")


def test_server_that_leads_elsewhere(files):
    """A server of another program is said to be of no lab."""
    server = "server { server_name db.example.org; location / { proxy_pass http://127.0.0.1:5000; } }"
    result = files.imported({"lab.ini": PROGRAM, "db.conf": server})
    assert "no lab that was given answers there" in result.why("a server that leads to 5000")
    assert result.only["listen"] == "127.0.0.1:8888"


def test_server_alone(files):
    """A server without its lab becomes an instance that wants to know whose it is."""
    result = files.one("lab.conf", SERVER)
    assert list(result.table["instance"]) == ["lab"]
    assert result.only["server_name"] == "lab.example.org"
    assert result.only["user"] == "CHANGE-ME"


def test_whole_main_file(files):
    """Servers in the http block of a whole nginx.conf are found, and its sizes count for them."""
    text = "user nginx;\nevents {}\nhttp {\n client_max_body_size 64m;\n include mime.types;\n" + SERVER + "\n}\n"
    result = files.imported({"lab.ini": PROGRAM, "nginx.conf": text.replace("    client_max_body_size 2g;\n", "")})
    assert result.only["nginx"]["client_max_body_size"] == "64m"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("server {\n  location / {\n proxy_pass http://x;\n}\n", ":1: the block of server is not closed"),
        ("server {\n}\n}\n", ":3: } stands where nginx expects a directive"),
        ("server {\n proxy_pass http://x\n}\n", ":3: } stands where"),
        ('server {\n server_name "x;\n}\n', ":2: a quotation mark is not closed"),
        ("server {" + "location / {" * 100, "is nested too deeply"),
        ("server { listen 80; }\nupstream", ":2: upstream is not ended by a semicolon"),
    ],
)
def test_errors_name_the_line(files, text, error):
    """What nginx could not read is an error with file and line."""
    with pytest.raises(ImportFailedError) as failed:
        files.one("lab.conf", text)
    assert error in str(failed.value)


def test_words(files):
    """Quotes, escapes, variables in braces and comments are nginx's."""
    text = 'a "x;{}\\"y" \'b c\' ${var}/d e\\;f; # g;\nh{i j#k;}'
    (first, block) = nginx_syntax.parse(Given("/x", text)).block
    assert (first.name, first.args, first.line) == ("a", ['x;{}"y', "b c", "${var}/d", "e\\;f"], 1)
    assert (block.name, block.block[0].args, block.block[0].line) == ("h", ["j#k"], 2)
