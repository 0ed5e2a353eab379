"""A target as a plain object, for JSON: `targets --json`, and the page. Names stay as they are from now on."""

from __future__ import annotations

from typing import Any

from autoinstr.model import Target


def target_record(target: Target) -> dict[str, Any]:
    return {
        "pid": target.pid,
        "service": target.service.name,
        "nameSource": target.name_source,
        "language": target.language,
        "ports": list(target.ports),
        "libraries": list(target.libraries),
        "selectedBy": target.selected_by,
        "unseen": list(target.unseen),
        "exe": target.exe,
        "command": list(target.command),
        "startTime": target.start_time,
        "resource": target.service.attributes,
    }
