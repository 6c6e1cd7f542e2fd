"""Terraform's plugin protocol (version 6) over the resources.

The protobufs and the handshake are those of the PyPI package `tf`; how a plan comes about is here. A change of an attribute
in `replaced_by` asks for a new resource; computed attributes without a value are unknown until the change is made.
"""

from __future__ import annotations

import json
import traceback
from typing import Any

import tf.provider
import tf.runner
from tf.gen import tfplugin_pb2 as pb
from tf.gen import tfplugin_pb2_grpc as rpc
from tf.types import Unknown
from tf.utils import read_dynamic_value, to_dynamic_value

from .resource import ACCOUNT, Aws, NotLoopback, Value, is_gone
from .resources import RESOURCES
from .schema import SCHEMA, message, with_unknowns, without_unknowns
from .sent import UNSENT, Watched, unsent

NAME = "registry.terraform.io/hashicorp/aws"


class Servicer(rpc.ProviderServicer):
    def __init__(self, _provider: object) -> None:
        self._aws: Aws | None = None

    @property
    def aws(self) -> Aws:
        if self._aws is None:
            raise NotLoopback("the provider is not configured")
        return self._aws

    def GetMetadata(self, request: Any, context: Any) -> Any:
        return pb.GetMetadata.Response(
            server_capabilities=pb.ServerCapabilities(),
            resources=[pb.GetMetadata.ResourceMetadata(type_name=kind) for kind in SCHEMA["resources"]],
            data_sources=[pb.GetMetadata.DataSourceMetadata(type_name=kind) for kind in SCHEMA["data_sources"]],
        )

    def GetProviderSchema(self, request: Any, context: Any) -> Any:
        return pb.GetProviderSchema.Response(
            provider=message(SCHEMA["provider"]),
            resource_schemas={kind: message(block) for kind, block in SCHEMA["resources"].items()},
            data_source_schemas={kind: message(block) for kind, block in SCHEMA["data_sources"].items()},
        )

    def ConfigureProvider(self, request: Any, context: Any) -> Any:
        response = pb.ConfigureProvider.Response()
        try:
            region = (read_dynamic_value(request.config) or {}).get("region")
            self._aws = Aws.from_settings(region if isinstance(region, str) else None)
        except NotLoopback as error:
            _report(response, error, "refused")
        return response

    def PlanResourceChange(self, request: Any, context: Any) -> Any:
        prior, proposed = read_dynamic_value(request.prior_state), read_dynamic_value(request.proposed_new_state)
        response = pb.PlanResourceChange.Response()
        if proposed is not None:
            planned, replaced_by = plan(request.type_name, prior, proposed)
            for name in replaced_by:
                step = pb.AttributePath.Step(attribute_name=name)
                response.requires_replace.append(pb.AttributePath(steps=[step]))
            proposed = planned
        response.planned_state.CopyFrom(to_dynamic_value(proposed))
        return response

    def ApplyResourceChange(self, request: Any, context: Any) -> Any:
        prior, planned = read_dynamic_value(request.prior_state), read_dynamic_value(request.planned_state)
        response = pb.ApplyResourceChange.Response()
        try:
            state, ignored = self._apply(request.type_name, prior, planned)
            if ignored:
                _report(response, NotImplementedError(f"the stand-in does not send {', '.join(ignored)}"), request.type_name)
        except Exception as error:  # noqa: BLE001: Terraform reports it with the resource's address
            _report(response, error, request.type_name)
            state = prior
        response.new_state.CopyFrom(to_dynamic_value(state))
        return response

    def _apply(self, kind: str, prior: Value | None, planned: Value | None) -> tuple[Value | None, list[str]]:
        """The new state, and what of the plan was not sent although it should have been."""
        resource = RESOURCES.get(kind)
        if resource is None:
            raise NotImplementedError("the stand-in knows this kind's schema and cannot make one")
        if planned is None:
            try:
                resource.delete(self.aws, prior or {})
            except Exception as error:  # noqa: BLE001
                if not is_gone(error):
                    raise
            return None, []
        block = SCHEMA["resources"][kind]
        known = {name: value for name, value in planned.items() if value is not Unknown}
        watched = Watched(block, planned)
        made = resource.create(self.aws, watched) if prior is None else resource.update(self.aws, prior, watched)
        ignored = [name for name in unsent(block, prior, watched) if name not in UNSENT | resource.unsent]
        # What was promised in the plan is kept, as Terraform demands.
        return without_unknowns(block, made | known), ignored

    def ReadResource(self, request: Any, context: Any) -> Any:
        response = pb.ReadResource.Response()
        state = read_dynamic_value(request.current_state)
        try:
            state = RESOURCES[request.type_name].read(self.aws, state)
        except Exception as error:  # noqa: BLE001
            if is_gone(error):
                state = None
            else:
                _report(response, error, request.type_name)
        response.new_state.CopyFrom(to_dynamic_value(state))
        return response

    def ReadDataSource(self, request: Any, context: Any) -> Any:
        block = SCHEMA["data_sources"][request.type_name]
        value = read_dynamic_value(request.config) | _data(request.type_name, self.aws)
        response = pb.ReadDataSource.Response()
        response.state.CopyFrom(to_dynamic_value(without_unknowns(block, value)))
        return response

    def UpgradeResourceState(self, request: Any, context: Any) -> Any:
        return pb.UpgradeResourceState.Response(upgraded_state=to_dynamic_value(json.loads(request.raw_state.json)))

    def ValidateProviderConfig(self, request: Any, context: Any) -> Any:
        return pb.ValidateProviderConfig.Response()

    def ValidateResourceConfig(self, request: Any, context: Any) -> Any:
        return pb.ValidateResourceConfig.Response()

    def ValidateDataResourceConfig(self, request: Any, context: Any) -> Any:
        return pb.ValidateDataResourceConfig.Response()

    def GetFunctions(self, request: Any, context: Any) -> Any:
        return pb.GetFunctions.Response()

    def StopProvider(self, request: Any, context: Any) -> Any:
        return pb.StopProvider.Response()


def plan(kind: str, prior: Value | None, proposed: Value) -> tuple[Value, list[str]]:
    """The planned state, and which changed attributes need a new resource."""
    block, resource = SCHEMA["resources"][kind], RESOURCES.get(kind)
    if prior is None:
        return with_unknowns(block, proposed), []
    if prior == proposed:
        return proposed, []
    for name in (resource.changes if resource else frozenset()) | ({"tags_all"} if "tags_all" in proposed else set()):
        if name != "tags_all" or prior.get("tags") != proposed.get("tags"):
            proposed[name] = Unknown
    replaced_by = [name for name in sorted(resource.replaced_by if resource else ()) if prior.get(name) != proposed.get(name)]
    if not replaced_by:
        return proposed, []
    # A new resource's computed attributes are as unknown as any new one's, though Terraform proposes the old ones' values.
    for name, (_, presence) in block["attributes"].items():
        if presence == "computed":
            proposed[name] = Unknown
    return proposed, replaced_by


def _data(kind: str, aws: Aws) -> Value:
    match kind:
        case "aws_caller_identity":
            return {"account_id": ACCOUNT, "arn": f"arn:aws:iam::{ACCOUNT}:root", "id": ACCOUNT, "user_id": ACCOUNT}
        case "aws_region":
            return {"name": aws.region, "region": aws.region, "id": aws.region, "description": "", "endpoint": ""}
        case "aws_partition":
            return {"partition": "aws", "dns_suffix": "amazonaws.com", "id": "aws", "reverse_dns_prefix": "com.amazonaws"}
    raise NotImplementedError(kind)


def _report(response: Any, error: Exception, what: str) -> None:
    response.diagnostics.append(
        pb.Diagnostic(
            severity=pb.Diagnostic.ERROR,
            summary=f"{what}: {type(error).__name__}: {error}",
            detail="" if isinstance(error, NotLoopback) else "".join(traceback.format_exception(error)[-3:]),
        )
    )


class _Named:
    def full_name(self) -> str:
        return NAME


def main() -> None:
    # The runner makes a servicer of its own for providers written with its library; ours takes its place.
    tf.provider.ProviderServicer = Servicer  # type: ignore[misc,assignment]
    tf.runner.run_provider(_Named())  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
