output "url" {
  description = "Where the API answers."
  value       = var.domain == null ? aws_apigatewayv2_api.http.api_endpoint : "https://${var.domain.name}"
}

output "api_id" {
  description = "The HTTP API."
  value       = aws_apigatewayv2_api.http.id
}

output "bucket" {
  description = "The bucket that holds the store."
  value       = aws_s3_bucket.store.id
}

output "store" {
  description = "The store, as `tarn --store` takes it."
  value       = local.store_url
}

output "functions" {
  description = "Names of the functions."
  value       = { for key, function in aws_lambda_function.tarn : key => function.function_name }
}

output "roles" {
  description = "ARNs of the functions' roles."
  value       = { for key, role in aws_iam_role.function : key => role.arn }
}

output "queues" {
  description = "URLs of the queues."
  value = {
    drop       = aws_sqs_queue.drop.url
    drop_dead  = aws_sqs_queue.drop_dead.url
    build      = aws_sqs_queue.build.url
    build_dead = aws_sqs_queue.build_dead.url
  }
}

output "state_machine" {
  description = "ARN of the state machine for large builds."
  value       = aws_sfn_state_machine.build.arn
}

output "dashboard" {
  description = "Name of the dashboard."
  value       = aws_cloudwatch_dashboard.tarn.dashboard_name
}

output "kms_key_arn" {
  description = "ARN of the key that encrypts the store; null when the services' own keys do."
  value       = local.kms_key_arn
}
