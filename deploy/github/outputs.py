"""Prints what one `codechunk index --json` came to, as the outputs of a step of GitHub Actions (action.yml).

outputs.py DOCUMENT [QUEUE_BEFORE QUEUE_AFTER]: the files of `index --json` and, where a worker ran before it, of
`queue status --json` before the worker and at the end. The document of a run that failed early is empty.
"""

import json
import sys
from pathlib import Path


def outputs(document, queue_changed):
    """Name -> value; `keep`: whether there is anything that a new cache would be worth its space for."""
    if not document:
        return {"status": "failed", "texts-sent": 0, "keep": "true"}
    cost = document["cost"]
    if document.get("dry_run"):
        return {"status": "planned", "cost": 0, "estimated-cost": cost["direct"], "texts-sent": 0}
    return {
        "status": document["status"],
        "cost": cost["spent"],
        "estimated-cost": cost["estimated"],
        "texts-sent": document["embedding"]["texts_sent"],
        "keep": "true" if queue_changed or not is_as_before(document) else "false",
    }


def is_as_before(document):
    """Whether the run found nothing to do."""
    changes = document["changes"]
    differences = [
        changes[kind][name] for kind in ("files", "chunks") for name in ("added", "changed", "moved", "deleted")
    ]
    return document["status"] == "succeeded" and not any(differences) and not document["embedding"]["texts_sent"]


def main(document_file, *queue_files):
    """Read the files, print the outputs."""
    text = Path(document_file).read_text()
    before_and_after = [Path(name).read_text() for name in queue_files]
    found = outputs(json.loads(text) if text.strip() else None, len(set(before_and_after)) > 1)
    print(f"document={document_file}")
    for name, value in found.items():
        print(f"{name}={'' if value is None else value}")


if __name__ == "__main__":
    main(*sys.argv[1:])
