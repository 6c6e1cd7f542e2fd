"""What is measured is the time until a function asks for its first event."""

from pathlib import Path

import pytest
from tarn_localstack import cold_start
from tarn_localstack.cold_start import NotReady, measure, summary


def test_each_run_is_a_new_process_that_asked_for_an_event(packages: Path) -> None:
    runs = measure(packages / "query-fn.zip", 3)
    assert len(runs) == 3
    # An interpreter has to start, and none takes its ten seconds.
    assert all(1 < milliseconds < 10_000 for milliseconds in runs)
    assert summary("probe", [50.0, 10.0, 30.0, 20.0]) == "probe: median 20.0 ms, fastest 10.0 ms, slowest 30.0 ms; the first 50.0 ms"


def test_a_function_that_fails_is_no_measurement(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cold_start.SETTINGS, "FAIL_INIT", "1")
    with pytest.raises(NotReady, match="NoConfig"):
        measure(packages / "query-fn.zip", 1)
