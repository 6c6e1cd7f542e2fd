"""The generated OpenAPI document against the running server."""

import os
import subprocess


def test_schemathesis_finds_no_disagreement(server, define):
    """Generated requests, valid and not, for every operation: no 5xx, and every answer is one that the document describes."""
    define("FaissIndex.L2")
    report = subprocess.run(
        [
            os.environ["TARN_SCHEMATHESIS"], "run", f"{server.url}/openapi.json",
            "--checks", "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
            "--max-examples", "25", "--generation-deterministic",
            "--request-timeout", "30", "--no-color",
        ],
        capture_output=True, text=True, timeout=900, check=False,
    )
    assert report.returncode == 0, report.stdout[-8000:] + report.stderr[-2000:]
    status, _, answer = server.request("GET", "/readyz")
    assert status == 200, answer
