# The bucket: private, versioned, encrypted, over TLS only, and never emptied by a lifecycle.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  package_dir = "./tests/packages"
}

run "closed_to_the_public" {
  command = plan

  assert {
    condition = alltrue([
      aws_s3_bucket_public_access_block.store.block_public_acls,
      aws_s3_bucket_public_access_block.store.block_public_policy,
      aws_s3_bucket_public_access_block.store.ignore_public_acls,
      aws_s3_bucket_public_access_block.store.restrict_public_buckets,
    ])
    error_message = "public access is not blocked"
  }

  assert {
    condition     = aws_s3_bucket_ownership_controls.store.rule[0].object_ownership == "BucketOwnerEnforced"
    error_message = "access control lists are in force"
  }

  assert {
    condition = anytrue([
      for statement in jsondecode(aws_s3_bucket_policy.store.policy).Statement :
      statement.Effect == "Deny" && statement.Action == "s3:*" && try(statement.Condition.Bool["aws:SecureTransport"], "") == "false"
    ])
    error_message = "the bucket answers without TLS"
  }

  assert {
    condition     = !aws_s3_bucket.store.force_destroy
    error_message = "the data goes with the deployment unless asked for"
  }
}

run "versions_and_lifecycle" {
  command = apply

  assert {
    condition     = aws_s3_bucket_versioning.store.versioning_configuration[0].status == "Enabled"
    error_message = "deletions are final"
  }

  assert {
    condition = toset([
      for rule in aws_s3_bucket_lifecycle_configuration.store.rule : rule.filter[0].prefix if try(rule.expiration[0].days, 0) > 0
    ]) == toset(["drop/", "drop-refused/", "drop-status/"])
    error_message = "a lifecycle rule expires something else than the drop folders"
  }

  assert {
    condition = anytrue([
      for rule in aws_s3_bucket_lifecycle_configuration.store.rule :
      try(rule.noncurrent_version_expiration[0].noncurrent_days, 0) == 7 && try(rule.abort_incomplete_multipart_upload[0].days_after_initiation, 0) == 2
    ])
    error_message = "old versions or unfinished uploads stay for ever"
  }
}

run "notifications_reach_the_right_queue" {
  command = plan

  variables {
    store_prefix = "root/"
  }

  assert {
    condition = { for queue in aws_s3_bucket_notification.store.queue : queue.id => "${queue.filter_prefix}|${coalesce(queue.filter_suffix, "-")}" } == {
      dropped   = "root/drop/|-"
      committed = "root/sources/|.parquet"
    }
    error_message = "notifications are filtered otherwise"
  }

  assert {
    condition     = aws_lambda_function.tarn["query"].environment[0].variables.TARN_STORE == "s3://tarn-123456789012-us-east-1/root"
    error_message = "the functions look for the store elsewhere"
  }
}

run "service_keys_by_default" {
  command = plan

  assert {
    condition     = one(one(aws_s3_bucket_server_side_encryption_configuration.store.rule).apply_server_side_encryption_by_default).sse_algorithm == "AES256" && length(aws_kms_key.store) == 0
    error_message = "a key is made though nobody asked for one"
  }

  assert {
    condition     = alltrue([for queue in [aws_sqs_queue.drop, aws_sqs_queue.drop_dead, aws_sqs_queue.build, aws_sqs_queue.build_dead] : queue.sqs_managed_sse_enabled])
    error_message = "a queue is not encrypted"
  }
}

run "one_key_for_everything" {
  # A new key's ARN is known only once it is made.
  command = apply

  variables {
    kms = { enabled = true }
  }

  override_resource {
    target = aws_kms_key.store[0]
    values = { arn = "arn:aws:kms:us-east-1:123456789012:key/one" }
  }

  assert {
    condition     = aws_kms_key.store[0].enable_key_rotation
    error_message = "the key is not rotated"
  }

  assert {
    condition = toset(concat(
      [one(one(aws_s3_bucket_server_side_encryption_configuration.store.rule).apply_server_side_encryption_by_default).kms_master_key_id],
      [for queue in [aws_sqs_queue.drop, aws_sqs_queue.drop_dead, aws_sqs_queue.build, aws_sqs_queue.build_dead] : queue.kms_master_key_id],
      [for function in aws_lambda_function.tarn : function.kms_key_arn],
      [for group in aws_cloudwatch_log_group.function : group.kms_key_id],
    )) == toset(["arn:aws:kms:us-east-1:123456789012:key/one"])
    error_message = "something is encrypted with another key"
  }

  assert {
    condition     = alltrue([for policy in values(local.permissions) : anytrue([for statement in policy.Statement : try(statement.Sid == "Key", false)])])
    error_message = "a function may not use the key"
  }

  assert {
    condition     = !anytrue([for statement in local.permissions.query.Statement : contains(statement.Action, "kms:GenerateDataKey")])
    error_message = "query may encrypt though it writes nothing"
  }
}
