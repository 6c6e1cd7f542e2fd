"""Step Functions state machines."""

from __future__ import annotations

from typing import Any

from ..resource import Aws, Resource, Value, first, given, same_json, tags


class StateMachine(Resource):
    kind = "aws_sfn_state_machine"
    replaced_by = frozenset({"name", "type"})
    changes = frozenset({"revision_id", "state_machine_version_arn"})
    # It needs a delivery of logs that the emulators have not.
    unsent = frozenset({"logging_configuration"})

    def _settings(self, plan: Value) -> dict[str, Any]:
        tracing = first(plan, "tracing_configuration") or {}
        return given(
            definition=plan["definition"], roleArn=plan["role_arn"], tracingConfiguration=given(enabled=tracing.get("enabled"))
        )

    def create(self, aws: Aws, plan: Value) -> Value:
        made = aws.stepfunctions.create_state_machine(
            name=plan["name"], type=plan.get("type") or "STANDARD", **self._settings(plan)
        )
        return plan | {
            "id": made["stateMachineArn"], "arn": made["stateMachineArn"], "creation_date": str(made["creationDate"]),
            "status": "ACTIVE", "name_prefix": "", "description": "", "revision_id": "", "state_machine_version_arn": "",
            "version_description": "", "region": aws.region, "tags_all": tags(plan),
        }  # fmt: skip

    def update(self, aws: Aws, state: Value, plan: Value) -> Value:
        aws.stepfunctions.update_state_machine(stateMachineArn=state["id"], **self._settings(plan))
        return plan | {"tags_all": tags(plan)}

    def read(self, aws: Aws, state: Value) -> Value | None:
        found = aws.stepfunctions.describe_state_machine(stateMachineArn=state["id"])
        if found.get("status") == "DELETING":
            return None
        return state if same_json(found["definition"], state["definition"]) else state | {"definition": found["definition"]}

    def delete(self, aws: Aws, state: Value) -> None:
        aws.stepfunctions.delete_state_machine(stateMachineArn=state["id"])


KINDS = (StateMachine,)
