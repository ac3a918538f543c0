"""The program as a user meets it: results on stdout, mistakes in one sentence, exit codes, files whole or not at all."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

import helixplan as hp
from helixplan.inputs.catalog import bundled_hardware, bundled_models
from tests.conftest import Run, deepseek_config, llama_config, profile

PLAN = ("plan", "deepseek-r1", "gb200-nvl72", "--context", "1M")
MAIN = (*PLAN, "--ttl", "20ms")


def test_the_main_command_prints_the_answer_and_writes_the_plan(cli: Run, tmp_path: Path) -> None:
    done = cli(*MAIN, "--output", "plan.json")
    assert done.returncode == 0
    plan = hp.Plan.from_json((tmp_path / "plan.json").read_text())
    layout = plan.layout
    for said in (
        f"KVP {layout.kvp} x TPA {layout.tpa} x DP {layout.dp}",
        f"TPF {layout.tpf} x EP {layout.ep}",
        f"{layout.batch} concurrent requests",
        f"{plan.cost.ttl_s * 1e3:.4g} ms",
        f"{plan.cost.tokens_per_s_per_user:.4g} tokens/s/user",
        f"{plan.cost.tokens_per_s_per_gpu:.4g} tokens/s/GPU",
        f"{plan.memory.total_bytes / 1e9:.4g} GB",
        "optimal",
    ):
        assert said in " ".join(done.stdout.split())
    assert "max_position_embeddings" in done.stderr
    assert plan.cost.ttl_s <= 0.02


def test_json_on_stdout_is_the_file_and_matches_the_schema(cli: Run, tmp_path: Path) -> None:
    done = cli(*MAIN, "--format", "json", "--output", "plan.json")
    assert done.stdout == (tmp_path / "plan.json").read_text()
    document = json.loads(done.stdout)
    jsonschema.validate(document, json.loads(cli("schema", "plan").stdout))
    assert list(document) == sorted(document)


def test_what_the_interface_promises_of_a_plan_is_there(cli: Run) -> None:
    document = json.loads(cli(*MAIN, "--format", "json").stdout)
    promised = {
        "": "schema_version helixplan_version cost_model_version model hardware workload layout cost memory proof alternatives "
        "ranks groups",
        "model": "name sha256",
        "hardware": "name sha256 kernels floor_scale",
        "workload": "context_tokens weight_dtype kv_dtype attention_math ttl_limit_s objective",
        "layout": "family kvp tpa dp pp tpf ep gpus batch overlap overlap_chunks exchange kv_block_tokens",
        "cost": "ttl_s ttl_ideal_s tokens_per_s_per_user tokens_per_s_per_gpu phases exposed_communication_s",
        "memory": "weights_bytes kv_cache_bytes workspace_bytes total_bytes limit_bytes fits",
        "proof": "status objective bound candidates rules",
        "groups": "attention_exchange attention_reduce ffn_tensor expert pipeline",
    }
    for place, keys in promised.items():
        assert set(keys.split()) <= (document[place] if place else document).keys()
    phase = "name layers seconds hbm_bytes flops wire_bytes bound"
    assert set(phase.split()) <= document["cost"]["phases"][0].keys()
    rank = "rank stage dp kvp tpa tpf ep query_heads output_heads kv_heads kv_blocks experts layers memory_bytes"
    assert set(rank.split()) <= document["ranks"][0].keys()


def test_estimate_repeats_the_plans_cost_to_the_last_digit(cli: Run) -> None:
    plan = json.loads(cli(*MAIN, "--format", "json").stdout)
    layout = plan["layout"]
    sizes = [part for name in ("kvp", "tpa", "dp", "pp", "tpf", "ep", "batch") for part in (f"--{name}", str(layout[name]))]
    chunks = ["--overlap-chunks", str(layout["overlap_chunks"]), "--exchange", layout["exchange"]]
    done = cli("estimate", "deepseek-r1", "gb200-nvl72", "--context", "1M", *sizes, *chunks, "--format", "json")
    again = json.loads(done.stdout)
    assert again["cost"] == plan["cost"]
    assert again["memory"] == plan["memory"]
    assert again["broken_rules"] == []
    assert "proof" not in again


def test_estimate_of_a_layout_that_breaks_rules_and_does_not_fit_says_so_and_exits_0(cli: Run) -> None:
    sizes = ["--kvp", "1", "--tpa", "16", "--tpf", "4", "--ep", "1", "--batch", "100"]
    done = cli("estimate", "llama-3.1-405b", "gb200-nvl72", "--context", "1M", *sizes, "--format", "json")
    assert done.returncode == 0
    found = json.loads(done.stdout)
    assert found["broken_rules"] == ["tpa-within-kv-heads", "same-gpus-both-phases", "memory-fits"]
    assert found["memory"]["fits"] is False
    table = cli("estimate", "llama-3.1-405b", "gb200-nvl72", "--context", "1M", *sizes)
    assert "tpa-within-kv-heads, same-gpus-both-phases, memory-fits" in " ".join(table.stdout.split())


@pytest.mark.parametrize("output_format", ["table", "markdown"])
def test_views_are_plain_text_at_80_columns_in_a_pipe(cli: Run, output_format: str) -> None:
    done = cli(*MAIN, "--format", output_format)
    assert "\x1b" not in done.stdout
    assert "…" not in done.stdout
    if output_format == "table":
        assert max(len(line) for line in done.stdout.splitlines()) <= 80


@pytest.mark.parametrize("command", [(), ("models",), ("hardware",)])
def test_the_list_of_commands_is_not_cut_off(cli: Run, command: tuple[str, ...]) -> None:
    out = cli(*command, "--help", COLUMNS="80").stdout
    assert "Commands:" in out
    assert "..." not in out.partition("Commands:")[2]
    assert max(len(line) for line in out.splitlines()) <= 80


def test_an_uncalibrated_system_says_so(cli: Run) -> None:
    done = cli("plan", "llama-3.1-70b", "mi300x", "--context", "100k")
    assert done.returncode == 0
    assert "uncalibrated" in done.stderr
    assert "uncalibrated" in done.stdout
    calibrated = cli("plan", "llama-3.1-70b", "h200-hgx", "--context", "100k")
    assert "uncalibrated" not in calibrated.stdout + calibrated.stderr


MISTAKES = [
    ((*PLAN[:1], "deepseek-r2", *PLAN[2:]), ["deepseek-r2", "deepseek-r1"]),
    ((*PLAN[:2], "gb200", *PLAN[3:]), ["gb200", "gb200-nvl72"]),
    ((*PLAN[:1], "nowhere/config.json", *PLAN[2:]), ["nowhere/config.json", "No such file"]),
    ((*PLAN[:4], "1X"), ["--context", "1X", "1M"]),
    ((*PLAN[:4], "0"), ["--context", "1,000,000,000"]),
    ((*PLAN[:4], "-5k"), ["--context", "-5000"]),
    ((*PLAN[:4], "1e30"), ["--context", "1e30"]),
    ((*PLAN[:4], "1.5"), ["--context", "1.5", "whole"]),
    ((*PLAN, "--ttl", "inf"), ["--ttl", "inf"]),
    ((*PLAN, "--ttl", "0ms"), ["--ttl", "above 0"]),
    ((*PLAN, "--ttl", "nan"), ["--ttl", "nan"]),
    ((*PLAN, "--batch", "0"), ["--batch", "131,072"]),
    ((*PLAN, "--gpus", "1000000"), ["--gpus", "4,096"]),
    ((*PLAN, "--gpus", "8", "--max-gpus", "8"), ["--gpus", "not both"]),
    ((*PLAN, "--family", "helx"), ["--family", "helx", "helix"]),
    ((*PLAN, "--objective", "speed"), ["--objective", "speed", "throughput"]),
    ((*PLAN, "--pin", "kpv=8"), ["--pin", "kpv", "kvp"]),
    ((*PLAN, "--pin", "kvp"), ["--pin", "kvp=8"]),
    ((*PLAN, "--pin", "kvp=x"), ["--pin kvp", "x"]),
    ((*PLAN, "--pin", "kvp=8", "--pin", "kvp=4"), ["--pin", "twice"]),
    ((*PLAN, "--weights", "fp6"), ["--weights", "fp6", "nvfp4"]),
    ((*PLAN, "--kv", "int8"), ["--kv", "int8", "fp8"]),
    ((*PLAN, "--engine", "trtlm"), ["--engine", "trtlm", "none"]),
    ((*PLAN, "--kernels", "fast"), ["--kernels", "fast", "measured"]),
    ((*PLAN, "--floor-scale", "2"), ["--floor-scale", "2", "from 0 to 1"]),
    ((*PLAN, "--floor-scale", "x"), ["--floor-scale", "x"]),
    ((*PLAN, "--kernels", "ideal", "--floor-scale", "1"), ["--floor-scale", "ideal"]),
    ((*PLAN, "--memory-utilization", "1.5"), ["--memory-utilization", "1.5"]),
    ((*PLAN, "--kv-block", "0"), ["--kv-block", "0"]),
    ((*PLAN, "--step-overhead", "-1us"), ["--step-overhead"]),
    (("plan", "deepseek-r1", "h200-hgx", "--context", "1M", "--attention-math", "fp4"), ["--attention-math", "fp4", "bf16, fp8"]),
    (("estimate", *PLAN[1:], "--batch", "1", "--kvp", "3", "--tpa", "1"), ["kvp 3", "128 query heads"]),
    (("estimate", *PLAN[1:], "--batch", "1", "--kvp", "8", "--tpa", "1", "--tpf", "3"), ["tpf 3", "8"]),
    (("estimate", *PLAN[1:], "--batch", "1", "--kvp", "8", "--tpa", "1", "--ep", "3"), ["--ep", "3", "8"]),
    (("estimate", *PLAN[1:], "--batch", "1", "--kvp", "0", "--tpa", "1"), ["--kvp", "0"]),
    (("estimate", *PLAN[1:], "--batch", "1", "--kvp", "8x", "--tpa", "1"), ["--kvp", "8x"]),
    (("estimate", *PLAN[1:], "--batch", "1", "--kvp", "8", "--tpa", "1", "--tpf", "0"), ["--tpf", "0"]),
    (
        ("estimate", *PLAN[1:], "--batch", "1", "--kvp", "8", "--tpa", "1", "--overlap", "none", "--overlap-chunks", "4"),
        ["--overlap-chunks", "4"],
    ),
    (
        ("estimate", *PLAN[1:], "--batch", "1", "--kvp", "8", "--tpa", "1", "--overlap", "hop-b", "--overlap-chunks", "1"),
        ["--overlap-chunks"],
    ),
    ((*PLAN[:1], "m" * 300 + ".json", *PLAN[2:]), ["mmm", "too long"]),
    ((*PLAN[:2], "h" * 5000, *PLAN[3:]), ["hhh", "too long"]),
    (("estimate", *PLAN[1:], "--batch", "1", "--kvp", "1", "--tpa", "1", "--pp", "62"), ["--pp", "62", "61 layers"]),
    (
        ("estimate", "llama-3.1-70b", "rtx-pro-6000", "--context", "1k", "--batch", "1", "--kvp", "2", "--tpa", "8"),
        ["16 GPUs", "scale-out"],
    ),
]


@pytest.mark.parametrize(
    ("arguments", "said"), MISTAKES, ids=[" ".join(arguments[3:]) or str(i) for i, (arguments, _) in enumerate(MISTAKES)]
)
def test_a_mistake_gets_one_sentence_exit_2_and_nothing_written(
    cli: Run, tmp_path: Path, arguments: tuple[str, ...], said: list[str]
) -> None:
    output = () if arguments[0] == "estimate" else ("--output", "plan.json")
    done = cli(*arguments, *output)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
    for word in said:
        assert word in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments", [("plan",), ("plan", "deepseek-r1", "gb200-nvl72"), ("fly",), ("schema", "nothing"), (*PLAN, "--fast")]
)
def test_wrong_usage_exits_2(cli: Run, arguments: tuple[str, ...]) -> None:
    done = cli(*arguments)
    assert done.returncode == 2
    assert "Error: " in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", ["valid JSON"]),
        ("[]", ["one JSON object"]),
        ('{"hidden_size": NaN}', ["NaN"]),
        ("[" * 100_000, ["valid JSON"]),
        (json.dumps(llama_config(hidden_size=None)), ["hidden_size", "missing"]),
        (json.dumps(llama_config(hidden_size=None, hiden_size=512)), ["hidden_size", "missing", "hiden_size"]),
        (json.dumps(llama_config(num_key_value_heads=None, num_key_value_head=2)), ["num_key_value_head", "num_key_value_heads"]),
        (json.dumps(llama_config(hidden_size="512")), ["hidden_size", "'512'", "integer"]),
        (json.dumps(llama_config(hidden_size=512.5)), ["hidden_size", "512.5"]),
        (json.dumps(llama_config(hidden_size=0)), ["hidden_size", "got 0", "greater than or equal to 1"]),
        (json.dumps(llama_config(hidden_size=-512)), ["hidden_size", "-512"]),
        (json.dumps(llama_config(hidden_size=True)), ["hidden_size", "True"]),
        (json.dumps(llama_config(num_hidden_layers=10**9)), ["num_hidden_layers", "1000000000"]),
        (json.dumps(llama_config(num_key_value_heads=3)), ["num_key_value_heads", "divide"]),
        (json.dumps(llama_config(architectures=["LlamaForCausalLm"])), ["architectures", "LlamaForCausalLM"]),
        (json.dumps(llama_config(intermediate_size=None)), ["intermediate_size", "LlamaForCausalLM"]),
        (json.dumps(deepseek_config(n_shared_experts=None)), ["n_shared_experts", "missing"]),
        (json.dumps(llama_config(architectures=["GptOssForCausalLM"], sliding_window=128)), ["layer_types", "missing"]),
        (json.dumps(llama_config(quantization_config={"quant_method": "hqq"})), ["quant_method", "hqq", "--weights"]),
        (
            json.dumps(llama_config(quantization_config={"quant_method": "gptq"})),
            ["quantization_config.bits", "None", "--weights"],
        ),
        ('{"a": 1, "a": 2}', ["'a'", "twice"]),
        ("\udcff", ["UTF-8"]),
    ],
)
def test_a_broken_model_file_is_refused_by_file_and_key(cli: Run, tmp_path: Path, content: str, said: list[str]) -> None:
    (tmp_path / "config.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    done = cli("plan", "config.json", "gb200-nvl72", "--context", "1k")
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    for word in ("config.json", *said):
        assert word in done.stderr


def as_toml(data: dict[str, object], place: str = "") -> str:
    """Enough TOML for a profile."""
    own = "".join(f"{json.dumps(k)} = {json.dumps(v)}\n" for k, v in data.items() if not isinstance(v, dict | list))
    text = (f"[{place}]\n" if place else "") + own
    for name, value in data.items():
        key = name if re.fullmatch(r"\w+", name) else json.dumps(name)
        path = f"{place}.{key}" if place else key
        if isinstance(value, dict):
            text += as_toml(value, path)
        if isinstance(value, list):
            text += "".join(as_toml(item, path).replace(f"[{path}]", f"[[{path}]]", 1) for item in value)
    return text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"gpu__memory_byte": 1e9}, ["gpu.memory_byte", "memory_bytes"]),
        ({"gpu__memory_bytes": None}, ["gpu.memory_bytes", "missing"]),
        ({"gpu__memory_bytes": 0.0}, ["gpu.memory_bytes.value", "1000000"]),
        ({"gpu__memory_bytes": "much"}, ["gpu.memory_bytes.value", "much"]),
        ({"domain__gpus": 2.5}, ["domain.gpus.value", "2.5"]),
        ({"kernels__gemm__bf16__efficiency": 1.5}, ["kernels.gemm.bf16.efficiency", "1.5"]),
        ({"kernels__gemm__bf16__floor_us": -1.0}, ["kernels.gemm.bf16.floor_us", "-1"]),
        ({"kernels__all_to_all__growth": "cubic"}, ["kernels.all_to_all.growth", "cubic", "log2"]),
        ({"kernels__gemm__bf16": None}, ["kernels", "gemm", "bf16"]),
        ({"kernels__inherit": "gb201"}, ["kernels.inherit", "gb201", "gb200-nvl72"]),
        ({"gpu__flops_per_s__bf16": None}, ["gpu", "flops_per_s must give at least bf16"]),
        ({"gpu__memory_bytes_per_s": 1e-300}, ["gpu.memory_bytes_per_s.value", "1e-300"]),
        ({"gpu__memory_bytes_per_s": True}, ["gpu.memory_bytes_per_s.value", "True"]),
    ],
)
def test_a_broken_profile_is_refused_by_file_and_key(
    cli: Run, tmp_path: Path, change: dict[str, object], said: list[str]
) -> None:
    (tmp_path / "own.toml").write_text(as_toml(profile(**change)))
    done = cli("plan", "llama-3.1-70b", "own.toml", "--context", "1k")
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    for word in ("own.toml", *said):
        assert word in done.stderr


def test_a_profile_that_is_no_toml_is_refused(cli: Run, tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text("= 1")
    done = cli("plan", "llama-3.1-70b", "own.toml", "--context", "1k")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "own.toml: is not valid TOML" in done.stderr


def test_a_users_own_model_folder_and_profile_are_planned_for(cli: Run, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text(json.dumps(llama_config()))
    (tmp_path / "own.toml").write_text(as_toml(profile(name="own")))
    done = cli("plan", "mine", "own.toml", "--context", "100k", "--format", "json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["model"]["name"], document["hardware"]["name"]) == ("mine", "own")


def test_an_output_file_is_kept_unless_forced(cli: Run, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text("mine")
    done = cli(*MAIN, "--output", "plan.json")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--force" in done.stderr
    assert (tmp_path / "plan.json").read_text() == "mine"
    done = cli(*MAIN, "--output", "plan.json", "--force")
    assert done.returncode == 0
    assert (tmp_path / "plan.json").read_text().startswith("{")
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]


def test_an_output_folder_that_is_missing_or_a_folder_given_as_file_is_refused_before_any_work(cli: Run, tmp_path: Path) -> None:
    assert "nowhere" in cli(*MAIN, "--output", "nowhere/plan.json").stderr
    (tmp_path / "folder").mkdir()
    done = cli(*MAIN, "--output", "folder", "--force")
    assert done.returncode == 2
    assert "is a folder" in done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_output_folder_that_cannot_be_written_is_refused(cli: Run, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(stat.S_IRUSR | stat.S_IXUSR)
    done = cli(*MAIN, "--output", "locked/plan.json")
    assert done.returncode == 2
    assert "cannot be written" in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("arguments", [MAIN, ("schema", "plan"), ("models", "list")])
def test_a_result_that_cannot_be_written_is_an_error_in_one_sentence(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "helixplan", *arguments]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert "stdout" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_reader_that_goes_away_ends_the_program_quietly(tmp_path: Path) -> None:
    command = f"{sys.executable} -m helixplan {' '.join(MAIN)} --format json 2>err | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, check=False)
    assert done.returncode == 141
    assert "Traceback" not in (tmp_path / "err").read_text()


@pytest.mark.parametrize("columns", ["0", "20", "40", "200"])
def test_no_terminal_width_loses_figures(cli: Run, columns: str) -> None:
    wide = set(cli(*MAIN).stdout.split())
    assert set(cli(*MAIN, COLUMNS=columns).stdout.split()) >= wide - {"best", "throughput"}
    shown = "".join(cli("hardware", "show", "gb200-nvl72", COLUMNS=columns).stdout.split())
    assert "1.987e+11" in shown
    assert "kernels.overheads.workspace_bytes" in shown or columns != "200"


def test_an_infeasible_request_exits_3_with_its_conflict_and_relaxations(cli: Run, tmp_path: Path) -> None:
    done = cli(*PLAN, "--ttl", "1ms", "--format", "json", "--output", "plan.json")
    assert done.returncode == 3
    document = json.loads(done.stdout)
    jsonschema.validate(document, json.loads(cli("schema", "infeasible").stdout))
    assert document["status"] == "infeasible"
    assert [member["rule"] for member in document["conflict"]] == ["ttl"]
    assert document["relaxations"][0]["change"].startswith("--ttl ")
    assert list(tmp_path.iterdir()) == []
    table = cli(*PLAN, "--ttl", "1ms")
    assert table.returncode == 3
    assert "What would help" in table.stdout
    assert "## No layout keeps" in cli(*PLAN, "--ttl", "1ms", "--format", "markdown").stdout


def test_catalogs_list_and_show_everything_bundled(cli: Run) -> None:
    for kind, bundled in (("models", bundled_models()), ("hardware", bundled_hardware())):
        listed = json.loads(cli(kind, "list", "--format", "json").stdout)
        assert [row["name"] for row in listed] == list(bundled)
        assert all(name in cli(kind, "list", "--format", "markdown").stdout for name in bundled)
    shown = json.loads(cli("models", "show", "deepseek-r1", "--format", "json").stdout)
    assert shown["kv_bytes_per_token"]["fp8"] == 35136
    assert shown in json.loads(cli("models", "list", "--format", "json").stdout)
    assert "https://" in cli("hardware", "show", "gb200-nvl72").stdout


@pytest.mark.parametrize(("raised", "code", "said"), [(KeyboardInterrupt, 130, ""), (ZeroDivisionError, 70, "bug in helixplan")])
def test_an_interrupt_exits_130_and_a_bug_70(
    raised: type[BaseException], code: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import helixplan.api
    from helixplan import cli as program

    def stop(*_: object) -> None:
        raise raised

    monkeypatch.setattr(helixplan.api, "plan_case", stop)
    monkeypatch.setattr("sys.argv", ["helixplan", *MAIN])
    with pytest.raises(SystemExit) as stopped:
        program.main()
    assert stopped.value.code == code
    assert said in capsys.readouterr().err


def test_completion_offers_bundled_names(cli: Run) -> None:
    done = cli(_HELIXPLAN_COMPLETE="complete_bash", COMP_WORDS="helixplan plan deep", COMP_CWORD="2")
    assert done.stdout.split() == ["deepseek-r1", "deepseek-v3", "deepseek-v3.2", "deepseek-v4-flash", "deepseek-v4-pro"]
