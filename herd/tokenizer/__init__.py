"""Text to token ids and back, and the one place that turns conversations into ids, masks and messages.

Public modules:
    tokenizer      ``Tokenizer``: load, encode, decode, save; byte-level BPE, 256 control tokens
    bpe            ``train_bpe`` and the stage ``train_tokenizer``
    fast           the fast encoder for much text, where its extra is installed
    extend         ``extend_vocabulary`` and the stage ``extend_tokenizer``: more languages, the base as it was
    chat           ``ChatFormat``: messages to ids, loss masks and spans, and generated ids back to messages
    dialects       the dialects of the chat format by name; ``functions`` describes tools in them
    reply          ``StreamParser``: reads an answer while it is generated
    calls          tool calls on the wire, both directions; ``keyword_calls``: several at once, nested
    llama_guard    the prompt of Llama Guard 3
    documents      streaming reader of a corpus' Parquet files; ``sample`` chooses among them
    files          the formats on disk: tiktoken ranks, ``tokenizer.json``, ``tokenizer_config.json``
    sentencepiece  Llama 2's kind of tokenizer, its vocabulary in ``pieces``, files in ``piece_model``, ``piece_json``
No torch here, and nothing of other rooms but the foundation.
"""
