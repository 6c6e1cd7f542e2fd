# The functions, what starts them, and what holds them back.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  package_dir = "./tests/packages"
}

run "five_functions_of_three_packages" {
  command = plan

  assert {
    condition = { for key, function in aws_lambda_function.tarn : key => basename(function.filename) } == {
      ingest_http = "ingest-fn.zip"
      ingest_drop = "ingest-fn.zip"
      query       = "query-fn.zip"
      builder     = "builder.zip"
      gc          = "builder.zip"
    }
    error_message = "a function runs another package"
  }

  assert {
    condition     = alltrue([for function in aws_lambda_function.tarn : function.runtime == "provided.al2023" && function.architectures == tolist(["arm64"])])
    error_message = "a function has another runtime or processor"
  }

  assert {
    condition     = aws_lambda_function.tarn["ingest_http"].environment[0].variables.TARN_ENTRY == "http" && aws_lambda_function.tarn["ingest_drop"].environment[0].variables.TARN_ENTRY == "drop"
    error_message = "the two ingest functions have the wrong entry points"
  }

  assert {
    condition     = tonumber(aws_lambda_function.tarn["query"].environment[0].variables.TARN_CACHE_BYTES) < aws_lambda_function.tarn["query"].ephemeral_storage[0].size * 1024 * 1024
    error_message = "the cache does not fit into /tmp"
  }

  assert {
    condition     = tonumber(aws_lambda_function.tarn["builder"].environment[0].variables.TARN_BUILDER_MEMORY_MIB) < aws_lambda_function.tarn["builder"].memory_size
    error_message = "the builder plans with more memory than it has"
  }
}

run "x86" {
  command = plan

  variables {
    architecture = "x86_64"
  }

  assert {
    condition     = alltrue([for function in aws_lambda_function.tarn : function.architectures == tolist(["x86_64"])])
    error_message = "a function has another processor than asked for"
  }
}

run "builders_share_their_disk" {
  command = plan

  assert {
    condition = alltrue([
      for key in ["builder", "gc"] :
      2 * sum([for name in ["CACHE", "SPOOL"] : tonumber(aws_lambda_function.tarn[key].environment[0].variables["TARN_BUILDER_${name}_MIB"])]) <= aws_lambda_function.tarn[key].ephemeral_storage[0].size
    ])
    error_message = "a builder's copies leave less than half of /tmp to what it builds"
  }
}

run "searches_stay_in_one_invocation" {
  command = plan

  assert {
    condition     = !contains(keys(aws_lambda_function.tarn["query"].environment[0].variables), "TARN_LEAF_BYTES")
    error_message = "searches are shared out though nobody asked for it"
  }
}

run "large_searches_are_shared_out" {
  command = plan

  variables {
    search = { leaf_bytes = 536870912, leaves_max = 8 }
  }

  assert {
    condition     = [for name in ["TARN_LEAF_BYTES", "TARN_LEAVES_MAX"] : aws_lambda_function.tarn["query"].environment[0].variables[name]] == ["536870912", "8"]
    error_message = "the search function is not told from where on to share out, and how far"
  }
}

run "answers_are_kept_and_compared_when_asked_for" {
  command = plan

  variables {
    search = { query_cache_bytes = 268435456, recall_share = 0.01 }
  }

  assert {
    condition     = [for name in ["TARN_QUERY_CACHE", "TARN_RECALL_SHARE"] : aws_lambda_function.tarn["query"].environment[0].variables[name]] == ["268435456", "0.01"]
    error_message = "the search function is not told what to keep and what to compare"
  }
}

run "answers_are_neither_kept_nor_compared_by_themselves" {
  command = plan

  assert {
    condition     = !anytrue([for name in ["TARN_QUERY_CACHE", "TARN_RECALL_SHARE"] : contains(keys(aws_lambda_function.tarn["query"].environment[0].variables), name)])
    error_message = "answers are kept or compared though nobody asked for it"
  }
}

run "messages_wait_out_an_attempt" {
  command = plan

  assert {
    condition     = aws_sqs_queue.drop.visibility_timeout_seconds >= 6 * aws_lambda_function.tarn["ingest_drop"].timeout
    error_message = "a dropped file's event reappears while it is being taken in"
  }

  assert {
    condition     = aws_sqs_queue.build.visibility_timeout_seconds >= 6 * aws_lambda_function.tarn["builder"].timeout + aws_lambda_event_source_mapping.build.maximum_batching_window_in_seconds
    error_message = "a build's events reappear while it runs"
  }

  assert {
    condition     = contains(aws_lambda_event_source_mapping.drop.function_response_types, "ReportBatchItemFailures")
    error_message = "one bad file takes its batch with it"
  }

  assert {
    condition     = aws_sqs_queue.drop_dead.message_retention_seconds > aws_sqs_queue.drop.message_retention_seconds
    error_message = "dead letters expire sooner than live ones: retention counts from when the message was first sent"
  }
}

run "no_storm_of_builders" {
  command = plan

  variables {
    build = { debounce_s = 30 }
  }

  assert {
    condition     = aws_lambda_event_source_mapping.build.maximum_batching_window_in_seconds == 30 && aws_lambda_event_source_mapping.build.batch_size == 10000
    error_message = "deltas are not gathered"
  }

  assert {
    condition     = aws_lambda_event_source_mapping.build.scaling_config[0].maximum_concurrency == 2
    error_message = "new deltas may start many builders at once"
  }

  assert {
    condition     = aws_lambda_function.tarn["builder"].reserved_concurrent_executions == 8 && aws_lambda_function.tarn["gc"].reserved_concurrent_executions == 1
    error_message = "builders may take the account's concurrency"
  }

  assert {
    condition     = alltrue([for config in aws_lambda_function_event_invoke_config.scheduled : config.maximum_retry_attempts == 0])
    error_message = "a scheduled run that failed is repeated at once"
  }
}

run "schedules" {
  command = plan

  variables {
    build = { schedule = "", large_schedule = "cron(0 3 * * ? *)" }
  }

  assert {
    condition     = join(",", keys(aws_cloudwatch_event_rule.schedule)) == "gc" && jsondecode(aws_cloudwatch_event_target.schedule["gc"].input).task == "gc"
    error_message = "the schedules are not the ones asked for"
  }

  assert {
    condition     = jsondecode(aws_cloudwatch_event_target.schedule["gc"].input).receiptRetentionMs == 86400000 * var.retention.receipt_days
    error_message = "idempotency keys are forgotten at another time than was asked for"
  }

  assert {
    condition     = one(aws_cloudwatch_event_rule.large_build).schedule_expression == "cron(0 3 * * ? *)"
    error_message = "large builds are not scheduled"
  }
}

run "large_builds_fan_out" {
  command = plan

  assert {
    condition = alltrue([
      for step in ["Fold", "Build"] :
      local.build_definition.States[step].ItemProcessor.ProcessorConfig.Mode == "DISTRIBUTED" && local.build_definition.States[step].MaxConcurrency == 5
    ])
    error_message = "the state machine does not fan out, or without bounds"
  }

  assert {
    condition = alltrue([
      for step in ["Fold", "Build"] :
      one(local.build_definition.States[step].ItemProcessor.States["${step}One"].Catch).Next == "${step}Failed" && can(local.build_definition.States[step].ItemProcessor.States["${step}Failed"].Parameters["failed.$"])
    ])
    error_message = "a task that is given up takes the whole build with it"
  }

  assert {
    condition     = [local.build_definition.StartAt, local.build_definition.States.Plan.Next, local.build_definition.States.Fold.Next, local.build_definition.States.Build.Next] == ["Plan", "Fold", "Build", "Publish"]
    error_message = "the steps are in another order"
  }

  assert {
    condition     = var.build.fan_out + 2 + 1 <= aws_lambda_function.tarn["builder"].reserved_concurrent_executions
    error_message = "the fan-out, two debounced runs and a scheduled one do not fit into the builder's concurrency"
  }
}
