"""Alignment: from a base model to an assistant, in rounds (paper, sections 4.1 and 4.2; fact sheet, section 7).

The steps are stages that the pipeline composes; each is a configuration and a function, and writes ``stats.json``:

- ``synthesis``: dialogues made from the corpus and by executing tools, cleaned, decontaminated.
- ``sft``: supervised finetuning on dialogues, loss on what the assistant says.
- ``preferences``: answers of two models to the same prompts, judged by verifiers: edited > chosen > rejected.
- ``reward``: the reward model, trained from the base on those rankings.
- ``sampling``: rejection sampling, K answers a prompt, the reward model's best kept.
- ``dpo``: direct preference optimisation with the paper's two changes.
- ``average``: the mean of several models' weights.
- ``rounds``: what one round reads and in which order, for the pipeline.

``examples`` and ``branches`` turn dialogues and comparisons into batches on the flat axis of tokens.
"""
