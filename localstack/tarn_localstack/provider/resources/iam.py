"""Roles and their inline policies."""

from __future__ import annotations

import json

from ..resource import Aws, Resource, Value, given, same_json, tags


class Role(Resource):
    kind = "aws_iam_role"
    replaced_by = frozenset({"name", "path"})

    def create(self, aws: Aws, plan: Value) -> Value:
        role = aws.iam.create_role(
            **given(RoleName=plan["name"], AssumeRolePolicyDocument=plan["assume_role_policy"], Description=plan.get("description"))
        )["Role"]
        return plan | {
            "id": plan["name"], "arn": role["Arn"], "unique_id": role["RoleId"], "path": "/", "create_date": str(role["CreateDate"]),
            "max_session_duration": 3600, "force_detach_policies": False, "managed_policy_arns": [], "name_prefix": "",
            "tags_all": tags(plan),
        }  # fmt: skip

    def update(self, aws: Aws, state: Value, plan: Value) -> Value:
        aws.iam.update_role(RoleName=plan["name"], Description=plan.get("description") or "")
        aws.iam.update_assume_role_policy(RoleName=plan["name"], PolicyDocument=plan["assume_role_policy"])
        return plan | {"tags_all": tags(plan)}

    def read(self, aws: Aws, state: Value) -> Value | None:
        aws.iam.get_role(RoleName=state["name"])
        return state

    def delete(self, aws: Aws, state: Value) -> None:
        aws.iam.delete_role(RoleName=state["name"])


class RolePolicy(Resource):
    kind = "aws_iam_role_policy"
    replaced_by = frozenset({"name", "role"})

    def create(self, aws: Aws, plan: Value) -> Value:
        aws.iam.put_role_policy(RoleName=plan["role"], PolicyName=plan["name"], PolicyDocument=plan["policy"])
        return plan | {"id": f"{plan['role']}:{plan['name']}", "name_prefix": ""}

    def read(self, aws: Aws, state: Value) -> Value | None:
        found = aws.iam.get_role_policy(RoleName=state["role"], PolicyName=state["name"])["PolicyDocument"]
        text = found if isinstance(found, str) else json.dumps(found)
        return state if same_json(text, state["policy"]) else state | {"policy": text}

    def delete(self, aws: Aws, state: Value) -> None:
        aws.iam.delete_role_policy(RoleName=state["role"], PolicyName=state["name"])


KINDS = (Role, RolePolicy)
