"""Text to token ids and back, and the one place that turns conversations into ids, masks and messages.

Public modules:
    tokenizer   ``Tokenizer``: load, encode, decode, save; byte-level BPE, 256 control tokens
    bpe         ``train_bpe`` and the stage ``train_tokenizer``
    chat        ``ChatFormat``: messages to ids and loss masks, and generated ids back to messages
    reply       ``StreamParser``: reads an answer while it is generated
    calls       tool calls on the wire, both directions
    documents   streaming reader of a corpus' Parquet files
    files       the formats on disk: tiktoken ranks, ``tokenizer.json``, ``tokenizer_config.json``
No torch here, and nothing of other rooms but the foundation.
"""
