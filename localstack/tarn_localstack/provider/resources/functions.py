"""Lambda functions, what may invoke them and what does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..resource import Aws, Resource, Value, first, given, number, tags


class Function(Resource):
    kind = "aws_lambda_function"
    replaced_by = frozenset({"function_name"})
    # Says whether the file's content has changed.
    unsent = frozenset({"source_code_hash"})
    changes = frozenset({"last_modified", "code_sha256", "source_code_size", "version", "qualified_arn"})

    def _configuration(self, plan: Value) -> dict[str, Any]:
        storage = first(plan, "ephemeral_storage") or {}
        tracing = first(plan, "tracing_config") or {}
        variables = (first(plan, "environment") or {}).get("variables")
        return given(
            FunctionName=plan["function_name"],
            Role=plan["role"],
            Handler=plan.get("handler"),
            Runtime=plan.get("runtime"),
            Description=plan.get("description"),
            Timeout=number(plan.get("timeout")),
            MemorySize=number(plan.get("memory_size")),
            KMSKeyArn=plan.get("kms_key_arn"),
            Environment=given(Variables=variables),
            EphemeralStorage=given(Size=number(storage.get("size"))),
            TracingConfig=given(Mode=tracing.get("mode")),
        )

    def _reserve(self, aws: Aws, plan: Value) -> None:
        reserved = number(plan.get("reserved_concurrent_executions"))
        if reserved is not None and reserved >= 0:
            aws.lambda_.put_function_concurrency(FunctionName=plan["function_name"], ReservedConcurrentExecutions=reserved)

    def _state(self, aws: Aws, plan: Value) -> Value:
        name = plan["function_name"]
        aws.lambda_.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})
        aws.lambda_.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})
        found = aws.lambda_.get_function_configuration(FunctionName=name)
        arn = found["FunctionArn"]
        invoke = f"arn:aws:apigateway:{aws.region}:lambda:path/2015-03-31/functions"
        return plan | {
            "id": name, "arn": arn, "invoke_arn": f"{invoke}/{arn}/invocations", "version": found.get("Version", "$LATEST"),
            "qualified_arn": f"{arn}:$LATEST", "qualified_invoke_arn": f"{invoke}/{arn}:$LATEST/invocations",
            "response_streaming_invoke_arn": f"{invoke}/{arn}/response-streaming-invocations",
            "last_modified": found.get("LastModified", ""), "code_sha256": found.get("CodeSha256", ""),
            "source_code_size": found.get("CodeSize", 0), "tags_all": tags(plan), "region": aws.region,
            "signing_job_arn": "", "signing_profile_version_arn": "",
        }  # fmt: skip

    def create(self, aws: Aws, plan: Value) -> Value:
        code = {"ZipFile": Path(plan["filename"]).read_bytes()}
        aws.lambda_.create_function(**self._configuration(plan), **given(Architectures=plan.get("architectures")), Code=code)
        self._reserve(aws, plan)
        return self._state(aws, plan)

    def update(self, aws: Aws, state: Value, plan: Value) -> Value:
        if (state.get("source_code_hash"), state.get("filename")) != (plan.get("source_code_hash"), plan.get("filename")):
            code = Path(plan["filename"]).read_bytes()
            aws.lambda_.update_function_code(FunctionName=plan["function_name"], ZipFile=code)
        aws.lambda_.update_function_configuration(**self._configuration(plan))
        self._reserve(aws, plan)
        return self._state(aws, plan)

    def read(self, aws: Aws, state: Value) -> Value | None:
        found = aws.lambda_.get_function_configuration(FunctionName=state["function_name"])
        known = {"timeout": found.get("Timeout"), "memory_size": found.get("MemorySize"), "role": found.get("Role")}
        variables = found.get("Environment", {}).get("Variables", {})
        if state.get("environment") and state["environment"][0].get("variables") != variables:
            known["environment"] = [{"variables": variables}]
        return state | {name: value for name, value in known.items() if value is not None}

    def delete(self, aws: Aws, state: Value) -> None:
        aws.lambda_.delete_function(FunctionName=state["function_name"])


class Permission(Resource):
    kind = "aws_lambda_permission"
    replaced_by = frozenset({"statement_id", "function_name", "action", "principal", "source_arn", "source_account"})

    def create(self, aws: Aws, plan: Value) -> Value:
        aws.lambda_.add_permission(
            **given(
                FunctionName=plan["function_name"], StatementId=plan["statement_id"], Action=plan["action"],
                Principal=plan["principal"], SourceArn=plan.get("source_arn"), SourceAccount=plan.get("source_account"),
            )  # fmt: skip
        )
        return plan | {"id": plan["statement_id"], "statement_id_prefix": "", "region": aws.region}

    def read(self, aws: Aws, state: Value) -> Value | None:
        return state if state["id"] in aws.lambda_.get_policy(FunctionName=state["function_name"])["Policy"] else None

    def delete(self, aws: Aws, state: Value) -> None:
        aws.lambda_.remove_permission(FunctionName=state["function_name"], StatementId=state["statement_id"])


class Mapping(Resource):
    kind = "aws_lambda_event_source_mapping"
    replaced_by = frozenset({"event_source_arn"})

    def _settings(self, plan: Value) -> dict[str, Any]:
        scaling = first(plan, "scaling_config") or {}
        return given(
            FunctionName=plan["function_name"],
            BatchSize=number(plan.get("batch_size")),
            MaximumBatchingWindowInSeconds=number(plan.get("maximum_batching_window_in_seconds")),
            FunctionResponseTypes=plan.get("function_response_types"),
            ScalingConfig=given(MaximumConcurrency=number(scaling.get("maximum_concurrency"))),
        )

    def create(self, aws: Aws, plan: Value) -> Value:
        made = aws.lambda_.create_event_source_mapping(EventSourceArn=plan["event_source_arn"], **self._settings(plan))
        return plan | {
            "id": made["UUID"], "uuid": made["UUID"], "arn": made.get("EventSourceMappingArn", ""), "region": aws.region,
            "function_arn": made["FunctionArn"], "state": made.get("State", ""), "last_modified": "",
            "last_processing_result": "", "state_transition_reason": "", "tags_all": tags(plan),
        }  # fmt: skip

    def update(self, aws: Aws, state: Value, plan: Value) -> Value:
        aws.lambda_.update_event_source_mapping(UUID=state["uuid"], **self._settings(plan))
        return plan | {"tags_all": tags(plan)}

    def read(self, aws: Aws, state: Value) -> Value | None:
        found = aws.lambda_.get_event_source_mapping(UUID=state["uuid"])
        return None if found.get("State") == "Deleting" else state | {"batch_size": found.get("BatchSize", state["batch_size"])}

    def delete(self, aws: Aws, state: Value) -> None:
        aws.lambda_.delete_event_source_mapping(UUID=state["uuid"])


class InvokeConfig(Resource):
    kind = "aws_lambda_function_event_invoke_config"
    replaced_by = frozenset({"function_name", "qualifier"})

    def create(self, aws: Aws, plan: Value) -> Value:
        # Zero attempts is a wish of its own: `given` keeps it.
        aws.lambda_.put_function_event_invoke_config(
            **given(
                FunctionName=plan["function_name"],
                MaximumRetryAttempts=number(plan.get("maximum_retry_attempts")),
                MaximumEventAgeInSeconds=number(plan.get("maximum_event_age_in_seconds")),
            )
        )
        return plan | {"id": plan["function_name"], "region": aws.region}

    def read(self, aws: Aws, state: Value) -> Value | None:
        aws.lambda_.get_function_event_invoke_config(FunctionName=state["function_name"])
        return state

    def delete(self, aws: Aws, state: Value) -> None:
        aws.lambda_.delete_function_event_invoke_config(FunctionName=state["function_name"])


KINDS = (Function, Permission, Mapping, InvokeConfig)
