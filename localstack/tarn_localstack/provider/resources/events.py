"""EventBridge rules and their targets."""

from __future__ import annotations

from ..resource import Aws, Resource, Value, given, tags


class Rule(Resource):
    kind = "aws_cloudwatch_event_rule"
    replaced_by = frozenset({"name"})

    def create(self, aws: Aws, plan: Value) -> Value:
        arn = aws.events.put_rule(
            **given(
                Name=plan["name"], Description=plan.get("description"), ScheduleExpression=plan.get("schedule_expression"),
                EventPattern=plan.get("event_pattern"), State="ENABLED",
            )  # fmt: skip
        )["RuleArn"]
        return plan | {
            "id": plan["name"], "arn": arn, "name_prefix": "", "region": aws.region, "tags_all": tags(plan),
            "event_bus_name": "default",
        }  # fmt: skip

    def read(self, aws: Aws, state: Value) -> Value | None:
        found = aws.events.describe_rule(Name=state["name"])
        return state | {"schedule_expression": found.get("ScheduleExpression")}

    def delete(self, aws: Aws, state: Value) -> None:
        aws.events.delete_rule(Name=state["name"])


class Target(Resource):
    kind = "aws_cloudwatch_event_target"
    replaced_by = frozenset({"rule", "target_id"})

    def create(self, aws: Aws, plan: Value) -> Value:
        target = given(Id=plan["target_id"], Arn=plan["arn"], Input=plan.get("input"), RoleArn=plan.get("role_arn"))
        aws.events.put_targets(Rule=plan["rule"], Targets=[target])
        return plan | {"id": f"{plan['rule']}-{plan['target_id']}", "region": aws.region, "event_bus_name": "default"}

    def read(self, aws: Aws, state: Value) -> Value | None:
        targets = aws.events.list_targets_by_rule(Rule=state["rule"])["Targets"]
        return state if any(target["Id"] == state["target_id"] for target in targets) else None

    def delete(self, aws: Aws, state: Value) -> None:
        aws.events.remove_targets(Rule=state["rule"], Ids=[state["target_id"]])


KINDS = (Rule, Target)
