# Names and addresses that several files need. They are put together from what is known before anything exists, so that a
# plan shows every policy in full and a test can read it.

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition
  region    = data.aws_region.current.region

  bucket     = coalesce(var.bucket_name, "${var.name}-${local.account}-${local.region}")
  bucket_arn = "arn:${local.partition}:s3:::${local.bucket}"
  # Every object of the store is below this.
  store_arn = "${local.bucket_arn}/${var.store_prefix}"
  store_url = var.store_prefix == "" ? "s3://${local.bucket}" : "s3://${local.bucket}/${trimsuffix(var.store_prefix, "/")}"

  function_names = {
    ingest_http = "${var.name}-ingest-http"
    ingest_drop = "${var.name}-ingest-drop"
    query       = "${var.name}-query"
    builder     = "${var.name}-builder"
    gc          = "${var.name}-gc"
  }
  function_arns = {
    for key, name in local.function_names : key => "arn:${local.partition}:lambda:${local.region}:${local.account}:function:${name}"
  }
  log_group_arn = "arn:${local.partition}:logs:${local.region}:${local.account}:log-group"

  queue_arns = {
    for key in ["drop", "drop-dead", "build", "build-dead"] :
    key => "arn:${local.partition}:sqs:${local.region}:${local.account}:${var.name}-${key}"
  }

  state_machine     = "${var.name}-build"
  state_machine_arn = "arn:${local.partition}:states:${local.region}:${local.account}:stateMachine:${local.state_machine}"

  kms_key_arn = !var.kms.enabled ? null : var.kms.key_arn != null ? var.kms.key_arn : aws_kms_key.store[0].arn
}
