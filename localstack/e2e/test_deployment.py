"""The deployment itself: everything is there, a second plan changes nothing, the functions answer."""

import pytest
from api import VERSION, Api, Deployment
from points import points
from tarn_localstack import processes
from tarn_localstack.stack import Stack
from tarn_localstack.terraform import Terraform


def test_both_functions_answer_through_the_api(api: Api) -> None:
    assert api.call("GET", "/healthz").ok
    assert api.call("GET", "/_status/ping").json() == {"Status": "Ok"}
    message = api.call("GET", "/api/v1/info/none/1.0", expect=404).json()["errorMessages"]
    assert message == ["Index IndexId { Name = none, Version = 1.0 } does not exist"]


def test_a_second_plan_changes_nothing(deployment: Deployment, terraform: Terraform) -> None:
    clean, said = terraform.plan_is_clean()
    assert clean, said


@pytest.mark.slow
def test_a_second_apply_keeps_what_is_there(deployment: Deployment, terraform: Terraform) -> None:
    assert terraform.apply()["tarn"] == deployment.outputs


@pytest.mark.slow
def test_the_plan_sees_what_was_changed_by_hand(deployment: Deployment, terraform: Terraform) -> None:
    """Without this the plan's silence would prove nothing."""
    name = deployment.functions["gc"]
    before = deployment.lambda_.get_function_configuration(FunctionName=name)["MemorySize"]
    deployment.lambda_.update_function_configuration(FunctionName=name, MemorySize=before + 1)
    assert not terraform.plan_is_clean()[0]
    terraform.apply()
    assert deployment.lambda_.get_function_configuration(FunctionName=name)["MemorySize"] == before


def test_garbage_is_collected_and_nothing_else(api: Api, deployment: Deployment, source: str) -> None:
    kept = f"{source}-kept"
    api.create_index(kept, source=source)
    api.upload(source, points(range(100)))
    # Nobody else may write to a store of which is said that it is idle.
    with deployment.without_debounced_builds():
        deployment.build()
        assert deployment.keys(f"indices/{source}/{VERSION}/segments/")
        api.call("DELETE", f"/api/v1/indices/{source}/{VERSION}", expect=204)
        result, failed = deployment.invoke("gc", {"task": "gc", "graceMs": 0, "storeIsIdle": True})
    assert not failed and result["count"] > 0, result
    assert not deployment.keys(f"indices/{source}/{VERSION}/segments/")
    assert api.search(kept, 42) == [42]
    assert api.exported(source) == list(range(100))


def test_nobody_is_reached_from_outside(api: Api, stack: Stack) -> None:
    api.call("GET", "/healthz")
    everybody = [stack.pid, *processes.of_functions(stack.endpoint)]
    assert len(everybody) > 1
    assert set().union(*map(processes.listening, everybody)) == {"127.0.0.1"}
