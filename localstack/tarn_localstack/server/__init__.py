"""What is loaded into LocalStack's own process. Imports `localstack`, which only the server's environment has."""
