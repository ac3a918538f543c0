"""Launches as people write them are read into layouts, scored, and told what to change."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import helixplan as hp
from helixplan.advice import Advice, advise, pose_launch
from helixplan.cost.case import ALL_TO_ALL, GATHERED_ALL_TO_ALL, GATHERED_REDUCE_SCATTER
from helixplan.evaluation import evaluate
from helixplan.export.files import grid
from helixplan.export.launch import read_launch
from helixplan.export.spelling import Launch
from helixplan.inputs.workload import Request, Workload
from tests.conftest import Main, deepseek_config, llama_config

MLA = hp.load_model(deepseek_config(num_attention_heads=32, n_routed_experts=64))
GQA = hp.load_model(llama_config(num_attention_heads=32, num_key_value_heads=4))

VLLM = "vllm serve some/model -tp 8 -dcp 4 -pp 2 -dp 2 -ep --max-num-seqs 16 --kv-cache-dtype fp8"
VLLM_SPELLINGS = [
    VLLM,
    "vllm serve some/model -tp=8 -dcp=4 -pp=2 -dp=2 -ep --max-num-seqs=16 --kv-cache-dtype=fp8_e4m3",
    "vllm serve --model some/model --tensor-parallel-size 8 --decode-context-parallel-size=4 --pipeline_parallel_size 2 "
    "--data-parallel-size '2' --enable-expert-parallel --max-num-seqs 16 --kv-cache-dtype fp8 --trust-remote-code --port 8000",
    "CUDA_VISIBLE_DEVICES=0,1 VLLM_USE_V1=1 exec /opt/venv/bin/vllm serve some/model \\\n  -tp 8 \\\n  -dcp 4 -pp 2 \\\n"
    "  -dp 2 --enable-expert-parallel --max-num-seqs 16 --kv-cache-dtype fp8",
    "python3 -m vllm.entrypoints.openai.api_server --model some/model -tp 8 -dcp 4 -pp 2 -dp 2 -ep --max-num-seqs 16 "
    "--kv-cache-dtype fp8",
    'export TP=8\nDCP="4"\nvllm serve "$MODEL" -tp $TP -dcp ${DCP} -pp ${PP:-2} -dp 2 -ep --max-num-seqs 16 '
    "--kv-cache-dtype fp8 &",
    "cd /srv && vllm serve some/model -tp 8 -dcp 4 -pp 2 -dp 2 -ep --no-enable-prefix-caching --max-num-seqs 16 "
    '--kv-cache-dtype fp8 --speculative-config \'{"method": "mtp"}\' | tee log',
    "docker run --rm --gpus all -v ~/.cache:/root/.cache -p 8000:8000 --ipc=host vllm/vllm-openai:v0.19.0 --model some/model "
    "-tp 8 -dcp 4 -pp 2 -dp 2 -ep --max-num-seqs 16 --kv-cache-dtype fp8",
    "podman run registry.local:5000/mirror/vllm-openai@sha256:0a1b bash -l -ec 'set -e; vllm serve some/model -tp 8 -dcp 4 -pp 2 "
    "-dp 2 -ep --max-num-seqs 16 --kv-cache-dtype fp8'",
    "vllm serve m -tp 8 -dcp 4 -pp 2 -dp 2 --no-enable-expert-parallel=x --max-num-seqs 16 --kv-cache-dtype fp8".replace(
        "--no-enable-expert-parallel=x", "-ep -tp 8"
    ),
    VLLM.replace(" -tp", " \\\r\n  -tp").replace(" -pp", " \\\r\n  -pp") + "\r\n",
    VLLM.replace("some/model", "some/model --api-key a#b") + " # don't say -tp 4\ncurl localhost -s",
    "cd /srv # here\nexport TP=8  # eight\n" + VLLM.replace("-tp 8", "-tp $TP"),
    'ARGS="-tp 8 -dcp 4 -pp 2"\nvllm serve some/model $ARGS -dp 2 -ep --max-num-seqs 16 --kv-cache-dtype fp8 "$@"',
    VLLM + " -dpl 1 -dpr 0 -dpa 10.0.0.1 -dpp 13345 -dpb mp --max-model-len 128k",
]


@pytest.mark.parametrize("text", VLLM_SPELLINGS)
def test_one_launch_has_many_spellings(text: str) -> None:
    read = read_launch(text, MLA)
    assert read.layout == hp.Layout(kvp=4, tpa=2, tpf=1, ep=16, dp=2, pp=2)
    assert (read.engine, read.kv_dtype, read.batch, read.kv_block_tokens) == ("vllm", "fp8", 32, 1)


@pytest.mark.parametrize(
    ("text", "layout", "batch"),
    [
        ("vllm serve m", hp.Layout(1, 1, 1, 1), None),
        ("vllm serve m -tp 8 -dcp 2", hp.Layout(2, 4, 8, 1), None),
        ("python -m sglang.launch_server --model-path m", hp.Layout(1, 1, 1, 1), None),
        ("python3 -m sglang.launch_server --model-path m --tp 8 --dcp-size 8 --ep-size 4", hp.Layout(8, 1, 2, 4), None),
        (
            "sglang serve m --tp-size 16 --dp 4 --enable-dp-attention --decode-context-parallel-size 2 --max-running-requests 40",
            hp.Layout(2, 2, 16, 1, 4),
            40,
        ),
        ("python3 -m sglang.launch_server --tp 8 --moe-a2a-backend deepep", hp.Layout(1, 8, 1, 8), None),
        ("python3 -m sglang.launch_server --tp 8 --moe-a2a-backend megamoe --dwdp-size 1", hp.Layout(1, 8, 1, 8), None),
        ("trtllm-serve m --tp_size 8 --max_batch_size 3", hp.Layout(1, 8, 8, 1), 3),
        ("trtllm-llmapi-launch trtllm-serve serve m --tp_size 4 --pp_size 2 --ep_size 2", hp.Layout(1, 4, 2, 2, 1, 2), None),
        ("python3 -m dynamo.vllm --model m -tp 4 --disaggregation-mode decode", hp.Layout(1, 4, 4, 1), None),
        ("python3 -m dynamo.trtllm --trtllm.tensor_parallel_size 4 --expert-parallel-size=4", hp.Layout(1, 4, 1, 4), None),
        (
            'python3 -m dynamo.trtllm --override-engine-args \'{"tensor_parallel_size": 2, "max_batch_size": 3}\' '
            "--enable-attention-dp",
            hp.Layout(1, 1, 2, 1, 2),
            6,
        ),
    ],
)
def test_defaults_are_the_engines(text: str, layout: hp.Layout, batch: int | None) -> None:
    read = read_launch(text, MLA)
    assert (read.layout, read.batch) == (layout, batch)
    assert read.kv_dtype == "bf16"


@pytest.mark.parametrize(
    ("flags", "way"),
    [
        ("", GATHERED_REDUCE_SCATTER),
        ("--dcp-comm-backend a2a", GATHERED_ALL_TO_ALL),
        ("--dcp-comm-backend a2a --dcp-q-replicate", ALL_TO_ALL),
        ("--dcp-comm-backend ag_rs --no-dcp-q-replicate", GATHERED_REDUCE_SCATTER),
    ],
)
def test_the_exchange_is_the_one_the_flags_make(flags: str, way: str) -> None:
    assert read_launch(f"vllm serve m -tp 8 -dcp 8 {flags}", MLA).exchange_way == way


@pytest.mark.parametrize(
    ("given", "tokens"),
    [("131072", 131_072), ("128k", 128_000), ("128K", 131_072), ("25.6k", 25_600), ("1M", 2**20), ("auto", None), ("-1", None)],
)
def test_vllms_context_is_read_as_vllm_reads_it(given: str, tokens: int | None) -> None:
    assert read_launch(f"vllm serve m --max-model-len {given}", MLA).context_tokens == tokens
    assert read_launch(f"vllm serve m --max-model-len={given}", MLA).context_tokens == tokens


def test_a_dense_models_ranks_have_no_experts() -> None:
    assert read_launch("vllm serve m -tp 8 --enable-expert-parallel", GQA).layout == hp.Layout(1, 8, 8, 1)


TRT = "tensor_parallel_size: 1\ncontext_parallel_size: 32\nmoe_tensor_parallel_size: 8\nmoe_expert_parallel_size: 4\n"
HELIX = "cp_config: {cp_type: HELIX, tokens_per_block: 32}\nkv_cache_config: {tokens_per_block: 32, dtype: fp8}\n"


def test_a_tensorrt_llm_file_is_read_as_its_documentation_writes_it(tmp_path: Path) -> None:
    (tmp_path / "options.yaml").write_text(TRT + HELIX)
    read = read_launch(str(tmp_path / "options.yaml"), MLA)
    assert read.layout == hp.Layout(32, 1, 8, 4)
    assert (read.engine, read.kv_dtype, read.kv_block_tokens) == ("trtllm", "fp8", 32)


def test_a_file_beside_the_words_counts_as_the_engine_counts_it(tmp_path: Path) -> None:
    (tmp_path / "options.yaml").write_text("tensor_parallel_size: 4\n")
    (tmp_path / "config.yaml").write_text("tensor-parallel-size: 4\ndecode-context-parallel-size: 2\n")
    (tmp_path / "trt.sh").write_text("trtllm-serve m --tp_size 8 --extra_llm_api_options options.yaml\n")
    (tmp_path / "vllm.sh").write_text("vllm serve m -tp 8 --config config.yaml  # eight\n")
    assert read_launch(str(tmp_path / "trt.sh"), MLA).layout == hp.Layout(1, 4, 4, 1)
    assert read_launch(str(tmp_path / "vllm.sh"), MLA).layout == hp.Layout(2, 4, 8, 1)


@settings(max_examples=150)
@given(st.randoms(use_true_random=False), st.sampled_from([1, 2, 4, 8]), st.sampled_from([1, 2]), st.booleans())
def test_the_order_of_flags_does_not_matter(shuffle: random.Random, dcp: int, pp: int, spread: bool) -> None:
    flags = [("-tp", "8"), ("-dcp", str(dcp)), ("--pipeline-parallel-size", str(pp)), ("--port", "80"), ("--max-num-seqs", "7")]
    flags += [("--enable-expert-parallel",)] if spread else []
    shuffle.shuffle(flags)
    text = "vllm serve m " + " ".join(word for flag in flags for word in flag)
    assert read_launch(text, MLA).layout == hp.Layout(dcp, 8 // dcp, *((1, 8) if spread else (8, 1)), 1, pp)


REFUSED = {
    "vllm serve m -tp 0": "-tp: got 0, but it must be a whole number from 1 to 4,096",
    "vllm serve m -tp -8": "-tp: got -8, but",
    "vllm serve m -tp 1.5": "-tp: got '1.5', but",
    "vllm serve m -tp 8 -dcp 3": "-dcp: got 3, which does not divide --tensor-parallel-size 8",
    "vllm serve m -tp8": "'-tp8': vLLM takes -tp with a space after it",
    "vllm serve m -tp 8 --helix-mode": "'--helix-mode': vLLM has no such option (any more)",
    "vllm serve m -tp 4096 -dp 4096 -pp 4096": "the launch's GPUs: got 68719476736, but it must be a whole number",
    "vllm serve m -tp": "-tp: needs a value",
    "vllm serve m -tp 8 --tensor-parallel-size 4": "--tensor-parallel-size: is 4, but -tp said 8 before",
    "vllm serve m --tp 8": "'--tp': vLLM has no such option (did you mean '-tp'?)",
    "vllm serve m --tensor-paralel-size 8": "(did you mean '--tensor-parallel-size'?)",
    "vllm serve m -tp 8 --dcp-kv-cache-interleave-size 4": "(did you mean '--cp-kv-cache-interleave-size'?)",
    "vllm serve m -tp $TP": "-tp: got '$TP', which the launch does not set",
    "vllm serve m -tp 8 -pcp 2": "-pcp: got 2, but helixplan lays out decoding",
    "vllm serve m --kv-cache-dtype fp9": "--kv-cache-dtype: got 'fp9' (did you mean 'fp8'",
    "vllm serve m --gpu-memory-utilization 9": "--gpu-memory-utilization: got 9.0, but",
    "vllm serve m -tp 8 -dcp 8 --block-size 16 --cp-kv-cache-interleave-size 32": "which does not divide --block-size 16",
    "python -m sglang.launch_server --tp 8 --dp 3 --enable-dp-attention": "--dp: got 3, which does not divide --tp-size 8",
    "python -m sglang.launch_server --tp 8 --dp 2": "--dp: got 2, but without --enable-dp-attention replicas share nothing",
    "python -m sglang.launch_server --tp 8 --ep 3": "--ep: got 3, which does not divide --tp-size 8",
    "python -m sglang.launch_server --tp 8 --moe-dp-size 2": "--moe-dp-size: got 2, but helixplan's layouts have no such split",
    "trtllm-serve m --tp_size 8 --ep_size 3": "--ep_size: got 3, but moe_tensor_parallel_size x moe_expert_parallel_size",
    "trtllm-serve m --tp_size 1 --cp_size 8": "cp_config.cp_type: is missing",
    "vllm serve m --max-model-len 1.5K": "--max-model-len: got '1.5K', but",
    "python -m sglang.launch_server --tp 8 --context-length 128k": "--context-length: got '128k', but",
    "python -m sglang.launch_server --tp 8 --enable-ep-moe": "has no such option (any more; it is --ep-size now)",
    "python -m sglang.launch_server --tp 8 --enable-deepep-moe": "(any more; it is --moe-a2a-backend deepep now)",
    "python -m sglang.launch_server --tp 8 --dwdp-size 8": "--dwdp-size: got 8, but helixplan's layouts have no such split",
    "trtllm-serve disaggregated -c disagg.yaml": "got 'trtllm-serve disaggregated', which has no ranks",
    "vllm serve m \N{EN DASH}tp 8": "'\N{EN DASH}tp': begins with \N{EN DASH}, a dash of print",
    "vllm serve m\n  -tp 8": "got a line that begins with '-tp'; end the one before it with \\ alone",
    "vllm serve m \\ \n  -tp 8 \\ \n": "got a line that begins with '-tp'",
    "vllm serve m \\\n  # -pp 2 \\\n  -tp 8": "got a line that begins with '-tp'",
    'ARGS=(\n  -tp 8\n)\nvllm serve m "${ARGS[@]}"': "got '${ARGS[@]}', an array",
    "vllm serve m -tp 8  # decode\nvllm serve m -pp 2  # decode too": "holds 2 launches",
    "vllm serve m 'open": "cannot be read as a command: no closing quotation",
    "echo hello": "in which no engine is launched",
    "vllm serve m; vllm serve n": "holds 2 launches",
    "": "is empty",
    "missing.yaml": "missing.yaml: cannot be read",
    "vllm serve m " + "-x " * 40_000: "has more than 64,000 characters",
}


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: text[:60])
def test_contradictions_and_wrong_values_are_refused_by_name(text: str) -> None:
    with pytest.raises(hp.InputError) as refused:
        read_launch(text, MLA)
    assert REFUSED[text] in str(refused.value)
    assert "\n" not in str(refused.value)


def test_replicas_of_a_dense_model_are_refused() -> None:
    with pytest.raises(hp.InputError, match="a dense model, share nothing"):
        read_launch("vllm serve m -tp 2 -dp 2", GQA)


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefghij", "bcdefghijk", strict=True)
)
HOSTILE: dict[str, str | bytes] = {
    "bomb.yaml": BOMB + "tensor_parallel_size: *k\n",
    "deep.yaml": "tensor_parallel_size: " + "[" * 30_000,
    "twice.yaml": "tensor_parallel_size: 8\ntensor_parallel_size: 4\n",
    "junk.yaml": bytes(range(256)) * 100,
    "control.yaml": "\x00\x01\x02: [",
    "large.yaml": "a: 1\n" * 250_000,
    "long.yaml": "tensor_parallel_size: " + "9" * 60_000,
    "tagged.yaml": "tensor_parallel_size: !!python/object/apply:os.system [ls]\n",
    "list.yaml": "- tensor_parallel_size\n",
    "empty.yaml": "",
    "negative.yaml": "tensor_parallel_size: -8\n",
    "text.yaml": "tensor_parallel_size: eight\n",
    "truth.yaml": "tensor_parallel_size: true\n",
    "tree.yaml": "tensor_parallel_size: {a: 1}\nmoe_tensor_parallel_size: [1]\n",
    "blocks.yaml": TRT + HELIX.replace("tokens_per_block: 32, dtype", "tokens_per_block: 64, dtype"),
    "star.yaml": TRT + "cp_config: {cp_type: STAR}\n",
    "nothing.yaml": "hello: world\n",
    "graph.yaml": "kind: DynamoGraphDeployment\nspec: {components: 7}\n",
    "graphs.yaml": "kind: DynamoGraphDeployment\nspec: {components: [7, {podTemplate: []}, "
    "{podTemplate: {spec: {containers: [1]}}}]}\n",
    "junk.sh": bytes(random.Random(0).randbytes(5_000)),
    "quotes.sh": "vllm serve 'm \"\n",
    "large.sh": "x" * 1_000_000,
    "variables.sh": "A0=xxxxxxxx\n" + "".join(f"A{i + 1}=$A{i}$A{i}\n" for i in range(25)) + "vllm serve m -tp 8\n",
    "words.sh": f"A='{'- ' * 15_000}'\nvllm serve m {'$A ' * 8_000}\n",
    "wide.sh": "vllm serve m --kv-cache-dtype " + "z" * 60_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_in_a_sentence_and_a_moment(name: str, tmp_path: Path) -> None:
    content = HOSTILE[name]
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    start = time.perf_counter()
    with pytest.raises(hp.InputError) as refused:
        read_launch(str(tmp_path / name), MLA)
    assert time.perf_counter() - start < 1
    assert name in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 500


@settings(max_examples=300)
@given(
    st.text(max_size=200)
    | st.lists(st.sampled_from(["vllm", "serve", "-tp", "8", "=", "'", '"', "$", "\\", "\n", "-dcp", "-"])).map(" ".join)
)
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        said = read_launch(text, MLA).engine
    except hp.InputError as error:
        said = str(error)
    assert said
    assert "\n" not in said


def advised(
    text: str, model: hp.Model, hardware: hp.Hardware, context: int, **request: int | float | str
) -> tuple[Launch, Advice]:
    launch = read_launch(text, model)
    case = pose_launch(model, hardware, launch, Workload(context))
    return launch, advise(case, launch, Request(**{"family": "any", **request}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "vllm serve m -tp 8 -dcp 2 --kv-cache-dtype fp8",
        "vllm serve m -tp 8 -dcp 8 -dp 2 --max-num-seqs 4",
        "python -m sglang.launch_server --tp 16 --dcp-size 4 --dp 2 --enable-dp-attention --mem-fraction-static 0.8",
        "python -m sglang.launch_server --tp 16 --ep 8 --dp 16 --enable-dp-attention --max-running-requests 8",
        "trtllm-serve m --tp_size 8 --max_batch_size 2 --kv_cache_free_gpu_memory_fraction 0.5",
    ],
)
def test_the_new_launch_is_the_engines_best_and_has_nothing_left_to_change(
    text: str, r1: hp.Model, gb200: hp.Hardware, tmp_path: Path
) -> None:
    launch, found = advised(text, r1, gb200, 200_000)
    best, free = found.engine_best, found.free_best
    assert best is not None
    assert free is not None
    assert best.speedup == found.running.ttl_s / best.ttl_s
    assert best.layout.gpus == free.layout.gpus == found.running.layout.gpus == launch.layout.gpus
    assert best.layout.batch == free.layout.batch == found.running.layout.batch
    assert best.speedup >= 1 - 1e-9 or found.broken_rules
    assert found.new_launch is not None
    again = found.new_launch
    if launch.engine == "trtllm":
        (tmp_path / "new.yaml").write_text(again)
        again = str(tmp_path / "new.yaml")
    then, after = advised(again, r1, gb200, 200_000, batch=found.running.layout.batch)
    assert grid(then.layout) == grid(best.layout.layout)
    assert after.changes == []
    assert after.running.ttl_s == pytest.approx(best.ttl_s, rel=1e-9)
    assert after.workload.memory_utilization == pytest.approx(found.workload.memory_utilization, abs=1e-3)
    assert (found.changes == []) == (grid(launch.layout) == grid(best.layout.layout) and found.running.ttl_s == best.ttl_s)


def test_the_batch_is_asked_for_or_the_launchs_or_the_largest_that_fits(r1: hp.Model, gb200: hp.Hardware) -> None:
    text = "vllm serve m -tp 8 -dcp 8 --kv-cache-dtype fp8"
    _, asked = advised(f"{text} --max-num-seqs 5", r1, gb200, 1_000_000, batch=3)
    _, told = advised(f"{text} --max-num-seqs 5", r1, gb200, 1_000_000)
    launch, largest = advised(text, r1, gb200, 1_000_000)
    assert [(one.running.layout.batch, one.batch_from) for one in (asked, told)] == [(3, "--batch"), (5, "the launch")]
    assert (largest.batch_from, largest.running.layout.batch) == ("the largest that fits", largest.largest_batch)
    case = pose_launch(r1, gb200, launch, Workload(1_000_000))
    assert largest.largest_batch is not None
    fits = [evaluate(case, launch.layout, largest.largest_batch + more).memory.fits for more in (0, 1)]
    assert fits == [True, False]
    _, kept = advised(text, r1, gb200, 1_000_000, ttl_s=0.02)
    assert kept.running.keeps_ttl
    assert kept.largest_batch is not None
    assert kept.largest_batch < largest.largest_batch


def test_a_launch_that_does_not_fit_is_scored_and_said_not_to(main: Main) -> None:
    arguments = ("plan", "deepseek-r1", "gb200-nvl72", "--context", "1M", "--batch", "64", "--from-launch", "vllm serve m -tp 8")
    code, out, _ = main(*arguments, "--format", "markdown")
    assert code == 0
    assert "does not fit" in out
    assert "memory-fits: a GPU would hold " in out
    assert "No layout of 8 GPUs holds this batch." in out


def test_where_not_even_one_fits_no_batch_is_said_to(main: Main) -> None:
    launch = "vllm serve m -tp 4 -dp 2 --kv-cache-dtype fp8"
    code, out, _ = main("plan", "deepseek-r1", "h100-hgx", "--context", "1M", "--from-launch", launch)
    assert code == 0
    assert "2, one for each group (not even one fits)" in out


def test_what_the_engine_refuses_is_named(llama: hp.Model, gb200: hp.Hardware) -> None:
    _, found = advised("vllm serve m -tp 32 -dcp 8 --kv-cache-dtype fp8", llama, gb200, 100_000)
    assert "vllm-dcp-needs-kv-heads" in [rule.rule for rule in found.broken_rules]
    _, wide = advised("vllm serve m -tp 16", llama, gb200, 100_000)
    assert [rule.rule for rule in wide.broken_rules] == ["tpa-within-kv-heads"]


def test_the_document_keeps_its_schema(main: Main) -> None:
    arguments = ("plan", "llama-3.1-70b", "b200-hgx", "--context", "128k", "--from-launch", "vllm serve m -tp 8 --port 1")
    code, out, err = main(*arguments, "--format", "json")
    assert code == 0
    assert "let be, they do not shape the layout: --port" in err
    jsonschema.validate(json.loads(out), json.loads(main("schema", "launch")[1]))
    assert Advice.model_validate_json(out).to_json() == out
    code, page, _ = main(*arguments, "--format", "markdown")
    assert code == 0
    assert "| you run | 1x8x1 | 8x1 | 1 |" in page


def test_the_engines_best_is_written_as_a_plan_that_exports(tmp_path: Path, main: Main) -> None:
    plan = tmp_path / "best.json"
    asked = (
        "plan",
        "deepseek-r1",
        "gb200-nvl72",
        "--context",
        "1M",
        "--from-launch",
        "vllm serve m -tp 8 -dcp 8",
        "--output",
        str(plan),
    )
    code, out, _ = main(*asked, "--format", "json")
    assert code == 0
    best = json.loads(out)["engine_best"]["layout"]
    assert hp.Plan.from_json(plan.read_text()).layout.model_dump() == best
    assert main("export", str(plan), "--engine", "vllm")[0] == 0
    assert main(*asked)[0] == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--gpus", "8"), "--gpus: the launch decides that; leave it out"),
        (("--pin", "kvp=8"), "--pin: the launch decides that; leave it out"),
        (("--objective", "users"), "--objective: the launch decides that; leave it out"),
        (("--engine", "sglang"), "--engine: got 'sglang', but the launch says 'vllm'; leave it out"),
        (("--kv", "fp8"), "--kv: got 'fp8', but the launch says 'bf16'; leave it out"),
        (("--overlap", "hop-b"), "--overlap: got 'hop-b'"),
    ],
)
def test_options_that_a_launch_decides_are_refused(arguments: tuple[str, ...], said: str, main: Main) -> None:
    asked = ("plan", "deepseek-r1", "gb200-nvl72", "--context", "1M", "--from-launch", "vllm serve m -tp 8")
    code, out, err = main(*asked, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err


def test_a_layout_that_splits_heads_is_refused(main: Main) -> None:
    code, out, err = main("plan", "llama-3.1-70b", "b200-hgx", "--context", "1k", "--from-launch", "vllm serve m -tp 7")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "kvp 1 x tpa 7 would split a head" in err
