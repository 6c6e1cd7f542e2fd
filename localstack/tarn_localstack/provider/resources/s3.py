"""The bucket and its settings."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from ..resource import Aws, Resource, Value, first, given, number, same_json, tags


class Bucket(Resource):
    kind = "aws_s3_bucket"
    replaced_by = frozenset({"bucket"})
    # Says how to delete it.
    unsent = frozenset({"force_destroy"})

    def create(self, aws: Aws, plan: Value) -> Value:
        aws.s3.create_bucket(Bucket=plan["bucket"])
        return self.update(aws, plan, plan)

    def update(self, aws: Aws, state: Value, plan: Value) -> Value:
        name = plan["bucket"]
        return plan | {
            "id": name, "arn": f"arn:aws:s3:::{name}", "region": aws.region, "bucket_region": aws.region,
            "bucket_domain_name": f"{name}.s3.amazonaws.com", "tags_all": tags(plan),
            "bucket_regional_domain_name": f"{name}.s3.{aws.region}.amazonaws.com",
        }  # fmt: skip

    def read(self, aws: Aws, state: Value) -> Value | None:
        aws.s3.head_bucket(Bucket=state["bucket"])
        return state

    def delete(self, aws: Aws, state: Value) -> None:
        bucket = state["bucket"]
        while True:
            try:
                return aws.s3.delete_bucket(Bucket=bucket)
            except ClientError as error:
                if error.response["Error"]["Code"] != "BucketNotEmpty" or not state.get("force_destroy"):
                    raise
            # As the real provider does: again when a function that was still at work has written meanwhile.
            _empty(aws, bucket)


def _empty(aws: Aws, bucket: str) -> None:
    for page in aws.s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
        objects = [
            {"Key": entry["Key"], "VersionId": entry["VersionId"]}
            for entry in page.get("Versions", []) + page.get("DeleteMarkers", [])
        ]
        if objects:
            aws.s3.delete_objects(Bucket=bucket, Delete={"Objects": objects, "Quiet": True})


class OfBucket(Resource):
    """A setting of a bucket, written as a whole."""

    replaced_by = frozenset({"bucket"})

    def create(self, aws: Aws, plan: Value) -> Value:
        self.put(aws, plan)
        return plan | {"id": plan["bucket"], "region": aws.region}

    def put(self, aws: Aws, plan: Value) -> None:
        raise NotImplementedError

    def read(self, aws: Aws, state: Value) -> Value | None:
        aws.s3.head_bucket(Bucket=state["bucket"])
        return state

    def delete(self, aws: Aws, state: Value) -> None:
        """Most settings end with their bucket."""


class PublicAccess(OfBucket):
    kind = "aws_s3_bucket_public_access_block"
    _WORDS = {
        "block_public_acls": "BlockPublicAcls", "block_public_policy": "BlockPublicPolicy",
        "ignore_public_acls": "IgnorePublicAcls", "restrict_public_buckets": "RestrictPublicBuckets",
    }  # fmt: skip

    def put(self, aws: Aws, plan: Value) -> None:
        blocked = {word: bool(plan.get(name)) for name, word in self._WORDS.items()}
        aws.s3.put_public_access_block(Bucket=plan["bucket"], PublicAccessBlockConfiguration=blocked)

    def read(self, aws: Aws, state: Value) -> Value | None:
        found = aws.s3.get_public_access_block(Bucket=state["bucket"])["PublicAccessBlockConfiguration"]
        return state | {name: found[word] for name, word in self._WORDS.items()}

    def delete(self, aws: Aws, state: Value) -> None:
        aws.s3.delete_public_access_block(Bucket=state["bucket"])


class Ownership(OfBucket):
    kind = "aws_s3_bucket_ownership_controls"

    def put(self, aws: Aws, plan: Value) -> None:
        rules = [{"ObjectOwnership": rule["object_ownership"]} for rule in plan["rule"]]
        aws.s3.put_bucket_ownership_controls(Bucket=plan["bucket"], OwnershipControls={"Rules": rules})


class Versioning(OfBucket):
    kind = "aws_s3_bucket_versioning"

    def put(self, aws: Aws, plan: Value) -> None:
        status = plan["versioning_configuration"][0]["status"]
        aws.s3.put_bucket_versioning(Bucket=plan["bucket"], VersioningConfiguration={"Status": status})

    def read(self, aws: Aws, state: Value) -> Value | None:
        status = aws.s3.get_bucket_versioning(Bucket=state["bucket"]).get("Status", "Disabled")
        return state | {"versioning_configuration": [state["versioning_configuration"][0] | {"status": status}]}


class Encryption(OfBucket):
    kind = "aws_s3_bucket_server_side_encryption_configuration"

    def put(self, aws: Aws, plan: Value) -> None:
        rules = []
        for rule in plan["rule"]:
            default = first(rule, "apply_server_side_encryption_by_default") or {}
            rules.append({
                "ApplyServerSideEncryptionByDefault": given(
                    SSEAlgorithm=default.get("sse_algorithm"), KMSMasterKeyID=default.get("kms_master_key_id")
                ),
                "BucketKeyEnabled": bool(rule.get("bucket_key_enabled")),
            })  # fmt: skip
        aws.s3.put_bucket_encryption(Bucket=plan["bucket"], ServerSideEncryptionConfiguration={"Rules": rules})


class Lifecycle(OfBucket):
    kind = "aws_s3_bucket_lifecycle_configuration"

    def put(self, aws: Aws, plan: Value) -> None:
        aws.s3.put_bucket_lifecycle_configuration(
            Bucket=plan["bucket"], LifecycleConfiguration={"Rules": [self._rule(rule) for rule in plan["rule"]]}
        )

    def _rule(self, rule: Value) -> dict[str, Any]:
        expiration = first(rule, "expiration") or {}
        old = first(rule, "noncurrent_version_expiration") or {}
        parts = first(rule, "abort_incomplete_multipart_upload") or {}
        marker = expiration.get("expired_object_delete_marker")
        return given(
            ID=rule["id"],
            Status=rule["status"],
            Expiration=given(Days=number(expiration.get("days")), ExpiredObjectDeleteMarker=marker if marker is True else None),
            NoncurrentVersionExpiration=given(NoncurrentDays=number(old.get("noncurrent_days"))),
            AbortIncompleteMultipartUpload=given(DaysAfterInitiation=number(parts.get("days_after_initiation"))),
        ) | {"Filter": {"Prefix": (first(rule, "filter") or {}).get("prefix") or ""}}

    def delete(self, aws: Aws, state: Value) -> None:
        aws.s3.delete_bucket_lifecycle(Bucket=state["bucket"])


class Policy(OfBucket):
    kind = "aws_s3_bucket_policy"

    def put(self, aws: Aws, plan: Value) -> None:
        aws.s3.put_bucket_policy(Bucket=plan["bucket"], Policy=plan["policy"])

    def read(self, aws: Aws, state: Value) -> Value | None:
        found = aws.s3.get_bucket_policy(Bucket=state["bucket"])["Policy"]
        return state if same_json(found, state["policy"]) else state | {"policy": found}

    def delete(self, aws: Aws, state: Value) -> None:
        aws.s3.delete_bucket_policy(Bucket=state["bucket"])


class Notification(OfBucket):
    kind = "aws_s3_bucket_notification"

    def put(self, aws: Aws, plan: Value) -> None:
        queues = []
        for queue in plan.get("queue") or []:
            rules = [
                {"Name": word, "Value": queue[name]}
                for word, name in (("prefix", "filter_prefix"), ("suffix", "filter_suffix"))
                if queue.get(name)
            ]
            queues.append(
                {"Id": queue["id"], "QueueArn": queue["queue_arn"], "Events": sorted(queue["events"])}
                | ({"Filter": {"Key": {"FilterRules": rules}}} if rules else {})
            )
        aws.s3.put_bucket_notification_configuration(
            Bucket=plan["bucket"], NotificationConfiguration={"QueueConfigurations": queues}
        )

    def read(self, aws: Aws, state: Value) -> Value | None:
        found = aws.s3.get_bucket_notification_configuration(Bucket=state["bucket"]).get("QueueConfigurations", [])
        there = {queue["Id"] for queue in found}
        return state | {"queue": [queue for queue in state.get("queue") or [] if queue["id"] in there]}

    def delete(self, aws: Aws, state: Value) -> None:
        aws.s3.put_bucket_notification_configuration(Bucket=state["bucket"], NotificationConfiguration={})


KINDS = (Bucket, PublicAccess, Ownership, Versioning, Encryption, Lifecycle, Policy, Notification)
