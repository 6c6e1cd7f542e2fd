# Building what is too large for one invocation: plan → folds → parts of builds → publish, fanned out by Step Functions.
#
# The plan's answer is `{"folds": [...], "builds": [...], ...}`; every item is a complete event for the builder. Tasks are
# idempotent and named by their inputs, so anything may be retried. One that is given up all the same is a failed answer, so
# that it takes nothing with it but its own index. The builder gets the plan and the answers of all tasks back in `publish`.
# Step Functions bounds them together: 256 KiB.

locals {
  retry_of_tasks = [
    {
      ErrorEquals = ["Lambda.TooManyRequestsException", "Lambda.ServiceException", "Lambda.SdkClientException"]
      # As long as a builder may take: then there is room for one more.
      IntervalSeconds = 2
      BackoffRate     = 2
      MaxAttempts     = 40
      MaxDelaySeconds = 60
      JitterStrategy  = "FULL"
    },
    {
      # A builder that died, or ran out of time or memory.
      ErrorEquals     = ["States.ALL"]
      IntervalSeconds = 5
      BackoffRate     = 2
      MaxAttempts     = 2
    },
  ]

  # One task of the builder; its answer alone is the result.
  builder_task = {
    Type           = "Task"
    Resource       = "arn:${local.partition}:states:::lambda:invoke"
    TimeoutSeconds = var.functions.builder.timeout_s + 60
    Retry          = local.retry_of_tasks
    OutputPath     = "$.Payload"
  }

  fan_out = {
    for step in ["Fold", "Build"] : step => {
      Type           = "Map"
      Label          = step
      ItemsPath      = "$.plan.${lower(step)}s"
      MaxConcurrency = var.build.fan_out
      ResultPath     = "$.${lower(step)}s"
      ItemProcessor = {
        ProcessorConfig = { Mode = "DISTRIBUTED", ExecutionType = "STANDARD" }
        StartAt         = "${step}One"
        States = {
          "${step}One" = merge(local.builder_task, {
            Parameters = { FunctionName = local.function_arns.builder, "Payload.$" = "$" }
            Catch      = [{ ErrorEquals = ["States.ALL"], ResultPath = "$.error", Next = "${step}Failed" }]
            End        = true
          })
          # An answer like the builder's own: publish publishes everything else, and then fails.
          "${step}Failed" = {
            Type       = "Pass"
            Parameters = { "failed.$" = "States.Format('a ${lower(step)} was given up: {}', $.error.Error)" }
            End        = true
          }
        }
      }
    }
  }

  build_definition = {
    Comment = "Tarn: builds a large index by many tasks"
    StartAt = "Plan"
    States = {
      Plan = merge({ for key, value in local.builder_task : key => value if key != "OutputPath" }, {
        Parameters     = { FunctionName = local.function_arns.builder, Payload = { task = "plan" } }
        ResultSelector = { "plan.$" = "$.Payload" }
        Next           = "Fold"
      })
      Fold  = merge(local.fan_out.Fold, { Next = "Build" })
      Build = merge(local.fan_out.Build, { Next = "Publish" })
      Publish = merge(local.builder_task, {
        Parameters = {
          FunctionName = local.function_arns.builder
          Payload      = { task = "publish", "plan.$" = "$.plan", "folds.$" = "$.folds", "builds.$" = "$.builds" }
        }
        End = true
      })
    }
  }
}

resource "aws_sfn_state_machine" "build" {
  name       = local.state_machine
  type       = "STANDARD"
  role_arn   = aws_iam_role.state_machine.arn
  definition = jsonencode(local.build_definition)
  tags       = var.tags

  logging_configuration {
    level                  = "ERROR"
    include_execution_data = false
    log_destination        = "${aws_cloudwatch_log_group.state_machine.arn}:*"
  }

  tracing_configuration {
    enabled = var.tracing
  }

  depends_on = [aws_iam_role_policy.state_machine, aws_lambda_function.tarn]
}

resource "aws_cloudwatch_log_group" "state_machine" {
  # Step Functions needs this prefix once an account has many logs.
  name              = "/aws/vendedlogs/states/${local.state_machine}"
  retention_in_days = var.retention.log_days
  kms_key_id        = local.kms_key_arn
  tags              = var.tags
}

locals {
  state_machine_permissions = {
    Version = "2012-10-17"
    Statement = concat([
      {
        Sid      = "Tasks"
        Effect   = "Allow"
        Action   = ["lambda:InvokeFunction"]
        Resource = [local.function_arns.builder]
      },
      {
        # A distributed map runs its items as executions of its own machine.
        Sid      = "FanOut"
        Effect   = "Allow"
        Action   = ["states:StartExecution"]
        Resource = [local.state_machine_arn]
      },
      {
        Sid    = "FollowUp"
        Effect = "Allow"
        Action = ["states:DescribeExecution", "states:StopExecution", "states:RedriveExecution"]
        Resource = [
          "${replace(local.state_machine_arn, ":stateMachine:", ":execution:")}:*",
          "${replace(local.state_machine_arn, ":stateMachine:", ":execution:")}/*",
        ]
      },
      {
        # CloudWatch's delivery of logs knows no resources.
        Sid    = "Log"
        Effect = "Allow"
        Action = [
          "logs:CreateLogDelivery", "logs:GetLogDelivery", "logs:UpdateLogDelivery", "logs:DeleteLogDelivery",
          "logs:ListLogDeliveries", "logs:PutResourcePolicy", "logs:DescribeResourcePolicies", "logs:DescribeLogGroups",
        ]
        Resource = ["*"]
      },
    ], local.may_trace)
  }
}

resource "aws_iam_role" "state_machine" {
  name        = "${local.state_machine}-${local.region}"
  description = "Execution of the state machine ${local.state_machine}"
  tags        = var.tags

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "states.amazonaws.com" }
      Action    = "sts:AssumeRole"
      Condition = { StringEquals = { "aws:SourceAccount" = local.account } }
    }]
  })
}

resource "aws_iam_role_policy" "state_machine" {
  name   = "tarn"
  role   = aws_iam_role.state_machine.name
  policy = jsonencode(local.state_machine_permissions)
}

# --- Starting it on a schedule ------------------------------------------------------------------------------------------

resource "aws_cloudwatch_event_rule" "large_build" {
  count = var.build.large_schedule == "" ? 0 : 1

  name                = "${local.state_machine}-schedule"
  description         = "Starts ${local.state_machine}"
  schedule_expression = var.build.large_schedule
  tags                = var.tags
}

resource "aws_cloudwatch_event_target" "large_build" {
  count = length(aws_cloudwatch_event_rule.large_build)

  rule      = aws_cloudwatch_event_rule.large_build[0].name
  target_id = "state-machine"
  arn       = aws_sfn_state_machine.build.arn
  role_arn  = aws_iam_role.large_build[0].arn
}

resource "aws_iam_role" "large_build" {
  count = length(aws_cloudwatch_event_rule.large_build)

  name        = "${local.state_machine}-schedule-${local.region}"
  description = "Starting of the state machine ${local.state_machine}"
  tags        = var.tags

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "events.amazonaws.com" }
      Action    = "sts:AssumeRole"
    }]
  })
}

resource "aws_iam_role_policy" "large_build" {
  count = length(aws_cloudwatch_event_rule.large_build)

  name = "tarn"
  role = aws_iam_role.large_build[0].name
  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = ["states:StartExecution"], Resource = [local.state_machine_arn] }]
  })
}
