"""Every engine's spelling, by the names that ``--engine`` takes."""

from __future__ import annotations

from helixplan.export.sglang import SGLANG
from helixplan.export.spelling import Spelling
from helixplan.export.trtllm import TRTLLM
from helixplan.export.vllm import VLLM

SPELLINGS: dict[str, Spelling] = {spelling.engine: spelling for spelling in (TRTLLM, VLLM, SGLANG)}
EXPORTS = (*SPELLINGS, "dynamo")
"""What launch files can be written for."""
