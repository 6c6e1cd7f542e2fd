# When the builder runs, and when garbage is collected.
#
# Debounce: every new delta puts a message into the `build` queue; Lambda gathers messages for `debounce_s` (or up to 10,000)
# and starts one run for all of them. At most two such runs work at once, whatever comes in; two builders race for one
# generation number and the loser leaves garbage, so more would be waste but never harm. A failed run's messages come back;
# the schedule runs the builder anyway.

resource "aws_sqs_queue" "build" {
  name = "${var.name}-build"
  # As for the drop queue, and the time for which messages are gathered before the function starts.
  visibility_timeout_seconds        = 6 * var.functions.builder.timeout_s + var.build.debounce_s
  message_retention_seconds         = 86400
  receive_wait_time_seconds         = 20
  sqs_managed_sse_enabled           = var.kms.enabled ? null : true
  kms_master_key_id                 = local.kms_key_arn
  kms_data_key_reuse_period_seconds = var.kms.enabled ? 3600 : null
  tags                              = var.tags

  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.build_dead.arn
    maxReceiveCount     = 3
  })
}

resource "aws_sqs_queue" "build_dead" {
  name                              = "${var.name}-build-dead"
  message_retention_seconds         = 14 * 86400
  sqs_managed_sse_enabled           = var.kms.enabled ? null : true
  kms_master_key_id                 = local.kms_key_arn
  kms_data_key_reuse_period_seconds = var.kms.enabled ? 3600 : null
  tags                              = var.tags

  redrive_allow_policy = jsonencode({
    redrivePermission = "byQueue"
    sourceQueueArns   = [local.queue_arns["build"]]
  })
}

resource "aws_sqs_queue_policy" "build" {
  queue_url = aws_sqs_queue.build.id
  policy    = jsonencode(local.queue_policies["build"])
}

resource "aws_lambda_event_source_mapping" "build" {
  event_source_arn                   = aws_sqs_queue.build.arn
  function_name                      = aws_lambda_function.tarn["builder"].arn
  batch_size                         = 10000
  maximum_batching_window_in_seconds = var.build.debounce_s

  scaling_config {
    maximum_concurrency = 2
  }

  depends_on = [aws_iam_role_policy.function]
}

# --- Schedules ----------------------------------------------------------------------------------------------------------

locals {
  schedules = {
    for key, schedule in {
      builder = { expression = var.build.schedule, input = { task = "run" } }
      gc      = { expression = var.gc_schedule, input = { task = "gc", receiptRetentionMs = var.retention.receipt_days * 86400000 } }
    } : key => schedule if schedule.expression != ""
  }
}

resource "aws_cloudwatch_event_rule" "schedule" {
  for_each = local.schedules

  name                = "${local.function_names[each.key]}-schedule"
  description         = "Runs ${local.function_names[each.key]}"
  schedule_expression = each.value.expression
  tags                = var.tags
}

resource "aws_cloudwatch_event_target" "schedule" {
  for_each = local.schedules

  rule      = aws_cloudwatch_event_rule.schedule[each.key].name
  target_id = each.key
  arn       = aws_lambda_function.tarn[each.key].arn
  input     = jsonencode(each.value.input)
}

resource "aws_lambda_permission" "schedule" {
  for_each = local.schedules

  statement_id  = "schedule"
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.tarn[each.key].function_name
  principal     = "events.amazonaws.com"
  source_arn    = aws_cloudwatch_event_rule.schedule[each.key].arn
}

# A run that failed is not repeated at once: the next one of the schedule does the same work.
resource "aws_lambda_function_event_invoke_config" "scheduled" {
  for_each = toset(["builder", "gc"])

  function_name                = aws_lambda_function.tarn[each.key].function_name
  maximum_retry_attempts       = 0
  maximum_event_age_in_seconds = 300
}
