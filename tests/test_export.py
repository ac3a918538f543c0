"""Plans become launch files that engines' own terms read back into the same layout."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import helixplan as hp
from helixplan.assembly import make_plan
from helixplan.cost.case import Case
from helixplan.engines import posed
from helixplan.engines.engine import KV_DTYPES
from helixplan.export.files import grid
from helixplan.export.launch import read_launch
from helixplan.export.memory import free_share, utilization_of, weights_and_cache_share
from helixplan.export.spellings import EXPORTS, SPELLINGS
from helixplan.inputs.workload import Request, Workload
from helixplan.nearest import export, nearest_plan
from helixplan.plans import Plan
from helixplan.replay import case_of
from helixplan.search.optimum import find_optimum
from tests.conftest import ROOT, Main, Run, changed, deepseek_config, llama_config
from tests.strategies import contexts, models, systems

ENGINES = sorted(SPELLINGS)


def written(folder: Path, plan: Plan, case: Case, engine: str) -> dict[str, str]:
    """The files of an export, in a folder that holds nothing else."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    files = export(plan, case, engine)
    for name, text in files.items():
        (folder / name).write_text(text)
    return files


def planned(case: Case, request: Request) -> Plan | None:
    """What ``hp.plan`` returns, without the reasons where there is nothing to return."""
    found = find_optimum(case, request)
    return None if found is None else make_plan(case, found.layout, found.batch, request, found.proof, found.alternatives)


def gpus_of(deployment: dict[str, Any]) -> int:
    """GPUs that a deployment asks for, component by component, as Kubernetes would count them."""
    total = 0
    for component in deployment["spec"]["components"]:
        main = component["podTemplate"]["spec"]["containers"][0]
        asked = int(main.get("resources", {}).get("limits", {}).get("nvidia.com/gpu", 0))
        total += asked * component["replicas"] * component.get("multinode", {}).get("nodeCount", 1)
    return total


@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_planned_for_an_engine_is_read_back_from_its_files(engine: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp(engine)
    seen = []

    @settings(max_examples=80)
    @given(
        model=models(),
        hardware=systems(),
        context=contexts(),
        kv=st.sampled_from(["bf16", "fp8", "nvfp4"]),
        block=st.sampled_from([1, 16, 32]),
        batch=st.none() | st.integers(1, 60),
        pins=st.sampled_from([{}, {"kvp": 2}, {"kvp": 4}, {"dp": 2}, {"kvp": 2, "pp": 2}, {"kvp": 2, "dp": 2}]),
    )
    def holds(
        model: hp.Model, hardware: hp.Hardware, context: int, kv: str, block: int, batch: int | None, pins: dict[str, int]
    ) -> None:
        work = Workload(context, kv_dtype=kv, kv_block_tokens=block, engine=engine)
        plan = planned(posed(model, hardware, work), Request(batch=batch, pins=pins, family="any"))
        if plan is None:
            return
        case = case_of(plan, model, hardware)
        layout = plan.layout
        for target in (engine, "dynamo"):
            for name, text in written(folder / target, plan, case, target).items():
                read = read_launch(str(folder / target / name), model)
                assert read.engine == engine
                assert grid(read.layout) == grid(layout.layout)
                assert read.kv_dtype == kv
                if layout.kvp > 1:
                    assert read.kv_block_tokens == (1 if engine == "sglang" else block)
                assert read.context_tokens == context
                groups = layout.dp * (layout.pp if engine == "trtllm" else 1)
                assert read.batch == -(-layout.batch // groups) * groups
                seen.append(layout.kvp > 1)
                if name.endswith(".yaml"):
                    data = yaml.safe_load(text)
                    assert target != "dynamo" or gpus_of(data) == layout.gpus
                if engine != "trtllm" and layout.kvp > 1:
                    assert read.exchange_way == plan.collectives.get("attention.exchange", read.exchange_way)

    holds()
    assert any(seen)
    assert not all(seen)


@pytest.mark.parametrize("engine", EXPORTS)
def test_scripts_are_bash_and_files_say_which_plan_they_are_of(
    engine: str, r1: hp.Model, gb200: hp.Hardware, r1_plan: Plan
) -> None:
    for name, text in export(r1_plan, case_of(r1_plan, r1, gb200), engine).items():
        assert f"# model   deepseek-r1, sha256 {r1_plan.model.sha256}\n" in text
        assert f"# system  gb200-nvl72, sha256 {r1_plan.hardware.sha256}\n" in text
        assert "layout  64 GPUs, kvp 8 x tpa 1 x dp 8 | tpf 1 x ep 64 | pp 1, batch 72" in text
        if name.endswith(".sh"):
            subprocess.run(["bash", "-n"], input=text, text=True, check=True)
            assert "MODEL=${MODEL:-deepseek-ai/DeepSeek-R1}" in text


@pytest.mark.parametrize("engine", ENGINES)
def test_a_script_launches_the_engine_with_the_settings_beside_it(
    engine: str, r1: hp.Model, gb200: hp.Hardware, r1_plan: Plan, tmp_path: Path
) -> None:
    written(tmp_path / "out", r1_plan, case_of(r1_plan, r1, gb200), engine)
    (tmp_path / "bin").mkdir()
    for name in ("vllm", "python3", "trtllm-serve"):
        (tmp_path / "bin" / name).write_text('#!/bin/sh\npwd\necho "$0" "$@"\n')
        (tmp_path / "bin" / name).chmod(0o755)
    path = {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"}
    script = ["bash", "out/launch.sh", "--port", "80"]
    done = subprocess.run(script, cwd=tmp_path, env=path, capture_output=True, text=True, check=True)
    folder, words = done.stdout.splitlines()
    assert folder == str(tmp_path / "out")
    assert (tmp_path / "out" / words.split()[-3]).is_file()
    assert words.endswith(" --port 80")
    assert "deepseek-ai/DeepSeek-R1 --" in words
    mine = subprocess.run(script, cwd=tmp_path, env=path | {"MODEL": "my model"}, capture_output=True, text=True, check=True)
    assert " my model " in mine.stdout


def test_every_setting_exported_is_in_the_docs_and_nothing_else_is(r1: hp.Model, gb200: hp.Hardware, r1_plan: Plan) -> None:
    page = (ROOT / "docs" / "engines.md").read_text()
    told = set(re.findall(r"`(?:--)?([a-z][\w.-]+)`", page))
    for engine, spelling in SPELLINGS.items():
        for flag in spelling.flags:
            assert flag.name in told, flag.name
        names = {flag.name for flag in spelling.flags}
        config = next(text for name, text in export(r1_plan, case_of(r1_plan, r1, gb200), engine).items() if name != "launch.sh")
        data = yaml.safe_load(config)
        nested = {f"{key}.{inner}" for key, value in data.items() if isinstance(value, dict) for inner in value}
        assert {key for key, value in data.items() if not isinstance(value, dict)} | nested <= names


def test_tensorrt_llms_file_is_spelled_as_its_documentation_has_it(r1: hp.Model, gb200: hp.Hardware) -> None:
    plan = hp.plan(r1, gb200, context_tokens=1_000_000, pins={"kvp": 32, "dp": 1, "pp": 1, "ep": 4}, batch=8, engine="trtllm")
    data = yaml.safe_load(export(plan, case_of(plan, r1, gb200), "trtllm")["extra_llm_api_options.yaml"])
    assert {name: data[name] for name in ("tensor_parallel_size", "context_parallel_size")} == {
        "tensor_parallel_size": 1,
        "context_parallel_size": 32,
    }
    assert (data["moe_tensor_parallel_size"], data["moe_expert_parallel_size"], data["enable_attention_dp"]) == (8, 4, False)
    assert data["cp_config"] == {"cp_type": "HELIX", "tokens_per_block": 32, "use_nccl_for_alltoall": False, "fifo_version": 2}
    assert data["kv_cache_config"]["tokens_per_block"] == 32
    assert data["max_batch_size"] == 8


def test_limits_are_in_the_unit_that_each_engine_counts(r1: hp.Model, gb200: hp.Hardware) -> None:
    asked: dict[str, Any] = {"context_tokens": 100_000, "batch": 72, "pins": {"dp": 4, "kvp": 4, "pp": 2}}
    limits = {}
    for engine, name in (("vllm", "max-num-seqs"), ("sglang", "max-running-requests"), ("trtllm", "max_batch_size")):
        plan = hp.plan(r1, gb200, engine=engine, **asked)
        config = next(iter(export(plan, case_of(plan, r1, gb200), engine).values()))
        limits[engine] = yaml.safe_load(config)[name]
    assert limits == {"vllm": 72 // 4, "sglang": 72, "trtllm": 72 // 4 // 2}


def test_engines_own_share_of_memory_comes_back_to_the_plans(r1_plan: Plan) -> None:
    memory, utilization = r1_plan.memory, r1_plan.workload.memory_utilization
    capacity = memory.limit_bytes / utilization
    shares = {"sglang": weights_and_cache_share(memory, utilization), "trtllm": free_share(memory, utilization), "vllm": 0.9}
    for engine, share in shares.items():
        assert utilization_of(engine, share, memory, capacity) == pytest.approx(utilization, abs=2e-4)
    assert shares["sglang"] == pytest.approx(0.9 - (memory.workspace_bytes + memory.buffers_bytes) / capacity, abs=1e-4)
    assert shares["trtllm"] < 0.9


def test_the_routers_block_is_the_engines_times_kvp(r1: hp.Model, gb200: hp.Hardware, r1_plan: Plan) -> None:
    case = case_of(r1_plan, r1, gb200)
    for backend, block in (("trtllm", 32), ("vllm", 64), ("sglang", 64)):
        data = yaml.safe_load(export(r1_plan, case, "dynamo", backend)["deployment.yaml"])
        words = data["spec"]["components"][0]["podTemplate"]["spec"]["containers"][0]["args"]
        assert words[words.index("--kv-cache-block-size") + 1] == str(block * 8)
        assert data["spec"]["backendFramework"] == backend
        assert data["apiVersion"] == "nvidia.com/v1beta1"


@pytest.mark.parametrize(("a_node", "nodes", "each"), [(None, 16, "4"), (8, 8, "8"), (64, None, "64"), (32, 2, "32")])
def test_a_deployment_asks_for_the_plans_gpus_once(
    a_node: int | None, nodes: int | None, each: str, r1: hp.Model, gb200: hp.Hardware, r1_plan: Plan
) -> None:
    data = yaml.safe_load(export(r1_plan, case_of(r1_plan, r1, gb200), "dynamo", None, a_node)["deployment.yaml"])
    worker = data["spec"]["components"][1]
    assert worker["podTemplate"]["spec"]["containers"][0]["resources"]["limits"] == {"nvidia.com/gpu": each}
    assert worker.get("multinode") == (None if nodes is None else {"nodeCount": nodes})
    assert gpus_of(data) == 64


@pytest.mark.parametrize(
    ("engine", "layout", "said"),
    [
        ("vllm", hp.Layout(1, 4, 1, 8, dp=2), ["8 GPUs are 2 nodes of 4", "--data-parallel-start-rank"]),
        ("vllm", hp.Layout(2, 8, 16, 1), ["16 GPUs are 4 nodes of 4", "--nnodes, --node-rank and --master-addr"]),
        ("sglang", hp.Layout(1, 6, 1, 6), ["6 GPUs are 2 nodes of 4", "--dist-init-addr"]),
        ("trtllm", hp.Layout(1, 8, 8, 1), ["trtllm-llmapi-launch"]),
        ("vllm", hp.Layout(1, 4, 1, 4), []),
        ("dynamo", hp.Layout(1, 8, 8, 1), []),
    ],
)
def test_files_launched_by_hand_say_how_over_several_nodes(
    engine: str, layout: hp.Layout, said: list[str], gb200: hp.Hardware
) -> None:
    model = hp.load_model(deepseek_config(num_attention_heads=24, n_routed_experts=24))
    if layout.kvp > 1:
        model = hp.load_model(llama_config(num_attention_heads=16, num_key_value_heads=8))
    plan = hp.estimate(model, gb200, layout, context_tokens=10_000, batch=8)
    text = "".join(export(plan, case_of(plan, model, gb200), engine).values())
    assert (" nodes of " in text) == bool(said)
    for part in said:
        assert part in text


def test_nodes_that_the_plan_does_not_fill_are_refused(r1: hp.Model, gb200: hp.Hardware, r1_plan: Plan) -> None:
    with pytest.raises(hp.InputError, match="--gpus-per-node: got 48, which does not divide the plan's 64 GPUs"):
        export(r1_plan, case_of(r1_plan, r1, gb200), "dynamo", None, 48)


@pytest.fixture(scope="module")
def beyond_vllm(llama: hp.Model, gb200: hp.Hardware) -> Plan:
    """KVP over a TPA below the KV heads, which only TensorRT-LLM runs."""
    return hp.plan(llama, gb200, context_tokens=1_000_000, pins={"tpa": 4, "kvp": 16}, weight_dtype="nvfp4", ttl_s=0.05)


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_a_layout_the_engine_cannot_run_gives_the_reason_and_a_plan_that_exports(
    engine: str, llama: hp.Model, gb200: hp.Hardware
) -> None:
    plan = hp.estimate(llama, gb200, hp.Layout(16, 4, 64, 1), context_tokens=1_000_000, batch=1)
    case = case_of(plan, llama, gb200)
    with pytest.raises(hp.NotExpressibleError, match=r"KV heads.*; the nearest plan that .* can: 64 GPUs, .*--engine") as refused:
        export(plan, case, engine)
    assert refused.value.nearest is not None
    nearest = nearest_plan(plan, case, engine)
    assert nearest is not None
    assert (nearest.layout.gpus, nearest.layout.batch) == (64, 1)
    assert export(nearest, case_of(nearest, llama, gb200), engine)


def test_the_nearest_plans_command_makes_that_plan(beyond_vllm: Plan, tmp_path: Path, main: Main) -> None:
    (tmp_path / "plan.json").write_text(changed(beyond_vllm.to_json(), "workload/pins", {}))
    code, out, err = main("export", str(tmp_path / "plan.json"), "--engine", "vllm")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    command = err.strip().split(", from helixplan ")[1].split()
    made = tmp_path / "nearest.json"
    assert main(*command, "--output", str(made))[0] == 0
    said = re.search(r"can: (.*), TTL", err)
    layout = Plan.from_json(made.read_text()).layout
    assert said is not None
    assert said[1] == f"{layout.gpus} GPUs, {layout.layout}, batch {layout.batch}"
    assert main("export", str(made), "--engine", "vllm")[0] == 0


def test_a_kv_cache_that_an_engine_lacks_is_refused(llama: hp.Model, gb200: hp.Hardware) -> None:
    plan = hp.plan(llama, gb200, context_tokens=100_000, gpus=8, kv_dtype="fp4")
    case = case_of(plan, llama, gb200)
    for engine in ENGINES:
        said = f"the KV cache must be in one of .* \\({engine}-kv-dtype\\); the nearest plan that .* can: 8 GPUs, .* --kv nvfp4 "
        with pytest.raises(hp.NotExpressibleError, match=said):
            export(plan, case, engine)
        nearest = nearest_plan(plan, case, engine)
        assert nearest is not None
        assert export(nearest, case_of(nearest, llama, gb200), engine)
    with pytest.raises(hp.NotExpressibleError, match=r"Dynamo cannot run this layout: none of its backends can: TensorRT-LLM: "):
        export(plan, case, "dynamo")


def test_the_nearest_plan_of_a_family_that_an_engine_lacks_is_of_another(llama: hp.Model, gb200: hp.Hardware) -> None:
    plan = hp.plan(llama, gb200, context_tokens=1_000_000, batch=16, family="medha", objective="interactivity")
    case = case_of(plan, llama, gb200)
    with pytest.raises(hp.NotExpressibleError, match=r"\(trtllm-ffn-on-the-stage\); the nearest plan .* --family any") as refused:
        export(plan, case, "trtllm")
    nearest = nearest_plan(plan, case, "trtllm")
    assert nearest is not None
    assert str(nearest.layout.layout) in str(refused.value)
    assert export(nearest, case_of(nearest, llama, gb200), "trtllm")


def test_every_dtype_that_an_engine_keeps_has_a_name_in_its_files() -> None:
    for engine, spelling in SPELLINGS.items():
        assert tuple(spelling.kv_dtypes) == KV_DTYPES, engine


def test_export_writes_all_files_or_none_and_none_over_others(r1_plan: Plan, tmp_path: Path, main: Main) -> None:
    plan, folder = tmp_path / "plan.json", tmp_path / "out"
    plan.write_text(r1_plan.to_json())
    assert main("export", str(plan), "--engine", "vllm", "--output", str(folder))[:2] == (0, "")
    assert sorted(path.name for path in folder.iterdir()) == ["config.yaml", "launch.sh"]
    (folder / "config.yaml").unlink()
    (folder / "launch.sh").write_text("mine")
    code, _, err = main("export", str(plan), "--engine", "vllm", "--output", str(folder))
    assert code == 2
    assert "launch.sh: --output: exists already; add --force" in err
    assert [path.name for path in folder.iterdir()] == ["launch.sh"]
    assert main("export", str(plan), "--engine", "vllm", "--output", str(folder), "--force")[0] == 0
    assert "vllm serve" in (folder / "launch.sh").read_text()
    assert main("export", str(plan), "--engine", "vllm", "--output", str(plan))[0] == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--engine", "vlm"), "--engine: got 'vlm' (did you mean 'vllm'?); allowed: trtllm, vllm, sglang, dynamo"),
        (("--engine", "vllm", "--backend", "vllm"), "--backend: is for --engine dynamo alone"),
        (("--engine", "dynamo", "--backend", "none"), "--backend: got 'none'"),
        (("--engine", "dynamo", "--gpus-per-node", "0"), "--gpus-per-node: got 0, but it must be a whole number from 1 to 1,024"),
        (("--engine", "trtllm", "--model", "llama-3.1-70b"), "model.sha256: the plan was made for another"),
    ],
)
def test_export_refuses_in_one_sentence(arguments: tuple[str, ...], said: str, r1_plan: Plan, tmp_path: Path, main: Main) -> None:
    (tmp_path / "plan.json").write_text(r1_plan.to_json())
    code, out, err = main("export", str(tmp_path / "plan.json"), *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err


def test_what_is_printed_names_each_file(cli: Run, r1_plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(r1_plan.to_json())
    done = cli("export", "plan.json", "--engine", "sglang")
    assert re.findall(r"^# ----- (.*)$", done.stdout, re.M) == ["config.yaml", "launch.sh"]
    assert "SGLang deals tokens to KVP ranks one by one, where the plan has blocks of 32" in done.stdout
