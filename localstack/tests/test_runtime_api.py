"""The Runtime API with an internal extension: when the environment counts as idle."""

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from tarn_localstack.functions.runtime_api import EXTENSIONS, RUNTIME, Invocation, RuntimeApi


@pytest.fixture
def api() -> Iterator[RuntimeApi]:
    made = RuntimeApi("probe")
    yield made
    made.close()


def call(api: RuntimeApi, path: str, body: bytes | None = None, **headers: str) -> tuple[dict, bytes]:
    request = urllib.request.Request(f"http://{api.address}{path}", data=body, headers={k.replace("_", "-"): v for k, v in headers.items()})
    with urllib.request.urlopen(request, timeout=5) as answer:
        return dict(answer.headers), answer.read()


def test_an_extension_hears_of_every_invocation_and_delays_the_next(api: RuntimeApi) -> None:
    headers, body = call(api, f"{EXTENSIONS}/register", b'{"events": ["INVOKE"]}', Lambda_Extension_Name="hydrate")
    assert json.loads(body)["functionName"] == "probe"
    identifier = headers["Lambda-Extension-Identifier"]
    events: list[dict] = []
    heard = threading.Semaphore(0)
    go_on = threading.Semaphore(0)

    def extension() -> None:
        while True:
            try:
                _, body = call(api, f"{EXTENSIONS}/event/next", Lambda_Extension_Identifier=identifier)
            except OSError:
                return
            events.append(json.loads(body))
            heard.release()
            go_on.acquire(timeout=5)

    def runtime() -> None:
        while True:
            try:
                headers, _ = call(api, f"{RUNTIME}/invocation/next")
            except OSError:
                return
            call(api, f"{RUNTIME}/invocation/{headers['Lambda-Runtime-Aws-Request-Id']}/response", b"{}")

    threading.Thread(target=runtime, daemon=True).start()
    assert not api.wait_idle(0.2), "an extension that has not asked for its first event is still starting"
    threading.Thread(target=extension, daemon=True).start()
    assert api.wait_idle(5)
    one = Invocation("one", b"{}", 1_000, "arn")
    api.submit(one)
    assert one.outcome.result(5).body == b"{}"
    assert heard.acquire(timeout=5)
    assert events[0]["eventType"] == "INVOKE" and events[0]["requestId"] == "one"
    assert not api.wait_idle(0.2), "the response is out, the extension still works"
    go_on.release()
    assert api.wait_idle(5)


def test_an_answer_to_a_forgotten_invocation_is_refused(api: RuntimeApi) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        call(api, f"{RUNTIME}/invocation/unknown/response", b"{}")
    assert refused.value.code == 400


def test_unknown_paths_are_not_found(api: RuntimeApi) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        call(api, "/elsewhere")
    assert refused.value.code == 404
