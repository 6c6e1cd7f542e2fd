"""The command: `python -m tarn_localstack up|down|apply|plan|destroy|test|check|cold-start|prepare`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from . import environments, localstack, ministack, processes, terraform
from .cold_start import NotReady, measure
from .cold_start import summary as measured
from .environments import NoPython
from .processes import DidNotStart
from .functions.sandbox import unshare_command
from .stack import FILE, NoStack, Stack
from .terraform import Terraform, TerraformFailed

PACKAGE_ROOT = Path(__file__).resolve().parent.parent
TARGET = PACKAGE_ROOT.parent / os.environ.get("CARGO_TARGET_DIR", "target")
E2E = PACKAGE_ROOT / "e2e"
PACKAGES = ("ingest-fn.zip", "query-fn.zip", "builder.zip")
CHECK = "Run the module's own tests, which need no emulator."


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    options.state = (options.state or TARGET / "localstack" / options.emulator).resolve()
    try:
        return int(options.run(options) or 0)
    except (DidNotStart, NoPython, NotReady, NoStack, TerraformFailed) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def parser() -> argparse.ArgumentParser:
    out = argparse.ArgumentParser(prog="tarn_localstack", description="AWS on loopback: start it, deploy Tarn to it, test it there.")
    commands = out.add_subparsers(required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--emulator", choices=("localstack", "ministack"), default="localstack", help="default: localstack")
    common.add_argument("--state", type=Path, help="what a run leaves behind; default: target/localstack/EMULATOR")
    zips = argparse.ArgumentParser(add_help=False)
    zips.add_argument("--zips", type=Path, default=TARGET / "lambda-host", help="folder with the packages; default: target/lambda-host")

    def command(name: str, run: object, summary: str, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=summary, description=summary, parents=[common, *parents])
        added.set_defaults(run=run)
        return added

    up_ = command("up", up, "Start an empty emulator and print where it answers.")
    up_.add_argument("--port", type=int, help="default: a free one")
    command("down", down, "End the emulator.")
    command("apply", apply, "Deploy the module and print its outputs.", zips)
    command("plan", plan, "Fail unless the deployment is as the module describes it.")
    command("destroy", destroy, "Take the deployment down, with its data.")
    test_ = command("test", test, "Run the end-to-end suite on a fresh emulator, and end it afterwards.", zips)
    test_.add_argument("--quick", action="store_true", help="leave out what takes minutes")
    test_.add_argument("--keep", action="store_true", help="leave the emulator running")
    test_.add_argument("pytest", nargs="*", help="arguments for pytest, after --")
    check_ = commands.add_parser("check", help=CHECK, description=CHECK)
    check_.add_argument("--state", type=Path, help="default: target/localstack/module")
    check_.add_argument("--real-provider", action="store_true", help="download the AWS provider, instead of using the stand-in")
    check_.set_defaults(run=check, emulator="module")
    cold_ = command("cold-start", cold_start, "Measure how long each function takes until it asks for its first event.", zips)
    cold_.add_argument("--runs", type=int, default=30, help="default: 30")
    command("prepare", prepare, "Install LocalStack into its own environment under target/.")
    return out


def up(options: argparse.Namespace) -> None:
    state: Path = options.state
    down(options)
    # A new emulator knows nothing of what was deployed to the last one.
    shutil.rmtree(state, ignore_errors=True)
    state.mkdir(parents=True)
    if options.emulator == "localstack":
        stack = localstack.start(state, server_environment(), getattr(options, "port", None))
    else:
        stack = ministack.start(state, getattr(options, "port", None))
    stack.save(state)
    print("\n".join(f"export {name}={value}" for name, value in stack.environment().items()))


def down(options: argparse.Namespace) -> None:
    try:
        stack = Stack.load(options.state)
    except NoStack:
        return
    processes.end(stack.pid, stack.started)
    processes.end_functions(stack.endpoint)
    # The emulator's data ends with it; its log stays.
    shutil.rmtree(options.state / "tmp", ignore_errors=True)
    (options.state / FILE).unlink()


def apply(options: argparse.Namespace) -> None:
    stack = Stack.load(options.state)
    deployment = Terraform(options.state, stack, variables(options.zips, stack.emulator, options.state))
    deployment.init()
    print(json.dumps(deployment.apply(), indent=1))


def plan(options: argparse.Namespace) -> int:
    clean, said = Terraform(options.state, Stack.load(options.state)).plan_is_clean()
    print(said)
    return 0 if clean else 2


def destroy(options: argparse.Namespace) -> None:
    Terraform(options.state, Stack.load(options.state)).destroy()


def check(options: argparse.Namespace) -> None:
    print(Terraform(options.state, real_provider=options.real_provider).test_module())


def prepare(options: argparse.Namespace) -> None:
    print(server_environment())


def server_environment() -> Path:
    return environments.prepare(TARGET / "tools" / "python-localstack")


def cold_start(options: argparse.Namespace) -> None:
    for name in PACKAGES:
        print(measured(name.removesuffix(".zip"), measure(options.zips / name, options.runs)))


def test(options: argparse.Namespace) -> int:
    missing = [name for name in PACKAGES if not (options.zips / name).is_file()]
    if missing:
        print(f"error: {options.zips} lacks {', '.join(missing)}: run `cargo xtask package` first", file=sys.stderr)
        return 1
    terraform.program()
    try:
        up(options)
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(E2E), "--zips", str(options.zips.resolve())]
        command += ["--state", str(options.state), "--basetemp", str(options.state / "pytest")]
        command += (["--quick"] if options.quick else []) + options.pytest
        environment = os.environ | {"PYTHONPATH": str(PACKAGE_ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run(command, env=environment, cwd=E2E).returncode
    finally:
        if not options.keep:
            down(options)


def variables(zips: Path, emulator: str, state: Path) -> dict[str, object]:
    """What differs from a deployment to AWS: this machine's processor, and waiting times that suit a test."""
    # Where functions have no /tmp of their own, what a killed builder leaves must not stay on the machine.
    shared_tmp = emulator == "ministack" or unshare_command() is None
    builder = {"TARN_BUILDER_TEMP_DIR": str(state / "tmp")} if shared_tmp else {}
    return {
        "package_dir": str(zips.resolve()),
        "architecture": "arm64" if platform.machine() in ("aarch64", "arm64") else "x86_64",
        "build": {"debounce_s": 1, "schedule": "rate(1 hour)", "fan_out": 2},
        "functions": {
            "ingest_drop": {"timeout_s": 120},
            "builder": {"timeout_s": 120, "environment": builder},
            "gc": {"timeout_s": 60, "environment": builder},
        },
        "drop": {"attempts": 5, "max_concurrency": 4},
        # More than any index of the tests has, but for the one that tests it.
        "search": {"leaf_bytes": 64 << 20},
    }


if __name__ == "__main__":
    # Whoever ends this command ends the emulator with it; `finally` hears of no signal but SIGINT.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _frame: sys.exit(128 + received))
    sys.exit(main())
