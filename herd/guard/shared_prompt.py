"""Training on dialogues that begin alike without computing the beginning again for each of them.

Every request to the guard opens with the same policy, two thirds of its tokens.  Here the common beginning of a
micro-batch goes through the network once; each dialogue's rest sees it and itself.  Loss and gradient are those of the
whole dialogues, one by one (up to the order of summation).
"""

from collections.abc import Sequence
from itertools import takewhile

import torch
import torch.nn.functional as F
from torch import Tensor

from herd.model.loss import IGNORE, chunked_cross_entropy
from herd.model.transformer import Transformer
from herd.tokenizer.chat import EncodedChat
from herd.train.batch import Batch, LossParts


class SharedPromptAttention:
    """Causal attention where the flat axis holds one beginning and then rests that all continue it.

    ``lengths`` are the tokens of the beginning and of every rest, in order; rests do not see each other.
    """

    def __init__(self, lengths: Sequence[int]) -> None:
        self.prompt, rests = lengths[0], list(lengths[1:])
        self.longest = max(rests)
        places = [row * self.longest + offset for row, length in enumerate(rests) for offset in range(length)]
        self.rows, self.places = len(rests), torch.tensor(places)
        # A rest sees the whole beginning and itself up to the query; padding at the end is seen by padding only.
        self.mask = torch.ones(self.longest, self.prompt + self.longest).tril(self.prompt).bool()

    def __call__(self, layer: int, q_NHD: Tensor, k_NKD: Tensor, v_NKD: Tensor) -> Tensor:
        """Attended values (N, H, D); the same in every layer."""
        cut = self.prompt
        opening = _attend(q_NHD[None, :cut], k_NKD[None, :cut], v_NKD[None, :cut], mask=None)[0]
        q_BLHD = self._pad(q_NHD[cut:])
        k_BLKD, v_BLKD = (
            torch.cat([x[None, :cut].expand(self.rows, -1, -1, -1), self._pad(x[cut:])], dim=1) for x in (k_NKD, v_NKD)
        )
        rests = _attend(q_BLHD, k_BLKD, v_BLKD, mask=self.mask).flatten(0, 1)
        return torch.cat([opening, rests.index_select(0, self.places)])

    def _pad(self, x: Tensor) -> Tensor:
        """Rests (N, ...) as rows (B, L, ...), zeros behind each."""
        rows = x.new_zeros(self.rows * self.longest, *x.shape[1:]).index_copy(0, self.places, x)
        return rows.unflatten(0, (self.rows, self.longest))


def _attend(q_BLHD: Tensor, k_BLKD: Tensor, v_BLKD: Tensor, mask: Tensor | None) -> Tensor:
    q, k, v = (x.transpose(1, 2) for x in (q_BLHD, k_BLKD, v_BLKD))
    out_BHLD = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=True)
    return out_BHLD.transpose(1, 2)


def shared_prompt_batch(dialogues: Sequence[EncodedChat]) -> Batch:
    """A micro-batch of dialogues, their longest common beginning first and once; ``lengths`` as the attention wants.

    The beginning is cut where a dialogue has its first token to learn: what is learnt is never shared.
    """
    common = sum(1 for _ in takewhile(lambda ids: len(set(ids)) == 1, zip(*(d.ids for d in dialogues), strict=False)))
    first_learnt = min(dialogue.mask.index(True) for dialogue in dialogues)
    cut = min(common, first_learnt - 1)
    assert cut > 0, "dialogues must begin alike"
    rests = [dialogue.ids[cut:-1] for dialogue in dialogues]
    targets = [IGNORE] * cut
    for dialogue in dialogues:
        pairs = zip(dialogue.ids[cut + 1 :], dialogue.mask[cut + 1 :], strict=True)
        targets += [token if learnt else IGNORE for token, learnt in pairs]
    tokens = torch.tensor([*dialogues[0].ids[:cut], *(token for rest in rests for token in rest)])
    positions = torch.cat([torch.arange(cut), *(torch.arange(cut, cut + len(rest)) for rest in rests)])
    return Batch(tokens, positions, torch.tensor(targets), [cut, *map(len, rests)])


def shared_prompt_loss(model: Transformer, batch: Batch) -> LossParts:
    """Cross-entropy of what the dialogues have to learn, in nats."""
    hidden_NE = model(batch.tokens_N, batch.positions_N, SharedPromptAttention(batch.lengths))
    total, targets = chunked_cross_entropy(hidden_NE, model.head_weight, batch.targets_N)
    return LossParts(total, float(targets))
