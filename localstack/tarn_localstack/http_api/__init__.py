"""API Gateway's HTTP APIs, data plane: which route a request takes, and the event and response of payload format 2.0."""
