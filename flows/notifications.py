"""Automations of the Prefect server that tell a webhook of failures and of new champions."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from flows.deployments import TAG

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.events.schemas.automations import AutomationCore

BLOCK = "captionmill-webhook"
PROMOTED = "captionmill.promoted"
WATCHING = "captionmill.watching"
RESTARTING = "Restarting"
"""The state of a run whose process died, until a worker takes it up again."""

# `text` is what chat services show; the rest is for programs.
PAYLOAD = """{
 "text": {{ (%(head)s ~ (": " ~ %(detail)s if %(detail)s else "")) | tojson }},
 "kind": %(kind)s,
 "event": {{ event.event | tojson }},
 "occurred": {{ event.occurred | string | tojson }},
 "name": {{ %(name)s | tojson }},
 "detail": {{ %(detail)s | string | tojson }},
 "id": {{ event.resource["prefect.resource.id"] | tojson }}
}"""

NAME = 'event.resource["prefect.resource.name"]'
STATE = 'event.resource["prefect.state-name"]'
MESSAGE = '(event.resource["prefect.state-message"] or "")'


def payload(kind: str, name: str, head: str, detail: str) -> str:
    """The template of what is sent; the arguments but `kind` are Jinja expressions."""
    return PAYLOAD % {"kind": json.dumps(kind), "name": name, "head": head, "detail": detail}


def automations(webhook: UUID) -> list[AutomationCore]:
    """What is told, and when."""
    from prefect.events.actions import CallWebhook
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

    def of_runs(*states: str) -> dict[str, Any]:
        return {
            "expect": {f"prefect.flow-run.{state}" for state in states},
            "match_related": {
                "prefect.resource.role": "tag",
                "prefect.resource.id": f"prefect.tag.{TAG}",
            },
            "for_each": {"prefect.resource.id"},
        }

    run = f'"captionmill: " ~ {NAME} ~ " is " ~ ({STATE} | lower)'
    champion = "event.payload.champion"
    pool = f'"captionmill: work pool " ~ {NAME} ~ " has no worker online"'
    at_once = {
        "type": "event",
        "posture": Posture.Reactive,
        "threshold": 1,
        "within": timedelta(0),
    }
    watcher = "captionmill watch has not been heard of for ten minutes"
    missing = {
        "after": {WATCHING},
        "expect": {WATCHING},
        "for_each": {"prefect.resource.id"},
        "posture": Posture.Proactive,
        "within": timedelta(minutes=10),
    }
    told: list[tuple[str, str, dict[str, Any], str]] = [
        (
            "captionmill: a run failed",
            "A run failed, crashed, or took too long.",
            of_runs("Failed", "Crashed", "TimedOut"),
            payload("failure", NAME, run, MESSAGE),
        ),
        (
            "captionmill: a run is restarted",
            "A run's process died, and captionmill watch starts it again.",
            of_runs(RESTARTING),
            payload("restart", NAME, run, MESSAGE),
        ),
        (
            "captionmill: new champion",
            "A candidate became champion.",
            {"expect": {PROMOTED}, "for_each": {"prefect.resource.id"}},
            payload("promotion", champion, f'{champion} ~ " is champion"', "event.payload.reason"),
        ),
        (
            "captionmill: no worker online",
            "A work pool's last worker went away.",
            {"expect": {"prefect.work-pool.not-ready"}, "for_each": {"prefect.resource.id"}},
            payload("no-worker", NAME, pool, '""'),
        ),
        (
            "captionmill: nobody watches",
            "captionmill watch is gone, so nobody restarts dead runs.",
            missing,
            payload("no-watch", '"captionmill watch"', f'"{watcher}"', '""'),
        ),
    ]
    return [
        AutomationCore(
            name=name,
            description=description,
            tags=[TAG],
            # Prefect's client leaves out of an update what is not spelt out, kinds too.
            trigger=EventTrigger.model_validate({**at_once, **trigger}),
            actions=[CallWebhook(type="call-webhook", block_document_id=webhook, payload=text)],
        )
        for name, description, trigger, text in told
    ]


def register_notifications(client: SyncPrefectClient, url: str) -> list[str]:
    """Keep the webhook's address on the server, encrypted, and register the automations; their names."""
    from prefect.blocks.webhook import Webhook
    from pydantic import SecretStr

    block = Webhook(method="POST", url=SecretStr(url), headers={"Content-Type": "application/json"})
    webhook = block.save(BLOCK, overwrite=True)
    assert isinstance(webhook, UUID)
    wanted = automations(webhook)
    for automation in wanted:
        known = client.read_automations_by_name(automation.name)
        if known:
            kept = automation.model_copy(update={"enabled": known[0].enabled})
            client.update_automation(known[0].id, kept)
        else:
            client.create_automation(automation)
    return [automation.name for automation in wanted]
