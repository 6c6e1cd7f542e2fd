"""The Lambda Runtime API and the part of the Extensions API that internal extensions use, for one environment.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html, …/runtimes-extensions-api.html

An environment does one invocation at a time. It is *idle* when the runtime waits in `invocation/next` and every registered
extension waits in `event/next`; only then is the next event handed out, so what an extension does after the response
delays the next invocation, as it does in Lambda. What Lambda does besides, freezing idle processes, does not happen here.
"""

from __future__ import annotations

import json
import threading
import uuid
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

RUNTIME = "/2018-06-01/runtime"
EXTENSIONS = "/2020-01-01/extension"
# A synchronous invocation's request and response, in bytes; larger responses are refused as Lambda refuses them.
PAYLOAD_BYTES = 6 * 1024 * 1024


@dataclass(frozen=True)
class Outcome:
    """What an invocation came to: the response's body, or an error object as the runtime or the environment reports it."""

    body: bytes
    is_error: bool = False

    @staticmethod
    def error(kind: str, message: str) -> Outcome:
        return Outcome(json.dumps({"errorType": kind, "errorMessage": message}).encode(), is_error=True)


@dataclass(frozen=True)
class Invocation:
    """One event on its way through the environment."""

    request_id: str
    payload: bytes
    deadline_ms: int
    function_arn: str
    trace_id: str = ""
    outcome: Future[Outcome] = field(default_factory=Future)

    def settle(self, outcome: Outcome) -> None:
        """The first outcome counts: a response that comes after the time-out is ignored."""
        try:
            self.outcome.set_result(outcome)
        except InvalidStateError:
            pass


@dataclass
class _Extension:
    name: str
    waiting: bool = False
    events: list[dict[str, object]] = field(default_factory=list)


class RuntimeApi:
    """A server on a free port of loopback. One per environment; `reset` before each new process."""

    def __init__(self, function_name: str, version: str = "$LATEST", handler: str = "bootstrap") -> None:
        self.function = {"functionName": function_name, "functionVersion": version, "handler": handler}
        self._changed = threading.Condition()
        self._closed = False
        self._begin()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()

    def _begin(self) -> None:
        self._epoch = object()
        self._runtime_waits = False
        self._extensions: dict[str, _Extension] = {}
        self._pending: Invocation | None = None
        self._current: Invocation | None = None
        self._init_error: Outcome | None = None

    @property
    def address(self) -> str:
        """What AWS_LAMBDA_RUNTIME_API holds."""
        return f"127.0.0.1:{self._server.server_port}"

    def reset(self) -> None:
        """Forgets the process that was served; requests of it that still wait get an answer that ends it."""
        with self._changed:
            self._begin()
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._begin()
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()

    def wait_idle(self, seconds: float) -> bool:
        """Whether the environment became ready for an event in time. False as well if its initialisation failed."""
        with self._changed:
            self._changed.wait_for(lambda: self._idle() or self._init_error or self._closed, seconds)
            return self._idle()

    @property
    def init_error(self) -> Outcome | None:
        """What the runtime posted to init/error."""
        return self._init_error

    def submit(self, invocation: Invocation) -> None:
        """Hands the event to the runtime. The environment must be idle."""
        with self._changed:
            self._pending = self._current = invocation
            for extension in self._extensions.values():
                extension.events.append(
                    {
                        "eventType": "INVOKE",
                        "deadlineMs": invocation.deadline_ms,
                        "requestId": invocation.request_id,
                        "invokedFunctionArn": invocation.function_arn,
                        "tracing": {"type": "X-Amzn-Trace-Id", "value": invocation.trace_id},
                    }
                )
            self._changed.notify_all()

    def fail(self, outcome: Outcome) -> None:
        """Settles whatever is under way: the process has ended."""
        with self._changed:
            if self._current:
                self._current.settle(outcome)
            else:
                self._init_error = self._init_error or outcome
            self._changed.notify_all()

    def _idle(self) -> bool:
        return self._runtime_waits and self._pending is None and all(e.waiting for e in self._extensions.values())

    # --- What the process asks, each on a thread of its own ---------------------------------------------------------------

    def next_invocation(self) -> Invocation | None:
        """Blocks until there is an event; None when the process is not served any more."""
        with self._changed:
            epoch, self._runtime_waits = self._epoch, True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._pending or self._epoch is not epoch)
            if self._epoch is not epoch:
                return None
            invocation, self._pending, self._runtime_waits = self._pending, None, False
            return invocation

    def respond(self, request_id: str, outcome: Outcome) -> bool:
        """Whether the invocation is known."""
        with self._changed:
            if self._current is None or self._current.request_id != request_id:
                return False
            if len(outcome.body) > PAYLOAD_BYTES:
                outcome = Outcome.error(
                    "Function.ResponseSizeTooLarge",
                    f"Response payload size ({len(outcome.body)} bytes) exceeded maximum allowed payload size ({PAYLOAD_BYTES} bytes).",
                )
            self._current.settle(outcome)
            self._current = None
            return True

    def report_init_error(self, body: bytes) -> None:
        with self._changed:
            self._init_error = Outcome(body, is_error=True)
            self._changed.notify_all()

    def register(self, name: str, events: list[str]) -> str:
        """An extension's identifier. One that wants no INVOKE never delays one."""
        with self._changed:
            identifier = str(uuid.uuid4())
            self._extensions[identifier] = _Extension(name, waiting="INVOKE" not in events)
            return identifier

    def next_extension_event(self, identifier: str) -> dict[str, object] | None:
        with self._changed:
            extension, epoch = self._extensions.get(identifier), self._epoch
            if extension is None:
                return None
            extension.waiting = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: extension.events or self._epoch is not epoch)
            if self._epoch is not epoch:
                return None
            extension.waiting = False
            return extension.events.pop(0)


def _handler(api: RuntimeApi) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # An answer is two writes, of headers and of the body; without this the second waits for an acknowledgement.
        disable_nagle_algorithm = True

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

        def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def body(self) -> bytes:
            if "chunked" not in self.headers.get("Transfer-Encoding", "").lower():
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            chunks = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return b"".join(chunks)

        def do_GET(self) -> None:
            if self.path == f"{RUNTIME}/invocation/next":
                invocation = api.next_invocation()
                if invocation is None:
                    return self.gone()
                return self.answer(
                    200,
                    invocation.payload,
                    {
                        "Lambda-Runtime-Aws-Request-Id": invocation.request_id,
                        "Lambda-Runtime-Deadline-Ms": str(invocation.deadline_ms),
                        "Lambda-Runtime-Invoked-Function-Arn": invocation.function_arn,
                        "Lambda-Runtime-Trace-Id": invocation.trace_id,
                    },
                )
            if self.path == f"{EXTENSIONS}/event/next":
                event = api.next_extension_event(self.headers.get("Lambda-Extension-Identifier", ""))
                return self.gone() if event is None else self.answer(200, json.dumps(event).encode())
            return self.answer(404)

        def do_POST(self) -> None:
            body = self.body()
            match self.path.removeprefix(RUNTIME).strip("/").split("/"):
                case ["invocation", request_id, "response" | "error" as kind]:
                    known = api.respond(request_id, Outcome(body, is_error=kind == "error"))
                    return self.answer(202, b'{"status":"OK"}') if known else self.answer(400, b'{"errorType":"InvalidRequestID"}')
                case ["init", "error"]:
                    api.report_init_error(body)
                    return self.answer(202, b'{"status":"OK"}')
            if self.path == f"{EXTENSIONS}/register":
                events = json.loads(body or b"{}").get("events", [])
                identifier = api.register(self.headers.get("Lambda-Extension-Name", ""), events)
                return self.answer(200, json.dumps(api.function).encode(), {"Lambda-Extension-Identifier": identifier})
            if self.path in (f"{EXTENSIONS}/init/error", f"{EXTENSIONS}/exit/error"):
                api.report_init_error(body)
                return self.answer(202, b'{"status":"OK"}')
            return self.answer(404)

        def gone(self) -> None:
            self.close_connection = True
            try:
                self.answer(410)
            except ConnectionError:
                pass  # The process that waited has ended, as it was meant to.

        do_PUT = do_POST

    return Handler
