"""Log groups, alarms and dashboards."""

from __future__ import annotations

from typing import Any

from ..resource import Aws, Resource, Value, first, given, number, tags


class LogGroup(Resource):
    kind = "aws_cloudwatch_log_group"
    replaced_by = frozenset({"name"})

    def create(self, aws: Aws, plan: Value) -> Value:
        aws.logs.create_log_group(**given(logGroupName=plan["name"], kmsKeyId=plan.get("kms_key_id")))
        return self.update(aws, plan, plan) | {
            "id": plan["name"], "arn": aws.arn("logs", f"log-group:{plan['name']}"), "name_prefix": "", "region": aws.region,
            "log_group_class": "STANDARD", "deletion_protection_enabled": False,
        }  # fmt: skip

    def update(self, aws: Aws, state: Value, plan: Value) -> Value:
        if days := number(plan.get("retention_in_days")):
            aws.logs.put_retention_policy(logGroupName=plan["name"], retentionInDays=days)
        return plan | {"tags_all": tags(plan)}

    def read(self, aws: Aws, state: Value) -> Value | None:
        groups = aws.logs.describe_log_groups(logGroupNamePrefix=state["name"])["logGroups"]
        found = next((group for group in groups if group["logGroupName"] == state["name"]), None)
        return None if found is None else state | {"retention_in_days": found.get("retentionInDays", state["retention_in_days"])}

    def delete(self, aws: Aws, state: Value) -> None:
        aws.logs.delete_log_group(logGroupName=state["name"])


class Alarm(Resource):
    kind = "aws_cloudwatch_metric_alarm"
    replaced_by = frozenset({"alarm_name"})

    def create(self, aws: Aws, plan: Value) -> Value:
        aws.cloudwatch.put_metric_alarm(
            **given(
                AlarmName=plan["alarm_name"],
                AlarmDescription=plan.get("alarm_description"),
                Namespace=plan.get("namespace"),
                MetricName=plan.get("metric_name"),
                Dimensions=_dimensions(plan),
                Statistic=plan.get("statistic"),
                ExtendedStatistic=plan.get("extended_statistic"),
                Period=number(plan.get("period")),
                EvaluationPeriods=number(plan["evaluation_periods"]),
                DatapointsToAlarm=number(plan.get("datapoints_to_alarm")),
                Threshold=number(plan.get("threshold")),
                ComparisonOperator=plan["comparison_operator"],
                TreatMissingData=plan.get("treat_missing_data"),
                EvaluateLowSampleCountPercentile=plan.get("evaluate_low_sample_count_percentiles"),
                AlarmActions=plan.get("alarm_actions"),
                OKActions=plan.get("ok_actions"),
                Metrics=[self._query(query) for query in plan.get("metric_query") or []],
            )
        )
        return plan | {
            "id": plan["alarm_name"], "arn": aws.arn("cloudwatch", f"alarm:{plan['alarm_name']}"), "region": aws.region,
            "evaluate_low_sample_count_percentiles": plan.get("evaluate_low_sample_count_percentiles"), "tags_all": tags(plan),
        }  # fmt: skip

    def _query(self, query: Value) -> dict[str, Any]:
        metric = first(query, "metric") or {}
        stat = metric and {
            "Metric": given(Namespace=metric["namespace"], MetricName=metric["metric_name"], Dimensions=_dimensions(metric)),
            "Period": number(metric["period"]),
            "Stat": metric["stat"],
        }
        return given(Id=query["id"], Expression=query.get("expression"), Label=query.get("label"), MetricStat=stat) | {
            "ReturnData": bool(query.get("return_data"))
        }

    def read(self, aws: Aws, state: Value) -> Value | None:
        return state if aws.cloudwatch.describe_alarms(AlarmNames=[state["alarm_name"]])["MetricAlarms"] else None

    def delete(self, aws: Aws, state: Value) -> None:
        aws.cloudwatch.delete_alarms(AlarmNames=[state["alarm_name"]])


class Dashboard(Resource):
    kind = "aws_cloudwatch_dashboard"
    replaced_by = frozenset({"dashboard_name"})

    def create(self, aws: Aws, plan: Value) -> Value:
        name = plan["dashboard_name"]
        aws.cloudwatch.put_dashboard(DashboardName=name, DashboardBody=plan["dashboard_body"])
        return plan | {"id": name, "dashboard_arn": f"arn:aws:cloudwatch::000000000000:dashboard/{name}", "region": aws.region}

    def read(self, aws: Aws, state: Value) -> Value | None:
        aws.cloudwatch.get_dashboard(DashboardName=state["dashboard_name"])
        return state

    def delete(self, aws: Aws, state: Value) -> None:
        aws.cloudwatch.delete_dashboards(DashboardNames=[state["dashboard_name"]])


def _dimensions(value: Value) -> list[dict[str, str]]:
    return [{"Name": name, "Value": text} for name, text in sorted((value.get("dimensions") or {}).items())]


KINDS = (LogGroup, Alarm, Dashboard)
