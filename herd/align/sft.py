"""Supervised finetuning: cross-entropy on what the assistant says, nothing on what it is told (paper, section 4.1.3).

    sft(SftConfig(), base=base_directory, dialogues=[synthetic, sampled], out=out, progress=progress)

Every dialogue is a document of its own in a packed row. ``out`` becomes a Hugging Face directory.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from herd.align.examples import DialogueSource, encode_dialogues, read_dialogues
from herd.align.fit import FitConfig, finish, fit, gather_team, load_chat, load_transformer
from herd.formats.huggingface import load_config
from herd.foundation.progress import Progress
from herd.train.parallel.launch import Alone
from herd.train.schedule import OptimizerConfig

Dialogue = dict[str, Any]


class SftConfig(FitConfig):
    """Supervised finetuning. The paper's 1e-5 is for 8B and more; models of a few million need two orders above.

    The decay of the weights, which is a share of the rate, is lower by as much.  At such rates AdamW's usual eps of
    1e-8 moves the embeddings of rare tokens, whose gradients are tiny, as far as any other, and the model can no longer
    copy them.
    """

    optimizer: OptimizerConfig = OptimizerConfig(
        learning_rate=1e-3, eps=1e-5, schedule="linear", final_fraction=0.0, warmup_steps=20, weight_decay=0.01
    )
    epochs: int = 2
    tokens_per_step: int = 1024
    tokens: int | None = Field(default=None, gt=0, description="ends the epochs after about so many tokens")
    least_share: float = Field(
        default=0.05, ge=0, le=0.2, description="kinds with a smaller share of the text are read several times"
    )
    most_copies: int = Field(default=8, gt=0, description="of a dialogue in an epoch")


def sft(
    config: SftConfig,
    base: Path,
    dialogues: Sequence[Path],
    out: Path,
    progress: Progress,
    launch: Alone | None = None,
    replicas: int = 1,
) -> None:
    """Finetunes the model in ``base`` on dialogues and writes it and ``stats.json`` to ``out``.

    On several processes all call it; see ``herd.align.fit.gather_team``.
    """
    team = gather_team(launch, replicas, load_config(base))
    model, chat = load_transformer(base), load_chat(base)
    rows = upsampled(list(read_dialogues(dialogues)), config.least_share, config.most_copies)
    examples, dropped = encode_dialogues(chat, rows, config.longest)
    source = DialogueSource(examples, config.tokens_per_step, config.epochs, config.seed, config.tokens, team.processes)
    read = source.read()
    model, report = fit(config, model, source, team.processes.next_token_loss, out, progress, "finetuning", team)
    figures = {
        "dialogues": len(examples),
        "dropped": dropped,
        "tokens": sum(len(example.tokens) for example in read),
        "trained_tokens": sum(example.trained for example in read),
    }
    finish(model, base, out, report, figures, team)


def upsampled(rows: Sequence[Dialogue], least_share: float, most_copies: int) -> list[Dialogue]:
    """The dialogues, those of rare kinds several times, until each kind has its share of the text or its most copies.

    Data of which there is little is read more often, as in the paper's mix (section 4.2.2).
    """
    sizes: Counter[str | None] = Counter()
    for row in rows:
        sizes[row.get("kind")] += sum(len(str(message.get("content") or "")) for message in row["messages"])
    whole = sizes.total()
    copies = {kind: min(max(round(least_share * whole / max(size, 1)), 1), most_copies) for kind, size in sizes.items()}
    return [row for row in rows for _ in range(copies[row.get("kind")])]
