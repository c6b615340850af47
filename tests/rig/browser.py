"""A browser's half of Jupyter's protocol: log in, start a kernel, run a cell over the websocket."""

import json
import re
import uuid

import requests
import websocket


class Browser:
    """Speaks to one lab through its public address, with cookies and the Host that a browser would send."""

    def __init__(self, port, base_url, host="127.0.0.1"):
        self.host = f"{host}:{port}"
        self.port = port
        self.base_url = base_url
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers["Host"] = self.host

    def url(self, path):
        """Return the address to connect to; the Host header may say another name."""
        return f"http://127.0.0.1:{self.port}{self.base_url}{path}"

    def get(self, path="", **options):
        """GET, without following redirects unless asked."""
        return self.session.get(self.url(path), timeout=30, **{"allow_redirects": False, **options})

    def post(self, path, **options):
        """POST as the page's own script would."""
        headers = {"X-XSRFToken": self.session.cookies.get("_xsrf") or "", **options.pop("headers", {})}
        return self.session.post(self.url(path), headers=headers, timeout=60, allow_redirects=False, **options)

    def log_in(self, password):
        """Fill in the login form; return the answer to it."""
        page = self.get("login")
        field = re.search(r'name="_xsrf" value="([^"]+)"', page.text)
        data = {"password": password, "_xsrf": field.group(1) if field else self.session.cookies.get("_xsrf")}
        return self.post("login", data=data)

    def follow_link(self, token):
        """Open the login link."""
        return self.get("lab", params={"token": token}, allow_redirects=True)

    def start_kernel(self):
        """Start a kernel; return its id."""
        answer = self.post("api/kernels", json={"name": "python3"})
        assert answer.status_code == 201, answer.text
        return answer.json()["id"]

    def connect(self, kernel):
        """Open the kernel's websocket as the page would."""
        cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in self.session.cookies)
        return websocket.create_connection(
            f"ws://127.0.0.1:{self.port}{self.base_url}api/kernels/{kernel}/channels?session_id={uuid.uuid4().hex}",
            host=self.host,
            origin=f"http://{self.host}",
            cookie=cookies,
            timeout=60,
        )

    def execute(self, kernel, code):
        """Run `code` and return its result or what it printed."""
        channel = self.connect(kernel)
        try:
            return run_cell(channel, code)
        finally:
            channel.close()


def run_cell(channel, code):
    """Send an execute_request and return the text that came of it."""
    number = uuid.uuid4().hex
    header = {
        "msg_id": number,
        "username": "",
        "session": uuid.uuid4().hex,
        "msg_type": "execute_request",
        "version": "5.3",
    }
    content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False}
    message = {
        "header": header,
        "parent_header": {},
        "metadata": {},
        "content": content,
        "channel": "shell",
        "buffers": [],
    }
    channel.send(json.dumps(message))
    text = ""
    while True:
        answer = json.loads(channel.recv())
        if answer["parent_header"].get("msg_id") != number:
            continue
        match answer["msg_type"]:
            case "execute_result":
                text += answer["content"]["data"]["text/plain"]
            case "stream":
                text += answer["content"]["text"]
            case "error":
                raise AssertionError("\n".join(answer["content"]["traceback"]))
            case "status" if answer["content"]["execution_state"] == "idle":
                return text
