"""An HTTP server on the loopback that misbehaves as it is told, and counts what it was asked for."""

import contextlib
import hashlib
import io
import threading
import zipfile
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Server:
    """`files` maps paths to bytes. `plan` holds one dict for each of the next requests, none for "as it should be":

    cut: send so many bytes of the body and close    status, headers: answer that, with no body
    stall: send so many bytes and then nothing       before: a function to call first    reason: the words beside the status
    """

    files: dict[str, bytes] = field(default_factory=dict)
    plan: list[dict] = field(default_factory=list)
    ranges: bool = True
    validator: str = "ETag"  # or "Last-Modified", or "" for none
    heed: bool = True  # If-Range
    length: str = "length"  # or "chunked", or "none": the end of the connection is the end of the file
    asked: list[dict] = field(default_factory=list)  # range, if_range, sent
    url: str = ""
    free: threading.Event = field(default_factory=threading.Event)  # ends a stall

    def sent(self) -> list[int]:
        """Bytes of the file sent, request by request."""
        return [request["sent"] for request in self.asked]

    def first(self) -> list[int]:
        """The first byte that was asked for, request by request."""
        return [int(request["range"][6:-1]) if request["range"] else 0 for request in self.asked]


def zipped(files):
    """The bytes of a zip of `files`, a dict of names and contents."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        for name, data in files.items():
            file.writestr(name, data)
    return stream.getvalue()


@contextlib.contextmanager
def serve(**options):
    """A `Server` at work, on a free port."""
    state = Server(**options)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle(self):
            with contextlib.suppress(ConnectionError):  # the client was killed
                super().handle()

        def do_GET(self):
            plan = state.plan.pop(0) if state.plan else {}
            request = {"range": self.headers["Range"], "if_range": self.headers["If-Range"], "sent": 0}
            state.asked.append(request)
            plan.get("before", lambda: None)()
            body = state.files.get(self.path)
            if body is None or "status" in plan:
                self.reply(plan.get("status", 404), {"Content-Length": "0"} | plan.get("headers", {}), plan.get("reason"))
                return
            tag = f'"{hashlib.md5(body).hexdigest()}"'
            stamp = f"Mon, 01 Jan 2024 00:00:{len(body) % 60:02d} GMT"
            headers = {"ETag": tag, "Last-Modified": stamp}
            headers = {name: value for name, value in headers.items() if name == state.validator}
            fresh = not state.heed or request["if_range"] in (None, *headers.values())
            start = int(request["range"][6:-1]) if request["range"] and state.ranges and fresh else 0
            if start >= len(body):
                self.reply(416, {"Content-Length": "0"})
                return
            if state.length == "chunked":
                headers["Transfer-Encoding"] = "chunked"
            elif state.length == "none":
                headers["Connection"] = "close"
            else:
                headers["Content-Length"] = str(len(body) - start)
            if start:
                headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
                if request["if_range"]:
                    headers.pop("Last-Modified", None)  # as RFC 9110, 15.3.7, wants it
            self.reply(206 if start else 200, headers | plan.get("headers", {}))
            self.send(body[start:], plan, request)

        def reply(self, status, headers, reason=None):
            self.send_response(status, reason)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

        def send(self, data, plan, request):
            stop = plan.get("cut", plan.get("stall", len(data)))
            data = data[:stop]
            request["sent"] = len(data)  # before the client can see them
            with contextlib.suppress(ConnectionError):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data) if state.length == "chunked" else data)
                self.wfile.flush()
                if "stall" in plan:
                    state.free.wait(20)
                if state.length == "chunked" and not {"cut", "stall"} & plan.keys():
                    self.wfile.write(b"0\r\n\r\n")
            if {"cut", "stall"} & plan.keys() or state.length == "none":
                self.close_connection = True

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.free.set()
        server.shutdown()
        server.server_close()
        thread.join()
