"""What counts as wrong: CloudWatch alarms over the CDN, the metrics they need, and the account's budget."""

from dataclasses import dataclass
from typing import Any

from photo_pipeline.core.errors import GuardRefusedError
from photo_pipeline.core.provisioning.aws import found
from photo_pipeline.core.provisioning.difference import Document
from photo_pipeline.core.provisioning.resource import Reading, World, is_ours, tag_map

_FIVE_MINUTES_S = 300
# Every alarm that was ever ours, by what its name ends with; one that is switched off is deleted.
_NAMES = ("errors-5xx", "errors-4xx", "latency", "unusual-access", "cost")


@dataclass(frozen=True)
class CdnMetrics:
    """CloudFront's additional metrics, the only ones with the bucket's latency. AWS charges for them."""

    name: str = "cdn.metrics"

    def read(self, world: World) -> Reading:
        """Return whether they are on."""
        distribution = world.outputs.get("distribution.id")
        if distribution is None:
            return Reading(None)
        answer = found(
            lambda: world.aws.cloudfront.get_monitoring_subscription(DistributionId=distribution),
            "NoSuchMonitoringSubscription",
        )
        return Reading(answer and dict(answer["MonitoringSubscription"]["RealtimeMetricsSubscriptionConfig"]))

    def desired(self, world: World, reading: Reading) -> Document | None:
        """Return them on, where the latency is watched."""
        if world.config.provision.alerts.latency_ms is None:
            return None
        return {"RealtimeMetricsSubscriptionStatus": "Enabled"}

    def write(self, world: World, reading: Reading, desired: Document) -> None:
        """Switch them on."""
        world.aws.cloudfront.create_monitoring_subscription(
            DistributionId=world.known("distribution.id"),
            MonitoringSubscription={"RealtimeMetricsSubscriptionConfig": desired},
        )


@dataclass(frozen=True)
class Alarms:
    """Alarms on error rate, latency, unusual access and cost."""

    name: str = "alerts.alarms"

    def read(self, world: World) -> Reading:
        """Return every alarm whose name is one of ours, by it.

        By whole names: our name with a hyphen also begins those of a bucket `photos-staging` beside `photos`.
        """
        names = [f"{world.name}-{each}" for each in _NAMES]
        alarms = world.aws.cloudwatch.describe_alarms(AlarmNames=names)["MetricAlarms"]
        for alarm in alarms:
            _require_ours(world, alarm)
        return Reading({each["AlarmName"]: each for each in alarms} or None)

    def desired(self, world: World, reading: Reading) -> Document | None:
        """Return the alarms that the configuration asks for, and None for ours that it no longer does."""
        wanted = {each["AlarmName"]: each for each in _wanted_alarms(world)}
        return {**dict.fromkeys(reading.actual or {}), **wanted}

    def write(self, world: World, reading: Reading, desired: Document) -> None:
        """Set them, and delete those of ours that are switched off."""
        unwanted = [name for name, alarm in desired.items() if alarm is None]
        if unwanted:
            world.aws.cloudwatch.delete_alarms(AlarmNames=unwanted)
        for alarm in desired.values():
            if alarm is not None:
                world.aws.cloudwatch.put_metric_alarm(**alarm, Tags=world.tag_list)


def _require_ours(world: World, alarm: Document) -> None:
    tags = world.aws.cloudwatch.list_tags_for_resource(ResourceARN=alarm["AlarmArn"])["Tags"]
    if not is_ours(tag_map(tags)):
        raise GuardRefusedError(
            f"CloudWatch alarm {alarm['AlarmName']!r}",
            cause="it was not created by photo_pipeline (it lacks the tag managed-by)",
            fix="rename it, or tag it managed-by=photo_pipeline to have it managed",
        )


def _wanted_alarms(world: World) -> list[Document]:
    alarms: list[Document] = []
    if world.config.provision.cdn.enabled:
        alarms += _cdn_alarms(world)
    budget = monthly_usd(world)
    if budget is not None:
        alarms.append(
            _alarm(
                world,
                "cost",
                "What AWS expects to charge for this month is above the budget.",
                Namespace="AWS/Billing",
                MetricName="EstimatedCharges",
                Dimensions=[{"Name": "Currency", "Value": "USD"}],
                Statistic="Maximum",
                # AWS reports it every few hours.
                Period=21_600,
                EvaluationPeriods=1,
                Threshold=budget,
                ComparisonOperator="GreaterThanThreshold",
            )
        )
    return alarms


def _cdn_alarms(world: World) -> list[Document]:
    settings = world.config.provision.alerts
    alarms: list[Document] = []
    if settings.error_rate_percent is not None:
        alarms += [
            _threshold(
                world, f"errors-{kind}", metric, text, settings.error_rate_percent, Statistic="Average"
            )
            for kind, metric, text in (
                ("5xx", "5xxErrorRate", "The store fails behind the CDN."),
                ("4xx", "4xxErrorRate", "Visitors ask for photos that are missing or forbidden."),
            )
        ]
    if settings.latency_ms is not None:
        text = "The store answers the CDN slowly (90th percentile)."
        alarms.append(
            _threshold(world, "latency", "OriginLatency", text, settings.latency_ms, ExtendedStatistic="p90")
        )
    if settings.unusual_access is not None:
        alarms.append(_unusual_access(world, settings.unusual_access))
    return alarms


def _threshold(
    world: World, name: str, metric: str, text: str, threshold: float, **statistic: Any
) -> Document:
    """Return an alarm on one of the CDN's metrics: above the threshold for 15 minutes."""
    return _alarm(
        world,
        name,
        text,
        Namespace="AWS/CloudFront",
        MetricName=metric,
        Dimensions=_dimensions(world),
        Period=_FIVE_MINUTES_S,
        EvaluationPeriods=3,
        Threshold=threshold,
        ComparisonOperator="GreaterThanThreshold",
        **statistic,
    )


def _unusual_access(world: World, width: float) -> Document:
    """Return an alarm on more requests than CloudWatch has learned to expect at this hour."""
    requests = {
        "Metric": {"Namespace": "AWS/CloudFront", "MetricName": "Requests", "Dimensions": _dimensions(world)},
        "Period": _FIVE_MINUTES_S,
        "Stat": "Sum",
    }
    return _alarm(
        world,
        "unusual-access",
        "Far more requests than usual at this hour: scraping, hotlinking, or success.",
        Metrics=[
            {"Id": "requests", "MetricStat": requests, "ReturnData": True},
            {
                "Id": "usual",
                "Expression": f"ANOMALY_DETECTION_BAND(requests, {width:g})",
                "Label": "usual requests",
                "ReturnData": True,
            },
        ],
        ThresholdMetricId="usual",
        EvaluationPeriods=3,
        ComparisonOperator="GreaterThanUpperThreshold",
    )


def _alarm(world: World, name: str, text: str, **settings: Any) -> Document:
    return {
        "AlarmName": f"{world.name}-{name}",
        "AlarmDescription": text,
        "ActionsEnabled": True,
        "AlarmActions": [world.known("topic.arn")],
        "OKActions": [world.known("topic.arn")],
        "TreatMissingData": "notBreaching",
        **settings,
    }


def _dimensions(world: World) -> list[Document]:
    return [
        {"Name": "DistributionId", "Value": world.known("distribution.id")},
        {"Name": "Region", "Value": "Global"},
    ]


def monthly_usd(world: World) -> float | None:
    """Return the budget in dollars a month: that of the alerts, else that of the limits."""
    own = world.config.provision.alerts.monthly_usd
    plan = world.config.limits.plan if world.config.limits else None
    return own if own is not None else getattr(plan, "monthly_usd", None)


@dataclass(frozen=True)
class Budget:
    """The account's monthly budget: told at 80 % spent, and at 100 % forecast."""

    name: str = "alerts.budget"

    def read(self, world: World) -> Reading:
        """Return its amount and notifications."""
        account = world.aws.account
        answer = found(
            lambda: world.aws.budgets.describe_budget(AccountId=account, BudgetName=world.name),
            "NotFoundException",
        )
        if answer is None:
            return Reading(None)
        budget = answer["Budget"]
        notifications = world.aws.budgets.describe_notifications_for_budget(
            AccountId=account, BudgetName=world.name
        )["Notifications"]
        actual = {
            "Amount": float(budget["BudgetLimit"]["Amount"]),
            "TimeUnit": budget["TimeUnit"],
            "Notifications": {_label(each): _plain(each) for each in notifications},
        }
        return Reading(actual, raw=budget)

    def desired(self, world: World, reading: Reading) -> Document | None:
        """Return its amount and notifications, where there is a budget."""
        amount = monthly_usd(world)
        if amount is None:
            return None
        return {
            "Amount": amount,
            "TimeUnit": "MONTHLY",
            "Notifications": {_label(each): each for each in _NOTIFICATIONS},
        }

    def write(self, world: World, reading: Reading, desired: Document) -> None:
        """Create it, or set its amount and add the notifications that are missing."""
        account, budgets = world.aws.account, world.aws.budgets
        subscribers = [{"SubscriptionType": "SNS", "Address": world.known("topic.arn")}]
        limit = {"Amount": str(desired["Amount"]), "Unit": "USD"}
        budget = {
            "BudgetName": world.name,
            "BudgetType": "COST",
            "TimeUnit": desired["TimeUnit"],
            "BudgetLimit": limit,
        }
        if reading.actual is None:
            both = [{"Notification": each, "Subscribers": subscribers} for each in _NOTIFICATIONS]
            budgets.create_budget(
                AccountId=account,
                Budget=budget,
                NotificationsWithSubscribers=both,
                ResourceTags=world.tag_list,
            )
            return
        if any(reading.actual[name] != desired[name] for name in ("Amount", "TimeUnit")):
            kept = {name: each for name, each in reading.raw.items() if name not in _TOLD_BY_AWS}
            budgets.update_budget(AccountId=account, NewBudget={**kept, **budget})
        for each in _NOTIFICATIONS:
            if _label(each) not in reading.actual["Notifications"]:
                budgets.create_notification(
                    AccountId=account, BudgetName=world.name, Notification=each, Subscribers=subscribers
                )


# Of a budget; it cannot be set.
_TOLD_BY_AWS = ("CalculatedSpend", "LastUpdatedTime", "HealthStatus")
_NOTIFICATIONS: tuple[Document, ...] = tuple(
    {
        "NotificationType": kind,
        "ComparisonOperator": "GREATER_THAN",
        "Threshold": percent,
        "ThresholdType": "PERCENTAGE",
    }
    for kind, percent in (("ACTUAL", 80.0), ("FORECASTED", 100.0))
)


def _label(notification: Document) -> str:
    return f"{notification['NotificationType'].lower()} {float(notification['Threshold']):g} %"


def _plain(notification: Document) -> Document:
    names = ("NotificationType", "ComparisonOperator", "Threshold", "ThresholdType")
    return {name: notification[name] for name in names if name in notification}
