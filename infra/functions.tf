# The five functions, from three packages: `ingest-fn` and `builder` are each deployed twice, under different roles.

locals {
  functions = {
    ingest_http = {
      description = "Tarn: uploads and management over HTTP"
      package     = "ingest-fn.zip"
      size        = var.functions.ingest_http
      environment = { TARN_ENTRY = "http" }
    }
    ingest_drop = {
      description = "Tarn: takes in files of the drop folder"
      package     = "ingest-fn.zip"
      size        = var.functions.ingest_drop
      environment = { TARN_ENTRY = "drop" }
    }
    query = {
      description = "Tarn: search"
      package     = "query-fn.zip"
      size        = var.functions.query
      environment = merge(
        # Half of /tmp: a file that is being replaced and its replacement may both be there for a while.
        { TARN_CACHE_BYTES = tostring(var.functions.query.storage_mib * 1024 * 1024 / 2) },
        # Without it the function shares out no search. Its leaves are invocations of itself.
        { for bytes in var.search.leaf_bytes[*] : "TARN_LEAF_BYTES" => tostring(bytes) },
        { for leaves in var.search.leaves_max[*] : "TARN_LEAVES_MAX" => tostring(leaves) },
        { for bytes in [var.search.query_cache_bytes] : "TARN_QUERY_CACHE" => tostring(bytes) if bytes > 0 },
        { for share in [var.search.recall_share] : "TARN_RECALL_SHARE" => tostring(share) if share > 0 },
      )
    }
    builder = {
      description = "Tarn: folds timelines and builds indices"
      package     = "builder.zip"
      size        = var.functions.builder
      environment = local.builder_environment["builder"]
    }
    gc = {
      description = "Tarn: collects garbage; the only function that deletes"
      package     = "builder.zip"
      size        = var.functions.gc
      environment = local.builder_environment["gc"]
    }
  }

  builder_environment = {
    for key, size in { builder = var.functions.builder, gc = var.functions.gc } : key => {
      # The rest is for the process itself and for segments under construction.
      TARN_BUILDER_MEMORY_MIB = tostring(floor(size.memory_mib * 0.6))
      TARN_BUILDER_TEMP_DIR   = "/tmp"
      # A quarter of /tmp each for copies of files and of deltas; the rest is for what is spilled and under construction.
      TARN_BUILDER_CACHE_MIB = tostring(floor(size.storage_mib / 4))
      TARN_BUILDER_SPOOL_MIB = tostring(floor(size.storage_mib / 4))
      # What large splits get.
      TARN_BUILDER_APPROXIMATE_INDEX = var.build.approximate_index
      TARN_BUILDER_CELLS_THRESHOLD   = tostring(var.build.cells_threshold)
      TARN_BUILDER_GRAPH_THRESHOLD   = tostring(var.build.graph_threshold)
      # Its role permits it then, and not otherwise.
      TARN_BUILDER_RETENTION = tostring(var.build.retention)
    }
  }
}

resource "aws_lambda_function" "tarn" {
  for_each = local.functions

  function_name                  = local.function_names[each.key]
  description                    = each.value.description
  role                           = aws_iam_role.function[each.key].arn
  runtime                        = "provided.al2023"
  handler                        = "bootstrap"
  architectures                  = [var.architecture]
  filename                       = "${var.package_dir}/${each.value.package}"
  source_code_hash               = filebase64sha256("${var.package_dir}/${each.value.package}")
  memory_size                    = each.value.size.memory_mib
  timeout                        = each.value.size.timeout_s
  reserved_concurrent_executions = each.value.size.reserved_concurrency
  kms_key_arn                    = local.kms_key_arn
  tags                           = var.tags

  ephemeral_storage {
    size = each.value.size.storage_mib
  }

  environment {
    variables = merge(
      { TARN_STORE = local.store_url, TARN_LOG = var.log_filter },
      each.value.environment,
      each.value.size.environment,
    )
  }

  tracing_config {
    mode = var.tracing ? "Active" : "PassThrough"
  }

  # A function that starts before its permissions or its log group are there fails, or makes a log group that never expires.
  depends_on = [aws_iam_role_policy.function, aws_cloudwatch_log_group.function]
}

resource "aws_cloudwatch_log_group" "function" {
  for_each = local.function_names

  name              = "/aws/lambda/${each.value}"
  retention_in_days = var.retention.log_days
  kms_key_id        = local.kms_key_arn
  tags              = var.tags
}
