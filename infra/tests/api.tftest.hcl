# The HTTP API: where requests go, and who may send them.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  package_dir = "./tests/packages"
}

run "searches_go_to_query" {
  command = plan

  assert {
    condition     = alltrue([for route in local.query_routes : local.routes[route] == "query"]) && local.routes["$default"] == "ingest_http" && length(local.routes) == length(local.query_routes) + 1
    error_message = "a route goes to the wrong function"
  }

  assert {
    condition     = contains(local.query_routes, "POST /api/v1/search/{name}/{version}") && contains(local.query_routes, "GET /api/v1/search/{name}/{version}")
    error_message = "a search goes to ingest"
  }

  assert {
    # Definitions are written by ingest alone.
    condition     = !anytrue([for route in local.query_routes : startswith(route, "PUT") || startswith(route, "DELETE")])
    error_message = "query is asked to write"
  }

  assert {
    condition     = alltrue([for route in aws_apigatewayv2_route.http : route.authorization_type == "NONE"])
    error_message = "a route is closed though nobody asked for it"
  }

  assert {
    condition     = alltrue([for integration in aws_apigatewayv2_integration.function : integration.payload_format_version == "2.0"])
    error_message = "the functions get events of another format"
  }
}

run "signed_requests" {
  command = plan

  variables {
    authorizer = { type = "iam" }
  }

  assert {
    condition     = alltrue([for route in aws_apigatewayv2_route.http : route.authorization_type == "AWS_IAM"])
    error_message = "a route is open"
  }
}

run "tokens" {
  command = plan

  variables {
    authorizer = { type = "jwt", issuer = "https://issuer.example", audience = ["tarn"] }
  }

  assert {
    condition     = alltrue([for route in aws_apigatewayv2_route.http : route.authorization_type == "JWT"])
    error_message = "a route is open"
  }

  assert {
    condition     = one(one(aws_apigatewayv2_authorizer.jwt).jwt_configuration).issuer == "https://issuer.example"
    error_message = "tokens of somebody else are accepted"
  }
}

run "a_domain_of_ones_own" {
  command = apply

  variables {
    domain = {
      name            = "search.example.org"
      certificate_arn = "arn:aws:acm:us-east-1:123456789012:certificate/one"
    }
  }

  assert {
    condition     = aws_apigatewayv2_api.http.disable_execute_api_endpoint
    error_message = "the API answers beside its domain"
  }

  assert {
    condition     = one(one(aws_apigatewayv2_domain_name.http).domain_name_configuration).security_policy == "TLS_1_2"
    error_message = "old TLS is accepted"
  }

  assert {
    condition     = output.url == "https://search.example.org"
    error_message = "the output names another address"
  }
}

run "logs_without_secrets" {
  command = plan

  assert {
    condition     = !anytrue([for value in values(jsondecode(aws_apigatewayv2_stage.default.access_log_settings[0].format)) : strcontains(lower(value), "header") || strcontains(lower(value), "querystring") || strcontains(lower(value), "authorizer")])
    error_message = "access logs carry headers or query strings"
  }

  assert {
    condition     = alltrue([for group in concat(values(aws_cloudwatch_log_group.function), [aws_cloudwatch_log_group.api, aws_cloudwatch_log_group.state_machine]) : group.retention_in_days == 30])
    error_message = "logs stay for ever"
  }
}
