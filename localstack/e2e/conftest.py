"""One deployment for the whole run: the first test that needs it makes it, the last test takes it down.

Start it with `python -m tarn_localstack test`, which brings an emulator up and passes the options.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from api import Api, Deployment
from tarn_localstack.__main__ import variables
from tarn_localstack.stack import Stack
from tarn_localstack.terraform import Terraform


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--zips", required=True, type=Path, help="folder with the functions' packages")
    parser.addoption("--state", required=True, type=Path, help="state folder of the emulator that is up")
    parser.addoption("--quick", action="store_true", help="small files, and without what takes minutes")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "enforced: needs an emulator that enforces IAM")
    config.addinivalue_line("markers", "limited: needs an emulator that enforces Lambda's limit of a request")
    config.addinivalue_line("markers", "slow: left out of the quick form")
    config.addinivalue_line("markers", "once: the quick form does it on one emulator only, the one that enforces IAM")
    config.addinivalue_line("markers", "last: ends the deployment")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What does not apply is not collected, rather than skipped: nothing that was asked for is left out unseen."""
    enforces = Stack.load(config.getoption("state")).emulator == "ministack"
    quick = config.getoption("quick")

    def applies(item: pytest.Item) -> bool:
        if item.get_closest_marker("limited" if enforces else "enforced"):
            return False
        left_out = item.get_closest_marker("slow") or not enforces and item.get_closest_marker("once")
        return not (quick and left_out)

    left_out = [item for item in items if not applies(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
    items[:] = sorted((item for item in items if applies(item)), key=lambda item: item.get_closest_marker("last") is not None)


@pytest.fixture(scope="session")
def stack(pytestconfig: pytest.Config) -> Stack:
    return Stack.load(pytestconfig.getoption("state"))


@pytest.fixture(scope="session")
def terraform(pytestconfig: pytest.Config, stack: Stack) -> Terraform:
    state = pytestconfig.getoption("state")
    return Terraform(state, stack, variables(pytestconfig.getoption("zips"), stack.emulator, state))


@pytest.fixture(scope="session")
def deployment(stack: Stack, terraform: Terraform) -> Deployment:
    terraform.init()
    return Deployment(stack, terraform.apply()["tarn"])


@pytest.fixture(scope="session")
def api(deployment: Deployment) -> Api:
    """As an administrator: functions answer nobody without a key."""
    return Api(deployment.url, deployment.create_key("admin:*"))


_NUMBERS = itertools.count(1)


@pytest.fixture
def source(api: Api) -> str:
    """A data source of its own for each test, with one index of the same name."""
    name = f"films{next(_NUMBERS)}"
    api.create_source(name)
    api.create_index(name, source=name)
    return name
