"""Herd raises a family of Llama-3-style language models, from raw pages to a guarded, served assistant.

The rooms follow the flow of the work (see ``docs/architecture.md``); the command line is ``herd.cli``.
"""

__version__ = "0.1.0"
