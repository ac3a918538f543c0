"""What several test modules need: small models and profiles, made by hand or by hypothesis, and the program as a user runs it."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

import helixplan as hp
from helixplan.replay import case_of
from helixplan.report.material import Material, gather
from helixplan.report.page.of_plan import plan_page

ROOT = Path(__file__).parent.parent
settings.register_profile("ci", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
settings.load_profile("ci")

Run = Callable[..., subprocess.CompletedProcess[str]]
Main = Callable[..., tuple[int, str, str]]
Check = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="session")
def r1() -> hp.Model:
    return hp.load_model("deepseek-r1")


@pytest.fixture(scope="session")
def llama() -> hp.Model:
    return hp.load_model("llama-3.1-405b")


@pytest.fixture(scope="session")
def gb200() -> hp.Hardware:
    return hp.load_hardware("gb200-nvl72")


@pytest.fixture(scope="session")
def r1_plan(r1: hp.Model, gb200: hp.Hardware) -> hp.Plan:
    """The plan of the README's first command."""
    return hp.plan(r1, gb200, context_tokens=1_000_000, ttl_s=0.02)


@pytest.fixture(scope="session")
def r1_report(r1_plan: hp.Plan, r1: hp.Model, gb200: hp.Hardware) -> Material:
    """What its report is made of."""
    return gather(r1_plan, case_of(r1_plan, r1, gb200))


@pytest.fixture(scope="session")
def r1_page(r1_report: Material) -> str:
    return plan_page(r1_report)


@pytest.fixture(scope="session")
def r1_page_file(r1_page: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("report") / "report.html"
    file.write_text(r1_page, encoding="utf-8")
    return file


@pytest.fixture
def cli(tmp_path: Path) -> Run:
    """Runs helixplan as a process of its own, in an empty folder."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        import os

        return subprocess.run(
            [sys.executable, "-m", "helixplan", *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONWARNINGS": "error", **environment},
            timeout=120,
            check=False,
        )

    return run


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Main:
    """Runs helixplan in this process, where what tests have patched counts: (exit code, stdout, stderr)."""

    def run(*arguments: str) -> tuple[int, str, str]:
        from helixplan.cli import main as program

        monkeypatch.setattr(sys, "argv", ["helixplan", *arguments])
        with pytest.raises(SystemExit) as stop:
            program()
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    return run


GPU_PROFILE = tomllib.loads((ROOT / "hardware_profiles" / "gb200-nvl72.toml").read_text())


def profile(**changes: Any) -> dict[str, Any]:
    """gb200's profile with some values changed, named by dotted paths written with double underscores."""
    data = copy.deepcopy(GPU_PROFILE)
    for path, value in changes.items():
        *folders, last = path.split("__")
        place = data
        for folder in folders:
            place = place[folder]
        if value is None:
            del place[last]
        elif isinstance(place.get(last), dict) and "value" in place[last]:
            place[last]["value"] = value
        else:
            place[last] = value
    return data


def changed(document: str, path: str, value: Any) -> str:
    """A JSON text with what lies at a path of keys and indices set to a value, or mapped by a function."""
    whole = json.loads(document)
    *folders, last = (int(part) if part.isdigit() else part for part in path.split("/"))
    place: Any = whole
    for folder in folders:
        place = place[folder]
    place[last] = value(place[last]) if callable(value) else value
    return json.dumps(whole)


def llama_config(**changes: Any) -> dict[str, Any]:
    """A small GQA model; keys given as None are left out."""
    config = {
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 512,
        "intermediate_size": 1024,
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "vocab_size": 1000,
        **changes,
    }
    return {key: value for key, value in config.items() if value is not None}


def deepseek_config(**changes: Any) -> dict[str, Any]:
    """A small MLA model with a leading dense layer and a shared expert."""
    config = {
        "architectures": ["DeepseekV3ForCausalLM"],
        "hidden_size": 512,
        "intermediate_size": 1024,
        "moe_intermediate_size": 256,
        "num_hidden_layers": 4,
        "first_k_dense_replace": 1,
        "num_attention_heads": 8,
        "kv_lora_rank": 128,
        "q_lora_rank": 256,
        "qk_nope_head_dim": 64,
        "qk_rope_head_dim": 32,
        "v_head_dim": 64,
        "n_routed_experts": 12,
        "n_shared_experts": 1,
        "num_experts_per_tok": 3,
        "vocab_size": 1000,
        **changes,
    }
    return {key: value for key, value in config.items() if value is not None or key == "q_lora_rank"}


def delta_config(**changes: Any) -> dict[str, Any]:
    """A small hybrid of Gated DeltaNet and gated attention, every second layer, with a shared expert."""
    own = {
        "architectures": ["Qwen3NextForCausalLM"],
        "full_attention_interval": 2,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 2 * changes.get("num_attention_heads", 8),
        "linear_key_head_dim": 32,
        "linear_value_head_dim": 48,
        "linear_conv_kernel_dim": 4,
        "num_experts": 6,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 128,
        "shared_expert_intermediate_size": 100,
    }
    return llama_config(**(own | changes))


def kimi_config(**changes: Any) -> dict[str, Any]:
    """A small hybrid of Kimi Delta Attention and gated MLA, its experts at half the width, the first layer dense."""
    layers, heads = changes.get("num_hidden_layers", 4), changes.get("num_attention_heads", 8)
    full = [layer for layer in range(1, layers + 1) if layer % 2 == 0]
    linear = {
        "full_attn_layers": full,
        "kda_layers": [layer for layer in range(1, layers + 1) if layer not in full],
        "num_heads": heads,
        "head_dim": 32,
        "short_conv_kernel_size": 4,
    }
    own = {
        "architectures": ["KimiLinearForCausalLM"],
        "linear_attn_config": linear,
        "mla_use_output_gate": True,
        "num_experts": 8,
        "num_experts_per_token": 2,
        "num_shared_experts": 1,
        "routed_expert_hidden_size": 200,
    }
    return deepseek_config(**(own | changes))


def compressed_config(**changes: Any) -> dict[str, Any]:
    """A small DeepSeek-V4: a window alone, then entries of 4 tokens chosen and of 128 all read, in turn; experts everywhere."""
    layers = changes.get("num_hidden_layers", 4)
    own = {
        "architectures": ["DeepseekV4ForCausalLM"],
        "compress_ratios": [*([0] + [4, 128] * layers)[:layers], 0],
        "num_key_value_heads": 1,
        "head_dim": 64,
        "q_lora_rank": 128,
        "o_groups": 4,
        "o_lora_rank": 96,
        "sliding_window": 32,
        "hc_mult": 4,
        "index_topk": 64,
        "index_n_heads": 4,
        "index_head_dim": 32,
        "intermediate_size": None,
        "moe_intermediate_size": 256,
        "n_routed_experts": 12,
        "n_shared_experts": 1,
        "num_experts_per_tok": 3,
    }
    return llama_config(**(own | changes))


def mamba_config(**changes: Any) -> dict[str, Any]:
    """A small Nemotron-H: each layer is a Mamba, an attention, an MLP or experts, and nothing else."""
    layers, heads = changes.get("num_hidden_layers", 4), changes.get("num_attention_heads", 8)
    own = {
        "architectures": ["NemotronHForCausalLM"],
        "hybrid_override_pattern": ("ME*-" * layers)[:layers],
        "mamba_num_heads": 2 * heads,
        "mamba_head_dim": 24,
        "n_groups": 2,
        "ssm_state_size": 64,
        "conv_kernel": 4,
        "n_routed_experts": 6,
        "num_experts_per_tok": 2,
        "n_shared_experts": 1,
        "moe_intermediate_size": 128,
        "moe_shared_expert_intermediate_size": 150,
    }
    return llama_config(**(own | changes))


SUITE = """# two questions
[defaults]
model = "mine.json"
hardware = "rack.toml"
context = "64k"

[[case]]
name = "fast"
gpus = 8

[[case]]
name = "many"
ttl = "20ms"
max_gpus = 4
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a suite, a model and a profile of one's own."""
    (tmp_path / "suite.toml").write_text(SUITE)
    config = llama_config(num_attention_heads=16, num_key_value_heads=8, num_hidden_layers=16, hidden_size=4096)
    (tmp_path / "mine.json").write_text(json.dumps(config | {"intermediate_size": 16384, "vocab_size": 32000}))
    shutil.copy(ROOT / "hardware_profiles" / "gb200-nvl72.toml", tmp_path / "rack.toml")
    return tmp_path


@pytest.fixture
def check(place: Path, main: Main) -> Callable[..., tuple[int, str, str]]:
    """``check`` of that suite, in this process; its baseline is made first."""
    suite = [str(place / "suite.toml"), "--baseline", str(place / "baseline"), "--jobs", "1"]
    assert main("check", *suite, "--update")[0] == 0

    def run(*arguments: str) -> tuple[int, str, str]:
        return main("check", *suite, *arguments)

    return run


def edit(file: Path, before: str, after: str) -> None:
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after, 1))
