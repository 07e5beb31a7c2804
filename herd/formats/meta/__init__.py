"""Meta's checkpoints: ``consolidated.NN.pth`` (one for each model-parallel rank), ``params.json``, ``tokenizer.model``.

``params`` is the configuration, ``layout`` names, rotary order and shards, ``torch_file`` one ``.pth`` file,
``reader`` and ``writer`` the two ends that ``herd convert`` uses.
"""
