"""A local HTTP server that fails in every way a mirror does. The first part of a path says how.

/ok/NAME        as it should be, ranges included          /plain/NAME    without ranges and without a tag
/drop/NAME      breaks off half-way; goes on when asked    /dropplain/N   breaks off half-way, no tag, every time
/liar/NAME      half of it, and says that this is all      /wrong/NAME    other bytes of the same length
/page/NAME      a web page that says sorry, status 200     /gone/NAME     404
/moved/NAME     breaks off half-way; another file, with another tag, the next time
"""

from __future__ import annotations

import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAGE = b"<html>This file has moved.</html>"


class FlakyServer:
    """`files` are what it serves, by name; `requests` counts what it was asked, `ranges` lists the ranges."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.requests: Counter[str] = Counter()
        self.ranges: list[str] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                owner.answer(self)

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        """Stop serving."""
        self._http.shutdown()
        self._http.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """One request."""
        _, how, name = request.path.split("/", 2)
        self.requests[request.path] += 1
        content = self.files.get(name)
        if content is None or how == "gone":
            return request.send_error(404)
        if how == "page":
            return self._send(request, PAGE)
        if how == "wrong":
            return self._send(request, bytes(255 - b for b in content))
        if how == "liar":
            return self._send(request, content[: len(content) // 2])
        tag = f'"{how}"' if how in ("ok", "drop") else None
        if how == "moved":
            content = content if self.requests[request.path] == 1 else content[::-1]
            tag = f'"{self.requests[request.path]}"'
        start = self._start(request, tag, len(content))
        if start >= len(content):
            return request.send_error(416)
        breaks = how == "dropplain" or (how in ("drop", "moved") and not request.headers.get("Range"))
        sent = content[start : start + (len(content) - start) // 2] if breaks else content[start:]
        self._send(request, sent, len(content) - start, tag, (start, len(content)) if start else None)
        return None

    def _start(self, request: BaseHTTPRequestHandler, tag: str | None, length: int) -> int:
        asked = request.headers.get("Range", "")
        if asked:
            self.ranges.append(asked)
        if not asked or tag is None or request.headers.get("If-Range", tag) != tag:
            return 0
        return min(int(asked.removeprefix("bytes=").rstrip("-")), length)

    @staticmethod
    def _send(
        request: BaseHTTPRequestHandler,
        body: bytes,
        promised: int | None = None,
        tag: str | None = None,
        part: tuple[int, int] | None = None,
    ) -> None:
        request.send_response(206 if part else 200)
        request.send_header("Content-Length", str(len(body) if promised is None else promised))
        if part:
            request.send_header("Content-Range", f"bytes {part[0]}-{part[1] - 1}/{part[1]}")
        if tag:
            request.send_header("ETag", tag)
        request.end_headers()
        request.wfile.write(body)
        request.close_connection = True
