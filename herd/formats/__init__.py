"""Weights on disk, in the formats that other people's tools read and write.

``huggingface`` holds ``save_model``, ``load_model`` and ``load_config``.  Nothing here ever unpickles a file.
"""
