# What the module refuses.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  package_dir = "./tests/packages"
}

run "name" {
  command         = plan
  expect_failures = [var.name]
  variables { name = "Tarn" }
}

run "architecture" {
  command         = plan
  expect_failures = [var.architecture]
  variables { architecture = "riscv" }
}

run "bucket_name" {
  command         = plan
  expect_failures = [var.bucket_name]
  variables { bucket_name = "No_Bucket" }
}

run "store_prefix" {
  command         = plan
  expect_failures = [var.store_prefix]
  variables { store_prefix = "../else/" }
}

run "http_timeout" {
  command         = plan
  expect_failures = [var.functions]
  variables { functions = { query = { timeout_s = 60 } } }
}

run "memory" {
  command         = plan
  expect_failures = [var.functions]
  variables { functions = { builder = { memory_mib = 20000 } } }
}

run "jwt_without_issuer" {
  command         = plan
  expect_failures = [var.authorizer]
  variables { authorizer = { type = "jwt", audience = ["tarn"] } }
}

run "authorizer" {
  command         = plan
  expect_failures = [var.authorizer]
  variables { authorizer = { type = "password" } }
}

run "log_retention" {
  command         = plan
  expect_failures = [var.retention]
  variables { retention = { log_days = 8 } }
}

run "status_sooner_than_file" {
  command         = plan
  expect_failures = [var.retention]
  variables { retention = { drop_days = 30, status_days = 30 } }
}

# The receipts of a file's chunks go with its status, and its versions may be read for some days more.
run "receipts_of_chunks_sooner_than_file" {
  command         = plan
  expect_failures = [var.retention]
  variables { retention = { drop_days = 30, noncurrent_days = 10, status_days = 40 } }
}

run "receipts_of_uploads_have_nothing_to_do_with_files" {
  command = plan
  variables { retention = { receipt_days = 1 } }
}

run "an_index_of_no_kind" {
  command         = plan
  expect_failures = [var.build]
  variables { build = { approximate_index = "tree" } }
}

run "half_a_row" {
  command         = plan
  expect_failures = [var.build]
  variables { build = { cells_threshold = 0.5 } }
}

run "tiny_leaves" {
  command         = plan
  expect_failures = [var.search]
  variables { search = { leaf_bytes = 1000 } }
}

run "no_leaves" {
  command         = plan
  expect_failures = [var.search]
  variables { search = { leaf_bytes = 1073741824, leaves_max = 0 } }
}

run "kept_answers_beside_searches" {
  command         = plan
  expect_failures = [var.search]
  variables { search = { query_cache_bytes = 1073741824 } }
}

run "recall_of_more_than_all" {
  command         = plan
  expect_failures = [var.search]
  variables { search = { recall_share = 1.5 } }
}

run "debounce" {
  command         = plan
  expect_failures = [var.build]
  variables { build = { debounce_s = 600 } }
}

run "schedule" {
  command         = plan
  expect_failures = [var.build]
  variables { build = { schedule = "every day" } }
}

run "gc_schedule" {
  command         = plan
  expect_failures = [var.gc_schedule]
  variables { gc_schedule = "daily" }
}

run "one_attempt" {
  command         = plan
  expect_failures = [var.drop]
  variables { drop = { attempts = 1 } }
}

run "certificate" {
  command         = plan
  expect_failures = [var.domain]
  variables { domain = { name = "search.example.org", certificate_arn = "mine" } }
}
