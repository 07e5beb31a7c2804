"""The guard: a small model of the herd, trained to judge prompts, answers and tool results against a policy.

Public: ``policy`` (categories, the prompt and the verdict of Llama Guard's format), ``data`` (training examples),
``train.train_guard`` (the stage), ``classifier.Guard`` (load and judge), ``code.findings`` (insecure Python).
It is measured by ``herd.evaluate.safety`` on items written by hand that training never sees.
"""
