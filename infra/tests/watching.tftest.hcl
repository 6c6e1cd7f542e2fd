# Alarms, and the dashboard.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  package_dir = "./tests/packages"
  alarms      = { actions = ["arn:aws:sns:us-east-1:123456789012:ops"], error_percent = 2 }
}

run "everything_is_watched" {
  command = plan

  assert {
    condition     = toset(keys(aws_cloudwatch_metric_alarm.error_rate)) == toset(keys(local.function_names))
    error_message = "a function's errors go unseen"
  }

  assert {
    condition     = { for key, alarm in aws_cloudwatch_metric_alarm.dead_letters : key => alarm.dimensions.QueueName } == { drop = "tarn-drop-dead", build = "tarn-build-dead" }
    error_message = "dead letters go unseen"
  }

  assert {
    condition     = one(aws_cloudwatch_metric_alarm.query_p99).extended_statistic == "p99" && one(aws_cloudwatch_metric_alarm.builder_lag).metric_name == "ApproximateAgeOfOldestMessage"
    error_message = "slow searches or slow builders go unseen"
  }

  assert {
    condition = alltrue([
      for alarm in concat(values(aws_cloudwatch_metric_alarm.error_rate), values(aws_cloudwatch_metric_alarm.dead_letters), aws_cloudwatch_metric_alarm.query_p99, aws_cloudwatch_metric_alarm.builder_lag, values(aws_cloudwatch_metric_alarm.throttles), aws_cloudwatch_metric_alarm.large_builds) :
      alarm.alarm_actions == toset(["arn:aws:sns:us-east-1:123456789012:ops"])
    ])
    error_message = "an alarm tells nobody"
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.error_rate["query"].threshold == 2
    error_message = "the threshold is not the one asked for"
  }
}

run "no_alarms_on_request" {
  command = plan

  variables {
    alarms = { enabled = false }
  }

  assert {
    condition     = length(aws_cloudwatch_metric_alarm.error_rate) + length(aws_cloudwatch_metric_alarm.query_p99) + length(aws_cloudwatch_metric_alarm.dead_letters) == 0
    error_message = "alarms are made though nobody wants them"
  }
}

run "the_dashboard_is_json" {
  # It names the API, whose id is known only once it is made.
  command = apply

  assert {
    condition     = length(jsondecode(aws_cloudwatch_dashboard.tarn.dashboard_body).widgets) == 6
    error_message = "the dashboard lacks graphs"
  }
}
