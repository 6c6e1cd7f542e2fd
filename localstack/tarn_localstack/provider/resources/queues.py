"""SQS queues and their policies."""

from __future__ import annotations

from ..resource import Aws, Resource, Value, given, number, same_json, tags

_NUMBERS = {
    "visibility_timeout_seconds": "VisibilityTimeout",
    "message_retention_seconds": "MessageRetentionPeriod",
    "receive_wait_time_seconds": "ReceiveMessageWaitTimeSeconds",
    "delay_seconds": "DelaySeconds",
    "kms_data_key_reuse_period_seconds": "KmsDataKeyReusePeriodSeconds",
}
_TEXTS = {"redrive_policy": "RedrivePolicy", "redrive_allow_policy": "RedriveAllowPolicy", "kms_master_key_id": "KmsMasterKeyId"}


class Queue(Resource):
    kind = "aws_sqs_queue"
    replaced_by = frozenset({"name"})

    def _attributes(self, plan: Value) -> dict[str, str]:
        numbers = {word: number(plan.get(name)) for name, word in _NUMBERS.items()}
        texts = {word: plan.get(name) for name, word in _TEXTS.items()}
        encrypted = plan.get("sqs_managed_sse_enabled")
        flags = {"SqsManagedSseEnabled": str(encrypted).lower() if isinstance(encrypted, bool) else None}
        return {word: str(value) for word, value in given(**numbers, **texts, **flags).items()}

    def _state(self, aws: Aws, plan: Value, url: str) -> Value:
        found = aws.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        numbers = {name: int(found[word]) for name, word in _NUMBERS.items() if word in found}
        return numbers | {k: v for k, v in plan.items() if k not in numbers or isinstance(v, (int, float))} | {
            "id": url, "url": url, "arn": found["QueueArn"], "tags_all": tags(plan), "region": aws.region, "name_prefix": "",
            "policy": found.get("Policy", ""),
        }  # fmt: skip

    def create(self, aws: Aws, plan: Value) -> Value:
        url = aws.sqs.create_queue(QueueName=plan["name"], Attributes=self._attributes(plan))["QueueUrl"]
        return self._state(aws, plan, url)

    def update(self, aws: Aws, state: Value, plan: Value) -> Value:
        aws.sqs.set_queue_attributes(QueueUrl=state["id"], Attributes=self._attributes(plan))
        return self._state(aws, plan, state["id"])

    def read(self, aws: Aws, state: Value) -> Value | None:
        found = aws.sqs.get_queue_attributes(QueueUrl=state["id"], AttributeNames=["All"])["Attributes"]
        numbers = {name: int(found[word]) for name, word in _NUMBERS.items() if word in found and state.get(name) is not None}
        return state | numbers

    def delete(self, aws: Aws, state: Value) -> None:
        aws.sqs.delete_queue(QueueUrl=state["id"])


class QueuePolicy(Resource):
    kind = "aws_sqs_queue_policy"
    replaced_by = frozenset({"queue_url"})

    def create(self, aws: Aws, plan: Value) -> Value:
        aws.sqs.set_queue_attributes(QueueUrl=plan["queue_url"], Attributes={"Policy": plan["policy"]})
        return plan | {"id": plan["queue_url"], "region": aws.region}

    def read(self, aws: Aws, state: Value) -> Value | None:
        found = aws.sqs.get_queue_attributes(QueueUrl=state["id"], AttributeNames=["Policy"]).get("Attributes", {})
        policy = found.get("Policy")
        return state if policy is None or same_json(policy, state["policy"]) else state | {"policy": policy}

    def delete(self, aws: Aws, state: Value) -> None:
        aws.sqs.set_queue_attributes(QueueUrl=state["queue_url"], Attributes={"Policy": ""})


KINDS = (Queue, QueuePolicy)
