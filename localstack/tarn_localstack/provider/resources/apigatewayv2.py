"""HTTP APIs: the API, its integrations, routes, stage, authorizer and domain name."""

from __future__ import annotations

from typing import Any

from ..resource import ACCOUNT, Aws, Resource, Value, first, given, number, tags


class Api(Resource):
    kind = "aws_apigatewayv2_api"
    replaced_by = frozenset({"protocol_type"})

    def _settings(self, plan: Value) -> dict[str, Any]:
        return given(
            Name=plan["name"], Description=plan.get("description"),
            DisableExecuteApiEndpoint=plan.get("disable_execute_api_endpoint"),
        )  # fmt: skip

    def create(self, aws: Aws, plan: Value) -> Value:
        made = aws.apigatewayv2.create_api(ProtocolType=plan["protocol_type"], **self._settings(plan))
        identifier = made["ApiId"]
        return plan | {
            "id": identifier, "api_endpoint": made["ApiEndpoint"], "arn": f"arn:aws:apigateway:{aws.region}::/apis/{identifier}",
            "execution_arn": f"arn:aws:execute-api:{aws.region}:{ACCOUNT}:{identifier}", "tags_all": tags(plan),
            "region": aws.region, "ip_address_type": "ipv4",
        }  # fmt: skip

    def update(self, aws: Aws, state: Value, plan: Value) -> Value:
        aws.apigatewayv2.update_api(ApiId=state["id"], **self._settings(plan))
        return plan | {"tags_all": tags(plan)}

    def read(self, aws: Aws, state: Value) -> Value | None:
        return state | {"name": aws.apigatewayv2.get_api(ApiId=state["id"])["Name"]}

    def delete(self, aws: Aws, state: Value) -> None:
        aws.apigatewayv2.delete_api(ApiId=state["id"])


class OfApi(Resource):
    """A part of an API that has an id of its own: four operations that differ in a word."""

    replaced_by = frozenset({"api_id"})
    word = ""

    def settings(self, plan: Value) -> dict[str, Any]:
        raise NotImplementedError

    def extra(self, aws: Aws, plan: Value) -> Value:
        return {}

    def _call(self, aws: Aws, verb: str, **arguments: Any) -> Any:
        return getattr(aws.apigatewayv2, f"{verb}_{self.word.lower()}")(**arguments)

    def create(self, aws: Aws, plan: Value) -> Value:
        made = self._call(aws, "create", ApiId=plan["api_id"], **self.settings(plan))
        return plan | {"id": made[f"{self.word}Id"], "region": aws.region} | self.extra(aws, plan)

    def update(self, aws: Aws, state: Value, plan: Value) -> Value:
        self._call(aws, "update", **{"ApiId": plan["api_id"], f"{self.word}Id": state["id"]}, **self.settings(plan))
        return plan | self.extra(aws, plan)

    def read(self, aws: Aws, state: Value) -> Value | None:
        self._call(aws, "get", **{"ApiId": state["api_id"], f"{self.word}Id": state["id"]})
        return state

    def delete(self, aws: Aws, state: Value) -> None:
        self._call(aws, "delete", **{"ApiId": state["api_id"], f"{self.word}Id": state["id"]})


class Integration(OfApi):
    kind = "aws_apigatewayv2_integration"
    word = "Integration"

    def settings(self, plan: Value) -> dict[str, Any]:
        return given(
            IntegrationType=plan["integration_type"], IntegrationMethod=plan.get("integration_method"),
            IntegrationUri=plan.get("integration_uri"), PayloadFormatVersion=plan.get("payload_format_version"),
            TimeoutInMillis=number(plan.get("timeout_milliseconds")),
        )  # fmt: skip

    def extra(self, aws: Aws, plan: Value) -> Value:
        return {"integration_response_selection_expression": ""}


class Route(OfApi):
    kind = "aws_apigatewayv2_route"
    word = "Route"

    def settings(self, plan: Value) -> dict[str, Any]:
        return given(
            RouteKey=plan["route_key"], Target=plan.get("target"), AuthorizationType=plan.get("authorization_type"),
            AuthorizerId=plan.get("authorizer_id"),
        )  # fmt: skip


class Authorizer(OfApi):
    kind = "aws_apigatewayv2_authorizer"
    word = "Authorizer"

    def settings(self, plan: Value) -> dict[str, Any]:
        jwt = first(plan, "jwt_configuration") or {}
        return given(
            Name=plan["name"], AuthorizerType=plan["authorizer_type"], IdentitySource=plan.get("identity_sources"),
            JwtConfiguration=given(Issuer=jwt.get("issuer"), Audience=jwt.get("audience")),
        )  # fmt: skip


class Stage(Resource):
    kind = "aws_apigatewayv2_stage"
    replaced_by = frozenset({"api_id", "name"})
    # The emulators deliver no such logs.
    unsent = frozenset({"access_log_settings"})

    def _settings(self, plan: Value) -> dict[str, Any]:
        routes = first(plan, "default_route_settings") or {}
        return given(
            ApiId=plan["api_id"],
            StageName=plan["name"],
            AutoDeploy=plan.get("auto_deploy"),
            DefaultRouteSettings=given(
                ThrottlingRateLimit=number(routes.get("throttling_rate_limit")),
                ThrottlingBurstLimit=number(routes.get("throttling_burst_limit")),
                DetailedMetricsEnabled=routes.get("detailed_metrics_enabled"),
            ),
        )

    def create(self, aws: Aws, plan: Value) -> Value:
        api, name = plan["api_id"], plan["name"]
        aws.apigatewayv2.create_stage(**self._settings(plan))
        return plan | {
            "id": name, "arn": f"arn:aws:apigateway:{aws.region}::/apis/{api}/stages/{name}", "invoke_url": aws.endpoint,
            "execution_arn": f"arn:aws:execute-api:{aws.region}:{ACCOUNT}:{api}/{name}", "deployment_id": "",
            "tags_all": tags(plan), "region": aws.region,
        }  # fmt: skip

    def update(self, aws: Aws, state: Value, plan: Value) -> Value:
        aws.apigatewayv2.update_stage(**self._settings(plan))
        return plan | {"tags_all": tags(plan)}

    def read(self, aws: Aws, state: Value) -> Value | None:
        aws.apigatewayv2.get_stage(ApiId=state["api_id"], StageName=state["name"])
        return state

    def delete(self, aws: Aws, state: Value) -> None:
        aws.apigatewayv2.delete_stage(ApiId=state["api_id"], StageName=state["name"])


KINDS = (Api, Integration, Route, Authorizer, Stage)
