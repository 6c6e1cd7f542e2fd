# The bucket: the only state there is.

resource "aws_s3_bucket" "store" {
  bucket        = local.bucket
  force_destroy = var.force_destroy
  tags          = var.tags
}

resource "aws_s3_bucket_ownership_controls" "store" {
  bucket = aws_s3_bucket.store.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_public_access_block" "store" {
  bucket = aws_s3_bucket.store.id

  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

# Nothing is ever overwritten, so versions cost nothing until garbage is collected; they make that reversible for a while.
resource "aws_s3_bucket_versioning" "store" {
  bucket = aws_s3_bucket.store.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "store" {
  bucket = aws_s3_bucket.store.id

  rule {
    # Bucket keys: one request to KMS for many objects.
    bucket_key_enabled = var.kms.enabled

    apply_server_side_encryption_by_default {
      sse_algorithm     = var.kms.enabled ? "aws:kms" : "AES256"
      kms_master_key_id = local.kms_key_arn
    }
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "store" {
  bucket = aws_s3_bucket.store.id

  # Sources and indices have no rule: only garbage collection knows what is live.
  dynamic "rule" {
    for_each = {
      drop         = var.retention.drop_days
      drop-refused = var.retention.refused_days
      drop-status  = var.retention.status_days
    }

    content {
      id     = "${rule.key}-expires"
      status = "Enabled"

      filter {
        prefix = "${var.store_prefix}${rule.key}/"
      }

      expiration {
        days = rule.value
      }
    }
  }

  rule {
    id     = "old-versions-expire"
    status = "Enabled"

    filter {
      prefix = ""
    }

    noncurrent_version_expiration {
      noncurrent_days = var.retention.noncurrent_days
    }

    expiration {
      expired_object_delete_marker = true
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 2
    }
  }

  depends_on = [aws_s3_bucket_versioning.store]
}

resource "aws_s3_bucket_policy" "store" {
  bucket = aws_s3_bucket.store.id
  policy = jsonencode(local.bucket_policy)

  depends_on = [aws_s3_bucket_public_access_block.store]
}

resource "aws_s3_bucket_notification" "store" {
  bucket = aws_s3_bucket.store.id

  queue {
    id            = "dropped"
    queue_arn     = aws_sqs_queue.drop.arn
    events        = ["s3:ObjectCreated:*"]
    filter_prefix = "${var.store_prefix}drop/"
  }

  # S3 filters by one prefix and one suffix, so checkpoints' data files match as well as deltas: a build is followed by one
  # run that finds nothing to do and writes nothing. See "No storm" in the README.
  queue {
    id            = "committed"
    queue_arn     = aws_sqs_queue.build.arn
    events        = ["s3:ObjectCreated:*"]
    filter_prefix = "${var.store_prefix}sources/"
    filter_suffix = ".parquet"
  }

  depends_on = [aws_sqs_queue_policy.drop, aws_sqs_queue_policy.build]
}

locals {
  bucket_policy = {
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "TlsOnly"
        Effect    = "Deny"
        Principal = "*"
        Action    = "s3:*"
        Resource  = [local.bucket_arn, "${local.bucket_arn}/*"]
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
      {
        Sid       = "ModernTlsOnly"
        Effect    = "Deny"
        Principal = "*"
        Action    = "s3:*"
        Resource  = [local.bucket_arn, "${local.bucket_arn}/*"]
        Condition = { NumericLessThan = { "s3:TlsVersion" = "1.2" } }
      },
    ]
  }
}
