# What each function may do. The rule that matters: nothing but `gc` may delete the store's data.
#
# The policies are plain values in `local.permissions`, so that the tests read what a plan would grant.

locals {
  # Writers of objects of any size need the second action to clean up after a multipart upload that failed. It deletes parts
  # of an unfinished upload, never an object.
  put = ["s3:PutObject", "s3:AbortMultipartUpload"]

  may_list = {
    # Without it S3 answers 403, not 404, for an object that does not exist; and a condition on prefixes would say the same,
    # because reading an object has none. So each function may learn the names of all objects.
    Sid      = "List"
    Effect   = "Allow"
    Action   = ["s3:ListBucket"]
    Resource = [local.bucket_arn]
  }

  store_permissions = {
    ingest_http = [
      local.may_list,
      {
        Sid    = "Read"
        Effect = "Allow"
        Action = ["s3:GetObject"]
        # Of drop/, what a file is called and how long: HEAD takes the permission of GET.
        Resource = [for path in ["sources/*", "indices/*", "auth/keys/*", "drop/*", "drop-status/*"] : "${local.store_arn}${path}"]
      },
      {
        # Put on drop/ is what the presigned URLs that it hands out carry. Keys are made with `tarn keys`, by who has credentials.
        Sid    = "Write"
        Effect = "Allow"
        Action = local.put
        Resource = [for path in [
          "sources/*/source.json", "sources/*/deleted.json", "sources/*/timeline/*", "sources/*/receipts/*",
          "indices/*/index.json", "indices/*/deleted.json", "drop/*",
        ] : "${local.store_arn}${path}"]
      },
    ]
    ingest_drop = [
      local.may_list,
      {
        Sid    = "Read"
        Effect = "Allow"
        Action = ["s3:GetObject"]
        Resource = [for path in concat(
          ["sources/*", "drop/*", "drop-status/*", "drop-refused/*"],
          var.drop.auto_create ? ["indices/*/index.json", "indices/*/deleted.json"] : [],
        ) : "${local.store_arn}${path}"]
      },
      {
        # An event names one version of a file; a newer one must not be read in its place.
        Sid      = "ReadVersion"
        Effect   = "Allow"
        Action   = ["s3:GetObjectVersion"]
        Resource = ["${local.store_arn}drop/*"]
      },
      {
        Sid    = "Write"
        Effect = "Allow"
        Action = local.put
        Resource = [for path in concat(
          ["sources/*/timeline/*", "drop-status/*", "drop-refused/*"],
          # What definitions allow uploads to create. It reads what anybody made up, and whoever may create may also overwrite.
          var.drop.auto_create ? ["sources/*/source.json", "indices/*/index.json"] : [],
        ) : "${local.store_arn}${path}"]
      },
      {
        # A refused file is moved away; it is no part of the store's data.
        Sid      = "MoveAway"
        Effect   = "Allow"
        Action   = ["s3:DeleteObject"]
        Resource = ["${local.store_arn}drop/*"]
      },
      local.may_receive["drop"],
    ]
    query = concat(
      [
        local.may_list,
        {
          Sid      = "Read"
          Effect   = "Allow"
          Action   = ["s3:GetObject"]
          Resource = [for path in ["sources/*", "indices/*", "auth/keys/*"] : "${local.store_arn}${path}"]
        },
      ],
      [
        for bytes in var.search.leaf_bytes[*] : {
          # A large search is shared out to invocations of the same function. An invocation of a published version asks that
          # version, whose ARN the bare one does not cover.
          Sid      = "FanOut"
          Effect   = "Allow"
          Action   = ["lambda:InvokeFunction"]
          Resource = [local.function_arns.query, "${local.function_arns.query}:*"]
        }
      ],
    )
    builder = [
      local.may_list,
      {
        Sid      = "Read"
        Effect   = "Allow"
        Action   = ["s3:GetObject"]
        Resource = [for path in ["sources/*", "indices/*"] : "${local.store_arn}${path}"]
      },
      {
        Sid    = "Write"
        Effect = "Allow"
        Action = local.put
        Resource = [for path in concat([
          "sources/*/checkpoints/*", "sources/*/checkpoint-data/*",
          "indices/*/manifests/*", "indices/*/segments/*", "indices/*/catalogs/*", "indices/*/builds/*", "indices/*/hint",
          # Tombstones for points whose time is up. Without, they are not found all the same, and stay in the objects.
        ], var.build.retention ? ["sources/*/timeline/*"] : []) : "${local.store_arn}${path}"]
      },
      local.may_receive["build"],
    ]
    gc = [
      local.may_list,
      {
        Sid      = "Read"
        Effect   = "Allow"
        Action   = ["s3:GetObject"]
        Resource = [for path in ["sources/*", "indices/*"] : "${local.store_arn}${path}"]
      },
      {
        # Hints it writes anew where they are stale.
        Sid      = "Boundaries"
        Effect   = "Allow"
        Action   = ["s3:PutObject"]
        Resource = [for path in ["sources/*/boundaries/*", "indices/*/boundaries/*", "indices/*/hint"] : "${local.store_arn}${path}"]
      },
      {
        # Not DeleteObjectVersion: what it deletes stays recoverable until the lifecycle ends it.
        Sid      = "Collect"
        Effect   = "Allow"
        Action   = ["s3:DeleteObject"]
        Resource = [for path in ["sources/*", "indices/*"] : "${local.store_arn}${path}"]
      },
    ]
  }

  may_receive = {
    for queue in ["drop", "build"] : queue => {
      Sid      = "Receive"
      Effect   = "Allow"
      Action   = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"]
      Resource = [local.queue_arns[queue]]
    }
  }

  may_log = {
    for key, name in local.function_names : key => {
      Sid      = "Log"
      Effect   = "Allow"
      Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
      Resource = ["${local.log_group_arn}:/aws/lambda/${name}:*"]
    }
  }

  may_use_key = {
    for key in keys(local.function_names) : key => [
      for arn in local.kms_key_arn[*] : {
        Sid    = "Key"
        Effect = "Allow"
        # Who writes nothing has nothing to encrypt.
        Action   = key == "query" ? ["kms:Decrypt"] : ["kms:Decrypt", "kms:GenerateDataKey"]
        Resource = [arn]
      }
    ]
  }

  may_trace = [
    for on in var.tracing ? [true] : [] : {
      # X-Ray knows no resources.
      Sid      = "Trace"
      Effect   = "Allow"
      Action   = ["xray:PutTraceSegments", "xray:PutTelemetryRecords"]
      Resource = ["*"]
    }
  ]

  permissions = {
    for key, statements in local.store_permissions : key => {
      Version   = "2012-10-17"
      Statement = concat(statements, [local.may_log[key]], local.may_use_key[key], local.may_trace)
    }
  }
}

resource "aws_iam_role" "function" {
  for_each = local.function_names

  name        = "${each.value}-${local.region}"
  description = "Execution of the function ${each.value}"
  tags        = var.tags

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "lambda.amazonaws.com" }
      Action    = "sts:AssumeRole"
    }]
  })
}

resource "aws_iam_role_policy" "function" {
  for_each = local.permissions

  name   = "tarn"
  role   = aws_iam_role.function[each.key].name
  policy = jsonencode(each.value)
}
