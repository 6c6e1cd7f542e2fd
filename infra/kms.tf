# The key that encrypts objects, queues, logs and environments, when there is to be one.

resource "aws_kms_key" "store" {
  count = var.kms.enabled && var.kms.key_arn == null ? 1 : 0

  description             = "Tarn store ${var.name}"
  enable_key_rotation     = true
  deletion_window_in_days = 30
  policy                  = jsonencode(local.key_policy)
  tags                    = var.tags
}

resource "aws_kms_alias" "store" {
  count = length(aws_kms_key.store)

  name          = "alias/${var.name}"
  target_key_id = aws_kms_key.store[0].key_id
}

locals {
  key_policy = {
    Version = "2012-10-17"
    Statement = [
      {
        # Without this nobody could ever change the key again.
        Sid       = "AccountAdministers"
        Effect    = "Allow"
        Principal = { AWS = "arn:${local.partition}:iam::${local.account}:root" }
        Action    = "kms:*"
        Resource  = "*"
      },
      {
        # S3 encrypts the notifications that it puts into the queues.
        Sid       = "BucketNotifies"
        Effect    = "Allow"
        Principal = { Service = "s3.amazonaws.com" }
        Action    = ["kms:Decrypt", "kms:GenerateDataKey"]
        Resource  = "*"
        Condition = { StringEquals = { "aws:SourceAccount" = local.account } }
      },
      {
        Sid       = "LogsEncrypt"
        Effect    = "Allow"
        Principal = { Service = "logs.${local.region}.amazonaws.com" }
        Action    = ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey"]
        Resource  = "*"
        Condition = { ArnLike = { "kms:EncryptionContext:aws:logs:arn" = "${local.log_group_arn}:*" } }
      },
    ]
  }
}
