"""GGUF: one file that holds weights, shape, tokenizer and chat template, as llama.cpp and its relatives read them.

``container``      header, typed metadata, tensor table, mapped bytes
``block_types``    how values are stored; ``blocks`` and ``k_blocks`` pack and unpack them
``names``          the llama architecture's tensor names and the order of its rotary pairs
``description``    shape of a model to metadata and back
``vocabulary``     tokenizer and chat template to metadata and back
"""
