"""Weights on disk, in the formats that other people's tools read and write.

``huggingface`` holds ``save_model``, ``load_model`` and ``load_config``; ``convert`` carries a checkpoint from one
format to another, tensor by tensor (``tensors``); ``meta`` and ``gguf`` are two of these formats.  Nothing here ever
runs what a file says.
"""
