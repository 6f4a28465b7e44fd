"""What a check is given, and what it says."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, field_validator

from pipeline.masking import masked

Status = Literal["ok", "warning", "wrong"]


class Inputs(BaseModel):
    """What a check may look at."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    work: str
    """The work directory, absolute."""
    config: str | None = None
    overrides: list[str] = []
    archives: list[str] = []
    tables: list[str] = []


class Finding(BaseModel):
    """One line of the report."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    subject: str
    status: Status
    text: str
    mend: str = ""
    """What to do about it; empty where nothing is to be done."""

    @field_validator("subject", "text", "mend")
    @classmethod
    def _masked(cls, text: str) -> str:
        return masked(text)


def ok(subject: str, text: str) -> Finding:
    """All is well."""
    return Finding(subject=subject, status="ok", text=text)


def warning(subject: str, text: str, mend: str) -> Finding:
    """It works, and may not for long, or not well."""
    return Finding(subject=subject, status="warning", text=text, mend=mend)


def wrong(subject: str, text: str, mend: str) -> Finding:
    """It does not work."""
    return Finding(subject=subject, status="wrong", text=text, mend=mend)
