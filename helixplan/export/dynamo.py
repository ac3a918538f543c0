"""Dynamo: a ``DynamoGraphDeployment`` whose decode worker is given the engine's own words.

Facts of Dynamo's documentation (docs.nvidia.com/dynamo): kubernetes API reference: ``spec.components[]`` of nvidia.com/v1beta1,
``multinode.nodeCount`` nodes of as many GPUs as the main container asks for; the operator puts its own image into the container
named main; backend references: ``--disaggregation-mode``, ``--override-engine-args`` (TensorRT-LLM); router: one block of its is
the engine's block over all ranks that share a sequence.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from math import gcd
from typing import Any

from helixplan.errors import InputError
from helixplan.export.shell import unwrapped
from helixplan.export.spelling import Settings, Spelling, as_words
from helixplan.export.yamls import nested
from helixplan.units import format_counted

API = "nvidia.com/v1beta1"
KIND = "DynamoGraphDeployment"
GPU = "nvidia.com/gpu"
OVERRIDES = "--override-engine-args"
NODE_GPUS, TRAY_GPUS = 8, 4
"""GPUs of a node: an HGX board's; a compute tray's, where the fast link's domain is a rack (GB200 NVL72: 72 GPUs in 18)."""


def node_gpus(domain_gpus: int) -> int:
    """GPUs a node has by default."""
    return TRAY_GPUS if domain_gpus > NODE_GPUS else domain_gpus


def deployment(spelling: Spelling, settings: Settings, name: str, model: str, gpus: int, kvp: int, a_node: int) -> dict[str, Any]:
    """The deployment: a frontend whose router knows the block, and the decode worker with all GPUs, once."""
    block = int(settings[spelling.block]) * kvp
    nodes = 1 if gpus <= a_node else gpus // gcd(gpus, a_node)
    worker = _component("DecodeWorker", "decode", _worker_words(spelling, settings), {"limits": {GPU: str(gpus // nodes)}})
    worker |= {"multinode": {"nodeCount": nodes}} if nodes > 1 else {}
    router = ["python3", "-m", "dynamo.frontend", "--router-mode", "kv", "--kv-cache-block-size", str(block)]
    return {
        "apiVersion": API,
        "kind": KIND,
        "metadata": {"name": re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "helixplan"},
        "spec": {
            "backendFramework": spelling.engine,
            "env": [{"name": "MODEL", "value": model}],
            "components": [_component("Frontend", "frontend", router, None), worker],
        },
    }


def _component(name: str, kind: str, words: list[str], resources: dict[str, Any] | None) -> dict[str, Any]:
    container: dict[str, Any] = {"name": "main", "command": words[:3], "args": words[3:]}
    container |= {"resources": resources} if resources else {}
    return {"name": name, "type": kind, "replicas": 1, "podTemplate": {"spec": {"containers": [container]}}}


def _worker_words(spelling: Spelling, settings: Settings) -> list[str]:
    own = [OVERRIDES, json.dumps(nested(settings))] if spelling.file_wins else as_words(spelling, settings)
    start = ["python3", "-m", f"dynamo.{spelling.engine}", spelling.model_option, "$(MODEL)"]
    return [*start, "--disaggregation-mode", "decode", *own]


def worker_of(data: Mapping[str, Any], file: str) -> tuple[list[str], int | None]:
    """The words of the one worker that decodes, and the GPUs asked for where it says. Raises InputError."""
    spec = data.get("spec")
    components = spec.get("components") if isinstance(spec, dict) else None
    if not isinstance(components, list):
        raise InputError(f"must be a list, as in {API}", file=file, field="spec.components")
    workers = []
    for component in components:
        words, gpus = _words_and_gpus(component)
        if any(word.startswith("dynamo.") and word != "dynamo.frontend" for word in words):
            workers.append((str(component.get("type")), words, gpus))
    decoding = [worker for worker in workers if _decodes(worker[0], worker[1])] or [
        worker for worker in workers if worker[0] != "prefill" and "prefill" not in worker[1]
    ]
    if len(decoding) != 1:
        raise InputError(
            f"has {len(decoding)} workers that decode, of which there must be one", file=file, field="spec.components"
        )
    return decoding[0][1], decoding[0][2]


def _decodes(kind: str, words: list[str]) -> bool:
    return kind == "decode" or "--is-decode-worker" in words or "decode" in words


def _words_and_gpus(component: object) -> tuple[list[str], int | None]:
    """What the main container runs, a shell's text taken apart, and its GPUs times its nodes."""
    main = _main_container(component)
    words = [str(word) for part in ("command", "args") for word in _items(main.get(part))]
    words = [word for line in unwrapped(words) for word in line]
    limit = _at(main, "resources", "limits", GPU) or _at(main, "resources", "requests", GPU)
    nodes = _at(component, "multinode", "nodeCount") or 1
    if not str(limit).isdecimal() or not str(nodes).isdecimal() or len(f"{limit}{nodes}") > 12:
        return words, None
    return words, int(str(limit)) * int(str(nodes))


def _main_container(component: object) -> dict[str, Any]:
    containers = _items(_at(component, "podTemplate", "spec", "containers"))
    found = [one for one in containers if isinstance(one, dict) and one.get("name") == "main"]
    return found[0] if found else {}


def _items(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _at(place: object, *keys: str) -> object:
    for key in keys:
        place = place.get(key) if isinstance(place, dict) else None
    return place


def check_gpus(asked: int | None, needed: int, file: str) -> None:
    """Raises InputError where a worker asks for other GPUs than its words use."""
    if asked is not None and asked != needed:
        raise InputError(f"asks for {format_counted(asked, 'GPU')}, but its arguments use {needed}", file=file, field=GPU)
