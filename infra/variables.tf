variable "name" {
  description = "Prefix of every resource's name; also the first part of the bucket's name unless `bucket_name` is given."
  type        = string
  default     = "tarn"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,22}[a-z0-9]$", var.name))
    error_message = "name: 3 to 24 lower-case letters, digits and hyphens, starting with a letter and not ending with a hyphen."
  }
}

variable "package_dir" {
  description = "Folder with ingest-fn.zip, query-fn.zip and builder.zip, as `cargo xtask package` leaves them."
  type        = string
}

variable "architecture" {
  description = "Processor of the functions; the packages must be built for it."
  type        = string
  default     = "arm64"

  validation {
    condition     = contains(["arm64", "x86_64"], var.architecture)
    error_message = "architecture: arm64 or x86_64."
  }
}

# --- The bucket ---------------------------------------------------------------------------------------------------------

variable "bucket_name" {
  description = "Name of the bucket; null makes one of name, account and region."
  type        = string
  default     = null

  validation {
    condition     = var.bucket_name == null || can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", var.bucket_name))
    error_message = "bucket_name: 3 to 63 lower-case letters, digits and hyphens."
  }
}

variable "store_prefix" {
  description = "Where in the bucket the store begins: empty, or a path that ends with a slash."
  type        = string
  default     = ""

  validation {
    condition     = var.store_prefix == "" || can(regex("^([A-Za-z0-9_-]+/)+$", var.store_prefix))
    error_message = "store_prefix: empty, or path parts of letters, digits, _ and - that each end with a slash."
  }
}

variable "force_destroy" {
  description = "Let `terraform destroy` delete the bucket with everything in it."
  type        = bool
  default     = false
}

variable "kms" {
  description = "Encrypt everything at rest with a KMS key: a new one, or the one of `key_arn`, whose policy must admit s3.amazonaws.com and logs. Disabled, the services' own keys encrypt."
  type = object({
    enabled = optional(bool, false)
    key_arn = optional(string)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.kms.key_arn == null || can(regex("^arn:[a-z-]+:kms:", var.kms.key_arn))
    error_message = "kms.key_arn: the ARN of a KMS key."
  }
}

variable "retention" {
  description = "Days to keep: files dropped and taken in, files refused, reports of drops, idempotency keys of uploads, replaced or deleted versions of objects, logs."
  type = object({
    drop_days       = optional(number, 14)
    refused_days    = optional(number, 90)
    status_days     = optional(number, 90)
    receipt_days    = optional(number, 30)
    noncurrent_days = optional(number, 7)
    log_days        = optional(number, 30)
  })
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for days in values(var.retention) : days >= 1 && floor(days) == days])
    error_message = "retention: whole days, at least 1."
  }

  validation {
    # A dead letter may be redriven for as long as its file can be read, as a version at least, and must find the receipts of the
    # chunks that were committed before: they lie with the file's status. `receipt_days` is for uploads over HTTP alone.
    condition     = var.retention.status_days > var.retention.drop_days + var.retention.noncurrent_days
    error_message = "retention.status_days: more than drop_days and noncurrent_days together; a file that is taken in late must not be committed twice."
  }

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827], var.retention.log_days)
    error_message = "retention.log_days: one of the numbers of days that CloudWatch knows (1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, ...)."
  }
}

# --- The functions ------------------------------------------------------------------------------------------------------

variable "functions" {
  description = "Size of each function. `reserved_concurrency` -1 reserves none, as new accounts with a quota of 10 need; `environment` is added to what the module sets."
  type = object({
    ingest_http = optional(object({
      memory_mib           = optional(number, 1024)
      timeout_s            = optional(number, 29)
      storage_mib          = optional(number, 512)
      reserved_concurrency = optional(number, -1)
      environment          = optional(map(string), {})
    }), {})
    ingest_drop = optional(object({
      memory_mib           = optional(number, 1769)
      timeout_s            = optional(number, 900)
      storage_mib          = optional(number, 2048)
      reserved_concurrency = optional(number, -1)
      environment          = optional(map(string), {})
    }), {})
    query = optional(object({
      memory_mib           = optional(number, 1769)
      timeout_s            = optional(number, 29)
      storage_mib          = optional(number, 4096)
      reserved_concurrency = optional(number, -1)
      environment          = optional(map(string), {})
    }), {})
    builder = optional(object({
      memory_mib           = optional(number, 3008)
      timeout_s            = optional(number, 900)
      storage_mib          = optional(number, 10240)
      reserved_concurrency = optional(number, 8)
      environment          = optional(map(string), {})
    }), {})
    gc = optional(object({
      memory_mib           = optional(number, 1024)
      timeout_s            = optional(number, 900)
      storage_mib          = optional(number, 512)
      reserved_concurrency = optional(number, 1)
      environment          = optional(map(string), {})
    }), {})
  })
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for f in values(var.functions) : f.memory_mib >= 128 && f.memory_mib <= 10240])
    error_message = "functions.*.memory_mib: 128 to 10240."
  }

  validation {
    condition     = alltrue([for f in values(var.functions) : f.timeout_s >= 1 && f.timeout_s <= 900])
    error_message = "functions.*.timeout_s: 1 to 900."
  }

  validation {
    condition     = alltrue([for f in [var.functions.ingest_http, var.functions.query] : f.timeout_s <= 29])
    error_message = "functions.ingest_http and functions.query: timeout_s of at most 29; the HTTP API hangs up after 30 seconds."
  }

  validation {
    condition     = alltrue([for f in values(var.functions) : f.storage_mib >= 512 && f.storage_mib <= 10240])
    error_message = "functions.*.storage_mib: 512 to 10240."
  }
}

variable "search" {
  description = "Searches of more than `leaf_bytes` of index files are shared out: one invocation of the search function for each group of shards of about that size, at most `leaves_max` of them (null: as many as the function thinks right). null shares out none. Answers are kept in `query_cache_bytes` of an invocation's memory, until an upload or a build changes them. The share `recall_share` of the searches, 0 to 1, is compared with exact ones after the response, which is billed; the log tells their recall."
  type = object({
    leaf_bytes        = optional(number)
    leaves_max        = optional(number)
    query_cache_bytes = optional(number, 0)
    recall_share      = optional(number, 0)
  })
  default  = {}
  nullable = false

  validation {
    # Below a megabyte an invocation costs more than the scan that it saves.
    condition     = var.search.leaf_bytes == null || try(var.search.leaf_bytes >= 1048576 && floor(var.search.leaf_bytes) == var.search.leaf_bytes, false)
    error_message = "search.leaf_bytes: whole bytes, at least 1048576, or null."
  }

  validation {
    condition     = var.search.leaves_max == null || try(var.search.leaves_max >= 1 && floor(var.search.leaves_max) == var.search.leaves_max, false)
    error_message = "search.leaves_max: a whole number, at least 1, or null."
  }

  validation {
    # More than half of the function's memory would leave too little for the searches themselves.
    condition     = var.search.query_cache_bytes >= 0 && floor(var.search.query_cache_bytes) == var.search.query_cache_bytes && var.search.query_cache_bytes <= var.functions.query.memory_mib * 1048576 / 2
    error_message = "search.query_cache_bytes: whole bytes, at most half of functions.query.memory_mib."
  }

  validation {
    condition     = var.search.recall_share >= 0 && var.search.recall_share <= 1
    error_message = "search.recall_share: 0 to 1."
  }
}

variable "log_filter" {
  description = "TARN_LOG of every function: a level, or a filter of the `tracing` crate."
  type        = string
  default     = "info"
}

variable "tracing" {
  description = "Trace the functions and the state machine with X-Ray."
  type        = bool
  default     = false
}

# --- The HTTP API -------------------------------------------------------------------------------------------------------

variable "authorizer" {
  description = "What the HTTP API demands before a function runs, beside Tarn's own API keys: `none`, `iam` (signed requests) or `jwt` of `issuer` for `audience`. With iam and jwt, API keys travel in X-Api-Key."
  type = object({
    type     = optional(string, "none")
    issuer   = optional(string)
    audience = optional(list(string), [])
  })
  default  = {}
  nullable = false

  validation {
    condition     = contains(["none", "iam", "jwt"], var.authorizer.type)
    error_message = "authorizer.type: none, iam or jwt."
  }

  validation {
    condition     = var.authorizer.type != "jwt" || (try(startswith(var.authorizer.issuer, "https://"), false) && length(var.authorizer.audience) > 0)
    error_message = "authorizer: jwt needs an https:// issuer and at least one audience."
  }
}

variable "throttle" {
  description = "Requests per second, and in a burst, that the HTTP API lets through."
  type = object({
    rate  = optional(number, 200)
    burst = optional(number, 400)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.throttle.rate >= 1 && var.throttle.burst >= 1
    error_message = "throttle: at least 1 each."
  }
}

variable "domain" {
  description = "A domain name for the HTTP API, the ARN of its certificate in ACM in this region, and the Route 53 zone to write its record to, if any."
  type = object({
    name            = string
    certificate_arn = string
    zone_id         = optional(string)
  })
  default = null

  validation {
    condition     = var.domain == null || can(regex("^arn:[a-z-]+:acm:", var.domain.certificate_arn))
    error_message = "domain.certificate_arn: the ARN of a certificate in ACM."
  }
}

# --- Building -----------------------------------------------------------------------------------------------------------

variable "build" {
  description = "When the builder runs: `debounce_s` after the first new delta, and on `schedule` whatever happened; `fan_out` tasks of the state machine at once. `large_schedule` starts the state machine. An empty schedule is none. What large splits of indices with HNSW parameters get is `approximate_index`: `cells`, or `both` cells and a graph, from `cells_threshold` rows on, or a `graph` from `graph_threshold` rows on. `retention` lets it append to timelines, which takes expired points out of the objects."
  type = object({
    debounce_s        = optional(number, 60)
    schedule          = optional(string, "rate(15 minutes)")
    fan_out           = optional(number, 5)
    large_schedule    = optional(string, "")
    approximate_index = optional(string, "cells")
    cells_threshold   = optional(number, 20000)
    graph_threshold   = optional(number, 50000)
    retention         = optional(bool, false)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.build.debounce_s >= 1 && var.build.debounce_s <= 300
    error_message = "build.debounce_s: 1 to 300."
  }

  validation {
    condition     = alltrue([for s in compact([var.build.schedule, var.build.large_schedule]) : can(regex("^(rate|cron)\\(.+\\)$", s))])
    error_message = "build.schedule and build.large_schedule: rate(...) or cron(...)."
  }

  validation {
    condition     = var.build.fan_out >= 1 && var.build.fan_out <= 1000
    error_message = "build.fan_out: 1 to 1000."
  }

  validation {
    condition     = contains(["cells", "graph", "both"], var.build.approximate_index)
    error_message = "build.approximate_index: cells, graph or both."
  }

  validation {
    condition     = alltrue([for rows in [var.build.cells_threshold, var.build.graph_threshold] : rows >= 1 && floor(rows) == rows])
    error_message = "build.cells_threshold and build.graph_threshold: whole rows, at least 1."
  }
}

variable "gc_schedule" {
  description = "When garbage is collected: rate(...) or cron(...)."
  type        = string
  default     = "rate(1 day)"

  validation {
    condition     = can(regex("^(rate|cron)\\(.+\\)$", var.gc_schedule))
    error_message = "gc_schedule: rate(...) or cron(...)."
  }
}

variable "drop" {
  description = "The drop folder's queue: files handed over in one invocation, invocations at once, and attempts before a file's event goes to the dead-letter queue. `auto_create` lets dropped files create what definitions allow uploads to create (`autoCreate`); without it, such a file ends in the dead-letter queue."
  type = object({
    batch_size      = optional(number, 1)
    max_concurrency = optional(number, 10)
    attempts        = optional(number, 5)
    auto_create     = optional(bool, false)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.drop.batch_size >= 1 && var.drop.batch_size <= 10
    error_message = "drop.batch_size: 1 to 10; files may be large."
  }

  validation {
    condition     = var.drop.max_concurrency >= 2 && var.drop.max_concurrency <= 1000
    error_message = "drop.max_concurrency: 2 to 1000."
  }

  validation {
    condition     = var.drop.attempts >= 2 && var.drop.attempts <= 100
    error_message = "drop.attempts: 2 to 100; a function may die once through no fault of the file."
  }
}

# --- Watching -----------------------------------------------------------------------------------------------------------

variable "alarms" {
  description = "Thresholds, and the SNS topics (or other actions) to tell. `builder_lag_s` is the age of the oldest delta that no builder has taken up."
  type = object({
    enabled         = optional(bool, true)
    actions         = optional(list(string), [])
    builder_lag_s   = optional(number, 3600)
    error_percent   = optional(number, 5)
    query_p99_ms    = optional(number, 2000)
    throttled_calls = optional(number, 10)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.alarms.error_percent > 0 && var.alarms.error_percent <= 100
    error_message = "alarms.error_percent: above 0, at most 100."
  }
}

variable "tags" {
  description = "Tags of every resource that takes them."
  type        = map(string)
  default     = {}
}
