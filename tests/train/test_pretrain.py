"""Samples to batches: targets stay within their document, every token is used, the ramp counts rows."""

from collections import Counter
from pathlib import Path

import numpy as np
import torch

from herd.train.pretrain import PretrainSource, held_out_batches, sample_batch
from herd.train.schedule import BatchRamp, RampStep
from herd.train.stream import Sample, Source, TokenStream


def test_targets_stay_within_their_document() -> None:
    # Two documents, then the first token of a third, which is in the sample only as a target and is none here.
    sample = Sample(np.array([0, 10, 11, 1, 0, 12, 1, 0]), [4, 3, 1], "general")
    batch = sample_batch([sample])
    assert batch.tokens_N.tolist() == [0, 10, 11, 1, 0, 12, 1]
    assert batch.targets_N.tolist() == [10, 11, 1, -100, 12, 1, -100]
    assert batch.positions_N.tolist() == [0, 1, 2, 3, 0, 1, 2]
    assert batch.lengths == [4, 3]
