"""The end: one command takes everything down, data included."""

import pytest
from api import Deployment
from botocore.exceptions import ClientError
from tarn_localstack.terraform import Terraform

pytestmark = pytest.mark.last


def test_destroying_leaves_nothing(deployment: Deployment, terraform: Terraform) -> None:
    deployment.s3.put_object(Bucket=deployment.bucket, Key="sources/last/1.0/source.json", Body=b"{}")
    terraform.destroy()
    with pytest.raises(ClientError):
        deployment.s3.head_bucket(Bucket=deployment.bucket)
    assert deployment.lambda_.list_functions()["Functions"] == []
    assert deployment.sqs.list_queues().get("QueueUrls", []) == []
    assert deployment.stack.client("iam").list_roles()["Roles"] == []
    assert deployment.stack.client("apigatewayv2").get_apis()["Items"] == []
    assert deployment.stack.client("stepfunctions").list_state_machines()["stateMachines"] == []
    assert deployment.stack.client("events").list_rules()["Rules"] == []
    assert deployment.stack.client("cloudwatch").describe_alarms()["MetricAlarms"] == []
