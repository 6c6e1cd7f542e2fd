# Who may do what. The policies are read as a plan would write them, statement by statement.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  package_dir  = "./tests/packages"
  bucket_name  = "store"
  store_prefix = "root/"
}

run "only_gc_deletes_data" {
  command = plan

  assert {
    condition = toset(flatten([
      for function, policy in local.permissions : [
        for statement in policy.Statement : function
        if anytrue([for action in statement.Action : strcontains(lower(action), "delete") && startswith(action, "s3:")])
      ]
    ])) == toset(["gc", "ingest_drop"])
    error_message = "a function other than gc and ingest_drop may delete objects"
  }

  assert {
    condition = alltrue([
      for statement in local.permissions.ingest_drop.Statement :
      statement.Resource == ["arn:aws:s3:::store/root/drop/*"]
      if contains(statement.Action, "s3:DeleteObject")
    ])
    error_message = "ingest_drop may delete more than dropped files"
  }

  assert {
    condition = alltrue([
      for statement in local.permissions.gc.Statement :
      toset(statement.Resource) == toset(["arn:aws:s3:::store/root/sources/*", "arn:aws:s3:::store/root/indices/*"])
      if contains(statement.Action, "s3:DeleteObject")
    ])
    error_message = "gc may delete more than sources and indices"
  }

  assert {
    condition = !anytrue(flatten([
      for policy in values(local.permissions) : [
        for statement in policy.Statement : contains(statement.Action, "s3:DeleteObjectVersion")
      ]
    ]))
    error_message = "a function may delete versions, which makes deletions final"
  }
}

run "query_cannot_write" {
  command = plan

  assert {
    condition = alltrue(flatten([
      for statement in local.permissions.query.Statement : [
        for action in statement.Action : contains(["s3:GetObject", "s3:ListBucket"], action) if startswith(action, "s3:")
      ]
    ]))
    error_message = "query may do more to objects than read and list"
  }

  assert {
    condition = toset(flatten([
      for statement in local.permissions.query.Statement : statement.Resource if contains(statement.Action, "s3:GetObject")
    ])) == toset([for path in ["sources/*", "indices/*", "auth/keys/*"] : "arn:aws:s3:::store/root/${path}"])
    error_message = "query may read other than what searching needs"
  }

  assert {
    condition     = !anytrue([for statement in local.permissions.query.Statement : contains(statement.Action, "lambda:InvokeFunction")])
    error_message = "query may invoke functions though it shares out no search"
  }
}

run "leaves_are_query_itself" {
  command = plan

  variables {
    search = { leaf_bytes = 1073741824 }
  }

  assert {
    condition = flatten([
      for function, policy in local.permissions : [
        for statement in policy.Statement : statement.Resource if contains(statement.Action, "lambda:InvokeFunction")
      ]
    ]) == ["arn:aws:lambda:us-east-1:123456789012:function:tarn-query", "arn:aws:lambda:us-east-1:123456789012:function:tarn-query:*"]
    error_message = "a function may invoke others, or query none of its versions"
  }
}

run "drops_are_listed" {
  command = plan

  # GET /api/v1/drops looks at files that nobody has taken in yet.
  assert {
    condition = contains(flatten([
      for statement in local.permissions.ingest_http.Statement : statement.Resource if contains(statement.Action, "s3:GetObject")
    ]), "arn:aws:s3:::store/root/drop/*")
    error_message = "ingest_http cannot look at dropped files"
  }
}

run "keys_are_made_by_people" {
  command = plan

  assert {
    condition = !anytrue(flatten([
      for policy in values(local.permissions) : [
        for statement in policy.Statement : [for arn in statement.Resource : strcontains(arn, "/auth/")] if contains(statement.Action, "s3:PutObject")
      ]
    ]))
    error_message = "a function may make or revoke API keys"
  }
}

run "each_writer_writes_its_own" {
  command = plan

  assert {
    condition = jsonencode({
      for function, policy in local.permissions : function => sort(flatten([
        for statement in policy.Statement : [for arn in statement.Resource : trimprefix(arn, "arn:aws:s3:::store/root/")]
        if contains(statement.Action, "s3:PutObject")
      ]))
      }) == jsonencode({
      ingest_http = sort([
        "sources/*/source.json", "sources/*/deleted.json", "sources/*/timeline/*", "sources/*/receipts/*",
        "indices/*/index.json", "indices/*/deleted.json", "drop/*",
      ])
      ingest_drop = sort(["sources/*/timeline/*", "drop-status/*", "drop-refused/*"])
      query       = []
      builder = sort([
        "sources/*/checkpoints/*", "sources/*/checkpoint-data/*",
        "indices/*/manifests/*", "indices/*/segments/*", "indices/*/catalogs/*", "indices/*/builds/*", "indices/*/hint",
      ])
      gc = sort(["sources/*/boundaries/*", "indices/*/boundaries/*", "indices/*/hint"])
    })
    error_message = "a function may write elsewhere than the contract says"
  }
}

run "dropped_files_create_only_when_told" {
  command = plan

  variables {
    drop = { auto_create = true }
  }

  assert {
    condition = toset([
      for arn in flatten([
        for statement in local.permissions.ingest_drop.Statement : statement.Resource if contains(statement.Action, "s3:PutObject")
      ]) : trimprefix(arn, "arn:aws:s3:::store/root/")
      ]) == toset([
      "sources/*/source.json", "sources/*/timeline/*", "indices/*/index.json", "drop-status/*", "drop-refused/*",
    ])
    error_message = "the drop folder may not create what definitions allow, or may write elsewhere as well"
  }

  assert {
    condition = toset([
      for arn in flatten([
        for statement in local.permissions.ingest_drop.Statement : statement.Resource if contains(statement.Action, "s3:GetObject")
      ]) : trimprefix(arn, "arn:aws:s3:::store/root/") if strcontains(arn, "/indices/")
    ]) == toset(["indices/*/index.json", "indices/*/deleted.json"])
    error_message = "the drop folder cannot tell which indices there are, or reads what is in them"
  }
}

run "builders_append_to_timelines_only_when_told" {
  command = plan

  variables {
    build = { retention = true }
  }

  assert {
    condition = toset([
      for arn in flatten([
        for statement in local.permissions.builder.Statement : statement.Resource if contains(statement.Action, "s3:PutObject")
      ]) : trimprefix(arn, "arn:aws:s3:::store/root/")
      ]) == toset([
      "sources/*/checkpoints/*", "sources/*/checkpoint-data/*", "sources/*/timeline/*",
      "indices/*/manifests/*", "indices/*/segments/*", "indices/*/catalogs/*", "indices/*/builds/*", "indices/*/hint",
    ])
    error_message = "a builder that is to delete what has expired may not, or may write elsewhere as well"
  }

  assert {
    condition     = [for key in ["builder", "gc"] : aws_lambda_function.tarn[key].environment[0].variables.TARN_BUILDER_RETENTION] == ["true", "true"]
    error_message = "a builder that may delete what has expired is not told to"
  }

  assert {
    condition = !anytrue([
      for arn in flatten([
        for statement in local.permissions.gc.Statement : statement.Resource if contains(statement.Action, "s3:PutObject")
      ]) : strcontains(arn, "/timeline/")
    ])
    error_message = "gc may write to timelines"
  }
}

run "builders_leave_timelines_alone_unless_told" {
  command = plan

  assert {
    condition = !anytrue([
      for arn in flatten([
        for statement in local.permissions.builder.Statement : statement.Resource if contains(statement.Action, "s3:PutObject")
      ]) : strcontains(arn, "/timeline/")
    ])
    error_message = "a builder may write to timelines though nobody asked for it"
  }

  assert {
    condition     = aws_lambda_function.tarn["builder"].environment[0].variables.TARN_BUILDER_RETENTION == "false"
    error_message = "a builder tries what its role does not permit"
  }
}

run "nothing_is_granted_by_the_dozen" {
  command = plan

  assert {
    condition = !anytrue(flatten([
      for policy in concat(values(local.permissions), [local.state_machine_permissions]) : [
        for statement in policy.Statement : [for action in statement.Action : strcontains(action, "*")]
      ]
    ]))
    error_message = "a policy grants actions by wildcard"
  }

  assert {
    condition = alltrue(flatten([
      for policy in values(local.permissions) : [
        for statement in policy.Statement : [for arn in statement.Resource : arn != "*"]
      ]
    ]))
    error_message = "a function's policy names no resource"
  }

  assert {
    condition     = alltrue([for function, role in aws_iam_role_policy.function : role.policy == jsonencode(local.permissions[function])])
    error_message = "a role has another policy than the one that is tested here"
  }

  assert {
    condition     = length(distinct([for role in aws_iam_role.function : role.name])) == 5
    error_message = "two functions share a role"
  }
}

run "the_state_machine_runs_the_builder_only" {
  command = plan

  assert {
    condition = flatten([
      for statement in local.state_machine_permissions.Statement : statement.Resource if contains(statement.Action, "lambda:InvokeFunction")
    ]) == ["arn:aws:lambda:us-east-1:123456789012:function:tarn-builder"]
    error_message = "the state machine may invoke other functions than the builder"
  }
}
