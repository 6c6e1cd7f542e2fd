"""The kinds of resources that the module uses, by service."""

from ..resource import Resource
from . import apigatewayv2, cloudwatch, events, functions, iam, kms, queues, s3, stepfunctions

_MODULES = (apigatewayv2, cloudwatch, events, functions, iam, kms, queues, s3, stepfunctions)

RESOURCES: dict[str, Resource] = {kind.kind: kind() for module in _MODULES for kind in module.KINDS}
