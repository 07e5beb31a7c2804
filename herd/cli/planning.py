"""The verbs for what comes before a run: ``herd plan | judge-data``.

``plan`` takes a recipe, one training run on accelerators, or the paper's failures replayed.
"""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from herd.cli.options import ConfigFile, Out, Overrides, make, read_settings

_RESTARTS = (60.0, 180.0, 300.0, 600.0, 900.0, 1800.0)
_PAUSES = (0.0, 5.0, 30.0, 60.0, 120.0)


def plan(
    recipe: Annotated[
        str | None, typer.Argument(help="a recipe file, or the name of one that ships with Herd, for example pocket")
    ] = None,
    overrides: Overrides = None,
    model: Annotated[
        str | None, typer.Option(help="plan one training run of this shape, for example llama3.1-8b")
    ] = None,
    machine: Annotated[str, typer.Option(help="a machine that ships with Herd, or a YAML file of yours")] = "h100-80gb",
    gpus: Annotated[int, typer.Option(help="accelerators")] = 8,
    tp: Annotated[int | None, typer.Option(help="tensor-parallel degree; searched unless given")] = None,
    cp: Annotated[int | None, typer.Option(help="context-parallel degree; searched unless given")] = None,
    pp: Annotated[int | None, typer.Option(help="pipeline-parallel degree; searched unless given")] = None,
    dp: Annotated[int | None, typer.Option(help="data-parallel degree (FSDP)")] = None,
    seq: Annotated[int, typer.Option(help="tokens of a sequence")] = 8192,
    local_batch: Annotated[int | None, typer.Option(help="sequences of a data-parallel group in a step")] = None,
    global_batch: Annotated[int | None, typer.Option(help="sequences of a step, all groups together")] = None,
    micro_batch: Annotated[int | None, typer.Option(help="sequences that go through at once")] = None,
    recompute: Annotated[Literal["none", "selective", "full"] | None, typer.Option(help="of activations")] = None,
    precision: Annotated[Literal["bf16", "float8", "fp32"] | None, typer.Option(help="of matrix products")] = None,
    schedule: Annotated[Literal["1f1b", "interleaved"], typer.Option(help="of the pipeline")] = "interleaved",
    chunks: Annotated[int | None, typer.Option(help="chunks of layers of a rank in the interleaved schedule")] = None,
    compiled: Annotated[bool, typer.Option("--compile/--no-compile", help="fused or single operators")] = True,
    async_tp: Annotated[bool, typer.Option("--async-tp", help="overlap tensor-parallel communication")] = False,
    stack: Annotated[
        str | None, typer.Option(help="the software: herd, llama3, torchtitan-2024, torchtitan-2025")
    ] = None,
    tokens: Annotated[float | None, typer.Option(help="tokens of the whole run, for its days and cost")] = None,
    restart: Annotated[float, typer.Option(min=0.0, help="seconds from an interruption to training again")] = 600.0,
    pause: Annotated[float, typer.Option(min=0.0, help="seconds that a checkpoint holds training up")] = 30.0,
    failures: Annotated[
        bool, typer.Option("--failures", help="replay the interruptions of the paper's 54 days")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Say what a recipe or a training run will need and reach.

    A recipe on this machine, or one training run on accelerators, before anything is spent.
    """
    from herd.foundation.errors import HerdError

    if sum((recipe is not None, model is not None, failures)) != 1:
        raise HerdError("give a recipe, or --model with --machine and --gpus, or --failures")
    if recipe is not None:
        _plan_recipe(recipe, overrides or [], as_json)
    elif failures:
        from herd.plan.goodput import describe_grid, replay_grid

        grid = replay_grid(_RESTARTS, _PAUSES)
        print(json.dumps(grid, indent=2) if as_json else describe_grid(grid))
    else:
        from herd.plan.planner import Request, describe_training, plan_training

        report = plan_training(
            Request(
                model=model or "",
                machine=machine,
                gpus=gpus,
                seq=seq,
                local_batch=local_batch,
                global_batch=global_batch,
                tp=tp,
                cp=cp,
                pp=pp,
                dp=dp,
                micro_batch=micro_batch,
                recompute=recompute,
                precision=precision,
                schedule=schedule,
                chunks=chunks,
                compiled=compiled,
                async_tp=async_tp,
                stack=stack,
                tokens=tokens,
                restart=restart,
                pause=pause,
            )
        )
        print(json.dumps(report, indent=2) if as_json else describe_training(report))


def _plan_recipe(recipe: str, overrides: list[str], as_json: bool) -> None:
    from herd.pipeline.planning import describe_plan, plan_file
    from herd.pipeline.recipe import load_recipe

    loaded = load_recipe(recipe, overrides)
    print(json.dumps(plan_file(loaded), indent=2) if as_json else describe_plan(loaded))


def judge_data(
    base: Annotated[Path, typer.Argument(help="a model in the middle of its training: a Hugging Face directory")],
    tokens: Annotated[Path, typer.Argument(help="what herd tokenize made of the default data, held-out ones too")],
    candidate: Annotated[Path, typer.Argument(help="what herd tokenize made of the data set in question")],
    tokenizer: Annotated[Path, typer.Argument(help="the tokenizer that made both")],
    out: Out,
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Judge a small data set by annealing a model with it.

    Once with 30% of it, once without, over several seeds.

    The settings learning_rate and training.tokens must be given.
    """
    from herd.foundation.files import read_json
    from herd.pipeline.data_judging import JudgeDataConfig, as_text
    from herd.pipeline.data_judging import judge_data as stage

    settings = read_settings(JudgeDataConfig, config, overrides)
    inputs = {"base": base, "tokens": tokens, "candidate": candidate, "tokenizer": tokenizer}
    make(
        "judge-data",
        settings,
        inputs,
        out,
        lambda place, progress: stage(settings, base, tokens, candidate, tokenizer, place, progress),
    )
    print(as_text(read_json(out / "judgement.json")))
