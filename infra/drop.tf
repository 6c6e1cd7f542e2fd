# The drop folder: S3 → queue → function, and a queue for what no attempt could take in.

resource "aws_sqs_queue" "drop" {
  name = "${var.name}-drop"
  # AWS advises six times the function's time-out: a message must not reappear while an attempt is under way.
  visibility_timeout_seconds        = 6 * var.functions.ingest_drop.timeout_s
  message_retention_seconds         = 4 * 86400
  receive_wait_time_seconds         = 20
  sqs_managed_sse_enabled           = var.kms.enabled ? null : true
  kms_master_key_id                 = local.kms_key_arn
  kms_data_key_reuse_period_seconds = var.kms.enabled ? 3600 : null
  tags                              = var.tags

  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.drop_dead.arn
    maxReceiveCount     = var.drop.attempts
  })
}

resource "aws_sqs_queue" "drop_dead" {
  name                              = "${var.name}-drop-dead"
  message_retention_seconds         = 14 * 86400
  sqs_managed_sse_enabled           = var.kms.enabled ? null : true
  kms_master_key_id                 = local.kms_key_arn
  kms_data_key_reuse_period_seconds = var.kms.enabled ? 3600 : null
  tags                              = var.tags

  redrive_allow_policy = jsonencode({
    redrivePermission = "byQueue"
    sourceQueueArns   = [local.queue_arns["drop"]]
  })
}

resource "aws_sqs_queue_policy" "drop" {
  queue_url = aws_sqs_queue.drop.id
  policy    = jsonencode(local.queue_policies["drop"])
}

resource "aws_lambda_event_source_mapping" "drop" {
  event_source_arn        = aws_sqs_queue.drop.arn
  function_name           = aws_lambda_function.tarn["ingest_drop"].arn
  batch_size              = var.drop.batch_size
  function_response_types = ["ReportBatchItemFailures"]

  scaling_config {
    maximum_concurrency = var.drop.max_concurrency
  }

  depends_on = [aws_iam_role_policy.function]
}

locals {
  # Only this bucket may send, and only for this account.
  queue_policies = {
    for queue in ["drop", "build"] : queue => {
      Version = "2012-10-17"
      Statement = [
        {
          Sid       = "BucketNotifies"
          Effect    = "Allow"
          Principal = { Service = "s3.amazonaws.com" }
          Action    = "sqs:SendMessage"
          Resource  = local.queue_arns[queue]
          Condition = {
            ArnEquals    = { "aws:SourceArn" = local.bucket_arn }
            StringEquals = { "aws:SourceAccount" = local.account }
          }
        },
        {
          Sid       = "TlsOnly"
          Effect    = "Deny"
          Principal = "*"
          Action    = "sqs:*"
          Resource  = local.queue_arns[queue]
          Condition = { Bool = { "aws:SecureTransport" = "false" } }
        },
      ]
    }
  }
}
