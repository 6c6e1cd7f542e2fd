"""Terraform with the stand-in provider; for the module's own tests also with the real one, where a registry answers."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .stack import Stack

PACKAGE_ROOT = Path(__file__).resolve().parent.parent
INFRA = PACKAGE_ROOT.parent / "infra"

# What Terraform writes beside a configuration.
LEFT_BEHIND = shutil.ignore_patterns(".terraform*", "*.tfstate*")


# Of one command; on a busy machine the whole deployment takes some ten seconds.
LONGEST_SECONDS = 600


class TerraformFailed(RuntimeError):
    """Terraform is not there, ended with an error, or did not end; the message says which, with its output."""


def program() -> str:
    """Where Terraform is."""
    found = shutil.which("terraform")
    if found is None:
        raise TerraformFailed("terraform 1.9 or later is not on PATH: https://developer.hashicorp.com/terraform/install")
    return found


def install_provider(state: Path) -> Path:
    """A mirror of one provider, and the CLI configuration that uses it for `hashicorp/aws` and nothing else."""
    from .provider.schema import VERSION

    machine = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}[platform.machine()]
    home = state / "mirror" / "registry.terraform.io" / "hashicorp" / "aws" / VERSION / f"{platform.system().lower()}_{machine}"
    home.mkdir(parents=True, exist_ok=True)
    wrapper = home / f"terraform-provider-aws_v{VERSION}"
    wrapper.write_text(
        "#!/bin/sh\n"
        f'PYTHONPATH="{PACKAGE_ROOT}" PYTHONDONTWRITEBYTECODE=1 exec "{sys.executable}" -m tarn_localstack.provider.server\n'
    )
    wrapper.chmod(0o755)
    configuration = state / "terraform.rc"
    configuration.write_text(
        "provider_installation {\n"
        f'  filesystem_mirror {{\n    path    = "{state / "mirror"}"\n    include = ["registry.terraform.io/hashicorp/aws"]\n  }}\n'
        '  direct {\n    exclude = ["registry.terraform.io/hashicorp/aws"]\n  }\n}\n'
    )
    return configuration


@dataclass
class Terraform:
    """The example deployment, unmodified, in a copy: Terraform writes a lock file beside what it reads."""

    state: Path
    stack: Stack | None = None
    variables: dict[str, Any] | None = None
    real_provider: bool = False

    @property
    def root(self) -> Path:
        return self.state / "infra" / "examples" / "complete"

    def environment(self) -> dict[str, str]:
        environment = dict(os.environ) | {"TF_IN_AUTOMATION": "1", "TF_INPUT": "0", "CHECKPOINT_DISABLE": "1"}
        environment |= self.stack.environment() if self.stack else {}
        if not self.real_provider:
            environment["TF_CLI_CONFIG_FILE"] = str(install_provider(self.state))
        return environment

    def run(self, *arguments: str, root: Path | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = [program(), f"-chdir={root or self.root}", *arguments]
        try:
            done = subprocess.run(command, env=self.environment(), capture_output=True, text=True, timeout=LONGEST_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise TerraformFailed(f"terraform {arguments[0]} did not end within {LONGEST_SECONDS} s") from error
        if check and done.returncode != 0:
            raise TerraformFailed(f"terraform {arguments[0]} failed:\n{done.stdout}\n{done.stderr}")
        return done

    def init(self) -> None:
        # Its state and what it downloaded stay; the configuration is taken anew.
        shutil.copytree(INFRA, self.state / "infra", ignore=LEFT_BEHIND, dirs_exist_ok=True)
        self.run("init", "-no-color")

    def test_module(self) -> str:
        """The module's own tests, against mocks: nothing is deployed, and no emulator is needed. What they say."""
        module = self.state / "infra"
        shutil.rmtree(module, ignore_errors=True)
        shutil.copytree(INFRA, module, ignore=LEFT_BEHIND)
        self.run("init", "-no-color", root=module)
        return self.run("test", "-no-color", root=module).stdout

    def apply(self) -> dict[str, Any]:
        """The outputs."""
        self.run("apply", "-no-color", "-auto-approve", *self._variables())
        return self.outputs()

    def outputs(self) -> dict[str, Any]:
        return {name: held["value"] for name, held in json.loads(self.run("output", "-json").stdout).items()}

    def plan_is_clean(self) -> tuple[bool, str]:
        """Whether a plan finds nothing to change, and what it says."""
        done = self.run("plan", "-no-color", "-detailed-exitcode", *self._variables(), check=False)
        if done.returncode not in (0, 2):
            raise TerraformFailed(f"terraform plan failed:\n{done.stdout}\n{done.stderr}")
        return done.returncode == 0, done.stdout

    def destroy(self) -> None:
        self.run("destroy", "-no-color", "-auto-approve", *self._variables())

    def _variables(self) -> list[str]:
        """What was given is remembered: a plan and a destruction need the same."""
        file = (self.state / "variables.tfvars.json").resolve()
        if self.variables is not None:
            file.write_text(json.dumps(self.variables, indent=1))
        return [f"-var-file={file}"]
