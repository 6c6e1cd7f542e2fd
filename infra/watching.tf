# Alarms, and a dashboard that shows what they watch.

locals {
  watched = var.alarms.enabled ? local.function_names : {}
  queues  = { drop = aws_sqs_queue.drop.name, build = aws_sqs_queue.build.name }
  dead    = { drop = aws_sqs_queue.drop_dead.name, build = aws_sqs_queue.build_dead.name }
}

resource "aws_cloudwatch_metric_alarm" "dead_letters" {
  for_each = var.alarms.enabled ? local.dead : {}

  alarm_name          = "${each.value}-not-empty"
  alarm_description   = "Something could not be processed after all attempts. Look at the message, mend the cause, redrive the queue."
  namespace           = "AWS/SQS"
  metric_name         = "ApproximateNumberOfMessagesVisible"
  dimensions          = { QueueName = each.value }
  statistic           = "Maximum"
  period              = 60
  evaluation_periods  = 1
  threshold           = 0
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarms.actions
  ok_actions          = var.alarms.actions
  tags                = var.tags
}

resource "aws_cloudwatch_metric_alarm" "builder_lag" {
  count = var.alarms.enabled ? 1 : 0

  alarm_name          = "${local.function_names.builder}-lag"
  alarm_description   = "Deltas have been waiting for a builder for longer than ${var.alarms.builder_lag_s} s. Searches stay correct and get slower."
  namespace           = "AWS/SQS"
  metric_name         = "ApproximateAgeOfOldestMessage"
  dimensions          = { QueueName = aws_sqs_queue.build.name }
  statistic           = "Maximum"
  period              = 300
  evaluation_periods  = 2
  threshold           = var.alarms.builder_lag_s
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarms.actions
  ok_actions          = var.alarms.actions
  tags                = var.tags
}

resource "aws_cloudwatch_metric_alarm" "error_rate" {
  for_each = local.watched

  alarm_name          = "${each.value}-errors"
  alarm_description   = "More than ${var.alarms.error_percent} % of the invocations of ${each.value} failed."
  evaluation_periods  = 2
  threshold           = var.alarms.error_percent
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarms.actions
  ok_actions          = var.alarms.actions
  tags                = var.tags

  metric_query {
    id          = "percent"
    expression  = "IF(invocations > 0, 100 * errors / invocations, 0)"
    label       = "Failed invocations, %"
    return_data = true
  }

  dynamic "metric_query" {
    for_each = { errors = "Errors", invocations = "Invocations" }

    content {
      id          = metric_query.key
      return_data = false

      metric {
        namespace   = "AWS/Lambda"
        metric_name = metric_query.value
        dimensions  = { FunctionName = each.value }
        stat        = "Sum"
        period      = 300
      }
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "throttles" {
  for_each = local.watched

  alarm_name          = "${each.value}-throttles"
  alarm_description   = "Lambda refused invocations of ${each.value}: the account's or the function's concurrency is used up."
  namespace           = "AWS/Lambda"
  metric_name         = "Throttles"
  dimensions          = { FunctionName = each.value }
  statistic           = "Sum"
  period              = 300
  evaluation_periods  = 2
  threshold           = var.alarms.throttled_calls
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarms.actions
  ok_actions          = var.alarms.actions
  tags                = var.tags
}

resource "aws_cloudwatch_metric_alarm" "query_p99" {
  count = var.alarms.enabled ? 1 : 0

  alarm_name          = "${local.function_names.query}-p99"
  alarm_description   = "One search in a hundred takes longer than ${var.alarms.query_p99_ms} ms."
  namespace           = "AWS/Lambda"
  metric_name         = "Duration"
  dimensions          = { FunctionName = local.function_names.query }
  extended_statistic  = "p99"
  period              = 300
  evaluation_periods  = 3
  datapoints_to_alarm = 2
  threshold           = var.alarms.query_p99_ms
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "notBreaching"
  # Below some hundred searches the hundredth-slowest is an accident.
  evaluate_low_sample_count_percentiles = "ignore"
  alarm_actions                         = var.alarms.actions
  ok_actions                            = var.alarms.actions
  tags                                  = var.tags
}

resource "aws_cloudwatch_metric_alarm" "large_builds" {
  count = var.alarms.enabled ? 1 : 0

  alarm_name          = "${local.state_machine}-failed"
  alarm_description   = "A large build failed after all attempts. Starting it again is safe."
  namespace           = "AWS/States"
  metric_name         = "ExecutionsFailed"
  dimensions          = { StateMachineArn = local.state_machine_arn }
  statistic           = "Sum"
  period              = 300
  evaluation_periods  = 1
  threshold           = 0
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarms.actions
  ok_actions          = var.alarms.actions
  tags                = var.tags
}

# --- The dashboard ------------------------------------------------------------------------------------------------------

locals {
  # Title → what it plots; three in a row.
  graphs = [
    {
      title   = "Requests"
      stat    = "Sum"
      metrics = [for name in ["Count", "4xx", "5xx"] : ["AWS/ApiGateway", name, "ApiId", aws_apigatewayv2_api.http.id]]
    },
    {
      title = "Search: time in the function, ms"
      stat  = "p50"
      metrics = [for stat in ["p50", "p95", "p99"] :
        ["AWS/Lambda", "Duration", "FunctionName", local.function_names.query, { stat = stat, label = stat }]
      ]
    },
    {
      title   = "Failed invocations"
      stat    = "Sum"
      metrics = [for name in values(local.function_names) : ["AWS/Lambda", "Errors", "FunctionName", name]]
    },
    {
      title   = "Waiting: age of the oldest event, s"
      stat    = "Maximum"
      metrics = [for name in values(local.queues) : ["AWS/SQS", "ApproximateAgeOfOldestMessage", "QueueName", name]]
    },
    {
      title   = "Dead letters"
      stat    = "Maximum"
      metrics = [for name in values(local.dead) : ["AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", name]]
    },
    {
      title   = "Invocations at once"
      stat    = "Maximum"
      metrics = [for name in values(local.function_names) : ["AWS/Lambda", "ConcurrentExecutions", "FunctionName", name]]
    },
  ]
}

resource "aws_cloudwatch_dashboard" "tarn" {
  dashboard_name = var.name
  dashboard_body = jsonencode({
    widgets = [
      for i, graph in local.graphs : {
        type   = "metric"
        x      = 8 * (i % 3)
        y      = 6 * floor(i / 3)
        width  = 8
        height = 6
        properties = {
          title   = graph.title
          region  = local.region
          stat    = graph.stat
          period  = 60
          view    = "timeSeries"
          metrics = graph.metrics
        }
      }
    ]
  })
}
