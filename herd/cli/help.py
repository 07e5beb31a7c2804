"""What ``--help`` shows besides Typer's own: the verbs in groups, and a stage's settings with their defaults.

A configuration is imported when the help of its verb is asked for, so that ``herd --help`` answers at once.
"""

from typing import Any

from typer.core import TyperCommand, TyperGroup

SETTINGS = {
    "pages": "corpus.sources:HtmlSource",
    "curate": "corpus.curate:CurateConfig",
    "tasks": "tasks.build:TasksConfig",
    "index": "tools.search:SearchConfig",
    "withhold": "corpus.decontaminate:DecontaminateConfig",
    "decontaminate": "corpus.decontaminate:DecontaminateConfig",
    "topics": "corpus.topics:TopicsConfig",
    "mix": "corpus.weigh:WeighConfig",
    "blocklist": "corpus.blocklist:LearnConfig",
    "exact_dedup": "corpus.substrings:SubstringConfig",
    "take_down": "corpus.removal:TakeDownConfig",
    "export": "corpus.removal:ExportConfig",
    "common_crawl": "corpus.fetch:CommonCrawlConfig",
    "label": "corpus.label:LabelConfig",
    "train": "corpus.labelled_quality:LabelledQualityConfig",
    "tokenizer": "tokenizer.bpe:TokenizerConfig",
    "extend": "tokenizer.extend:ExtendConfig",
    "tokenize": "train.shards:TokenizeConfig",
    "pretrain": "train.stages:PretrainConfig",
    "judge_data": "pipeline.data_judging:JudgeDataConfig",
    "scale_run": "pipeline.isoflop_runs:ScaleConfig",
    "dialogues": "align.synthesis:SynthesisConfig",
    "sft": "align.sft:SftConfig",
    "preferences": "align.preferences:PreferencesConfig",
    "reward": "align.reward:RewardConfig",
    "sample": "align.sampling:RejectionConfig",
    "dpo": "align.dpo:DpoConfig",
    "average": "align.average:AverageModelsConfig",
    "guard": "guard.train:GuardConfig",
    "evaluate": "evaluate.stage:EvaluateConfig",
}
"""The configuration of every verb that has one, below ``herd``, by the name of its function."""
_GIVEN = {
    "pages": ("paths", "kind"),
    "take_down": ("ids", "urls", "domains", "sources", "licenses"),
    "export": ("licenses",),
    "common_crawl": ("snapshot", "segments", "files"),
    "label": ("endpoint", "model", "documents"),
}
"""Settings for which a verb has arguments and options of its own."""


class Verbs(TyperGroup):
    """A group whose help lists its verbs by the panels that they were given."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Writes one section a panel, in the order in which the panels first come."""
        found = [(name, command) for name in self.list_commands(ctx) if (command := self.get_command(ctx, name))]
        width = max(len(name) for name, _ in found)
        panels: dict[str, list[tuple[str, str]]] = {}
        for name, command in found:
            panel = getattr(command, "rich_help_panel", None)
            title = panel if isinstance(panel, str) else "Commands"
            short = command.get_short_help_str(formatter.width - width - 6)
            panels.setdefault(title, []).append((name.ljust(width), short))
        for title, rows in panels.items():
            with formatter.section(title):
                formatter.write_dl(rows)


class Verb(TyperCommand):
    """A verb whose help ends with the settings of its stage."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Writes the settings, those left out that the verb has options for."""
        super().format_epilog(ctx, formatter)
        verb = getattr(self.callback, "__name__", "")
        if verb not in SETTINGS:
            return
        from herd.cli.settings import describe, settings_of

        rows = [row for key, row in describe(settings_of(SETTINGS[verb])) if key not in _GIVEN.get(verb, ())]
        with formatter.section("Settings and their defaults, … must be given"):
            formatter.write_dl(rows)
