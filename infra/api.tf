# One HTTP API in front of two functions. What is named here goes to `query`; everything else, to `ingest_http`.

locals {
  query_routes = toset([
    "GET /api/v1/info",
    "GET /api/v1/info/{name}/{version}",
    "GET /api/v1/probe/{name}/{version}",
    "GET /api/v1/search/{name}/{version}",
    "POST /api/v1/search/{name}/{version}",
    "GET /api/v1/indices/{name}/{version}",
    "GET /api/v1/indices/{name}/{version}/points",
    "GET /api/v1/indices/{name}/{version}/export",
    "GET /api/v1/indices/{name}/{version}/statistics",
    "POST /api/v1/indices/{name}/{version}/sample",
    "POST /api/v1/indices/{name}/{version}/recall",
    "POST /api/v1/indices/{name}/{version}/warm",
  ])

  routes = merge(
    { for route in local.query_routes : route => "query" },
    { "$default" = "ingest_http" },
  )

  authorization = { none = "NONE", iam = "AWS_IAM", jwt = "JWT" }[var.authorizer.type]
}

resource "aws_apigatewayv2_api" "http" {
  name          = var.name
  description   = "Tarn: vector search"
  protocol_type = "HTTP"
  # With a domain of one's own, its certificate and its record are the only way in.
  disable_execute_api_endpoint = var.domain != null
  tags                         = var.tags
}

resource "aws_apigatewayv2_integration" "function" {
  for_each = toset(["ingest_http", "query"])

  api_id                 = aws_apigatewayv2_api.http.id
  integration_type       = "AWS_PROXY"
  integration_method     = "POST"
  integration_uri        = aws_lambda_function.tarn[each.key].invoke_arn
  payload_format_version = "2.0"
  timeout_milliseconds   = 30000
}

resource "aws_apigatewayv2_route" "http" {
  for_each = local.routes

  api_id             = aws_apigatewayv2_api.http.id
  route_key          = each.key
  target             = "integrations/${aws_apigatewayv2_integration.function[each.value].id}"
  authorization_type = local.authorization
  authorizer_id      = var.authorizer.type == "jwt" ? aws_apigatewayv2_authorizer.jwt[0].id : null
}

resource "aws_apigatewayv2_authorizer" "jwt" {
  count = var.authorizer.type == "jwt" ? 1 : 0

  api_id           = aws_apigatewayv2_api.http.id
  name             = "jwt"
  authorizer_type  = "JWT"
  identity_sources = ["$request.header.Authorization"]

  jwt_configuration {
    issuer   = var.authorizer.issuer
    audience = var.authorizer.audience
  }
}

resource "aws_apigatewayv2_stage" "default" {
  api_id      = aws_apigatewayv2_api.http.id
  name        = "$default"
  auto_deploy = true
  tags        = var.tags

  default_route_settings {
    throttling_rate_limit    = var.throttle.rate
    throttling_burst_limit   = var.throttle.burst
    detailed_metrics_enabled = false
  }

  access_log_settings {
    destination_arn = aws_cloudwatch_log_group.api.arn
    # No headers and no query strings: they may carry keys.
    format = jsonencode({
      time      = "$context.requestTimeEpoch"
      requestId = "$context.requestId"
      sourceIp  = "$context.identity.sourceIp"
      method    = "$context.httpMethod"
      route     = "$context.routeKey"
      path      = "$context.path"
      status    = "$context.status"
      bytes     = "$context.responseLength"
      ms        = "$context.responseLatency"
      error     = "$context.integrationErrorMessage"
    })
  }
}

resource "aws_cloudwatch_log_group" "api" {
  name              = "/aws/apigateway/${var.name}"
  retention_in_days = var.retention.log_days
  kms_key_id        = local.kms_key_arn
  tags              = var.tags
}

resource "aws_lambda_permission" "api" {
  for_each = toset(["ingest_http", "query"])

  statement_id  = "http-api"
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.tarn[each.key].function_name
  principal     = "apigateway.amazonaws.com"
  source_arn    = "${aws_apigatewayv2_api.http.execution_arn}/*/*"
}

# --- A domain name ------------------------------------------------------------------------------------------------------

resource "aws_apigatewayv2_domain_name" "http" {
  count = var.domain == null ? 0 : 1

  domain_name = var.domain.name
  tags        = var.tags

  domain_name_configuration {
    certificate_arn = var.domain.certificate_arn
    endpoint_type   = "REGIONAL"
    security_policy = "TLS_1_2"
  }
}

resource "aws_apigatewayv2_api_mapping" "http" {
  count = length(aws_apigatewayv2_domain_name.http)

  api_id      = aws_apigatewayv2_api.http.id
  domain_name = aws_apigatewayv2_domain_name.http[0].id
  stage       = aws_apigatewayv2_stage.default.id
}

resource "aws_route53_record" "http" {
  count = try(var.domain.zone_id, null) == null ? 0 : 1

  zone_id = var.domain.zone_id
  name    = var.domain.name
  type    = "A"

  alias {
    name                   = aws_apigatewayv2_domain_name.http[0].domain_name_configuration[0].target_domain_name
    zone_id                = aws_apigatewayv2_domain_name.http[0].domain_name_configuration[0].hosted_zone_id
    evaluate_target_health = false
  }
}
