"""KMS keys and their aliases."""

from __future__ import annotations

from ..resource import Aws, Resource, Value, given, number, tags


class Key(Resource):
    kind = "aws_kms_key"
    # Says how to delete it.
    unsent = frozenset({"deletion_window_in_days"})

    def create(self, aws: Aws, plan: Value) -> Value:
        made = aws.kms.create_key(**given(Description=plan.get("description"), Policy=plan.get("policy")))["KeyMetadata"]
        if plan.get("enable_key_rotation") is True:
            aws.kms.enable_key_rotation(KeyId=made["KeyId"])
        return plan | {
            "id": made["KeyId"], "key_id": made["KeyId"], "arn": made["Arn"], "multi_region": False, "region": aws.region,
            "rotation_period_in_days": 365, "tags_all": tags(plan),
        }  # fmt: skip

    def update(self, aws: Aws, state: Value, plan: Value) -> Value:
        aws.kms.update_key_description(KeyId=state["id"], Description=plan.get("description") or "")
        aws.kms.put_key_policy(KeyId=state["id"], PolicyName="default", Policy=plan["policy"])
        return plan | {"tags_all": tags(plan)}

    def read(self, aws: Aws, state: Value) -> Value | None:
        found = aws.kms.describe_key(KeyId=state["id"])["KeyMetadata"]
        return None if found["KeyState"] == "PendingDeletion" else state

    def delete(self, aws: Aws, state: Value) -> None:
        days = number(state.get("deletion_window_in_days")) or 30
        aws.kms.schedule_key_deletion(KeyId=state["id"], PendingWindowInDays=days)


class Alias(Resource):
    kind = "aws_kms_alias"
    replaced_by = frozenset({"name"})

    def create(self, aws: Aws, plan: Value) -> Value:
        aws.kms.create_alias(AliasName=plan["name"], TargetKeyId=plan["target_key_id"])
        return plan | {
            "id": plan["name"], "arn": aws.arn("kms", plan["name"]), "name_prefix": "", "region": aws.region,
            "target_key_arn": aws.arn("kms", f"key/{plan['target_key_id']}"),
        }  # fmt: skip

    def update(self, aws: Aws, state: Value, plan: Value) -> Value:
        aws.kms.update_alias(AliasName=plan["name"], TargetKeyId=plan["target_key_id"])
        return plan | {"target_key_arn": aws.arn("kms", f"key/{plan['target_key_id']}")}

    def read(self, aws: Aws, state: Value) -> Value | None:
        pages = aws.kms.get_paginator("list_aliases").paginate()
        return state if any(a["AliasName"] == state["name"] for page in pages for a in page["Aliases"]) else None

    def delete(self, aws: Aws, state: Value) -> None:
        aws.kms.delete_alias(AliasName=state["name"])


KINDS = (Key, Alias)
