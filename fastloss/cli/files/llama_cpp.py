"""The files that llama.cpp keeps a model's predictions in: what `llama-perplexity --kl-divergence-base FILE` writes.

The text is cut into chunks of `n_ctx` tokens, and the second half of each is predicted: rows for the positions from
`n_ctx // 2` to `n_ctx - 2`, each with the token after it as its target. All numbers are little-endian:

    8 bytes                    `_logits_`
    3 int32                    n_ctx, n_vocab, n_chunk
    n_chunk * n_ctx int32      the tokens
    for each row:
        2 float32              scale, least
        n_vocab uint16         codes; log-probability = scale * code + least
        1 uint16               only if n_vocab is odd: padding

What was more than 16 below the row's largest logit has become 16 below, with the code 0.

References
----------
https://github.com/ggml-org/llama.cpp, tools/perplexity/perplexity.cpp: `perplexity`, and `log_softmax` with `log_prob`.
"""

from __future__ import annotations

import os
import struct
from typing import IO

import numpy as np

from fastloss.cli.failure import Failure

from .access import chosen
from .formats import Wanted
from .npy import map_array
from .pages import resident
from .source import Source, Stored

_HEADER = struct.Struct("<8s3i")
_BLOCK_BYTES = 8 << 20  # of a block's rows as they are decoded
_BEFORE_CODES = 4  # uint16 that scale and least take


def open_array(wanted: Wanted) -> Source:
    """Open the log-probabilities, `FILE` or `FILE:logits`, or the tokens that follow, `FILE:targets`."""
    name, path, file = wanted.name, wanted.path, wanted.file
    assert file is not None
    member = chosen(name, path, wanted.member or "logits", ["logits", "targets"], "array")
    n_ctx, n_vocab, n_chunk = _header(file, name)
    n_rows = n_chunk * _rows_per_chunk(n_ctx)
    if member == "targets":
        file.seek(_HEADER.size)
        tokens = np.frombuffer(file.read(4 * n_chunk * n_ctx), "<i4").reshape(n_chunk, n_ctx)
        return Source(name, path, tokens[:, n_ctx // 2 + 1 :].reshape(n_rows).astype(np.int32))
    shape = n_rows, n_vocab
    if not n_rows:
        return Source(name, path, np.empty(shape, np.float32))
    begin = _HEADER.size + 4 * n_chunk * n_ctx
    stored = map_array(file, begin, (n_rows, _row_length(n_vocab)), np.dtype("<u2"), "C", name)
    rows_per_block = max(1, _BLOCK_BYTES // (4 * n_vocab))
    starts = np.append(np.arange(0, n_rows, rows_per_block), n_rows)

    def block(i: int) -> np.ndarray:
        rows = stored[starts[i] : starts[i + 1]]
        with resident([(name, rows)], []):
            scale, least = rows[:, :_BEFORE_CODES].copy().view("<f4").T
            decoded = rows[:, _BEFORE_CODES:][:, :n_vocab].astype(np.float32)
        decoded *= scale[:, np.newaxis]
        decoded += least[:, np.newaxis]
        return decoded

    return Source(name, path, Stored(shape, np.dtype(np.float32), starts, block))


def _rows_per_chunk(n_ctx: int) -> int:
    return n_ctx - 1 - n_ctx // 2


def _row_length(n_vocab: int) -> int:
    """Of a row in uint16: scale, least, and an even number of codes."""
    return _BEFORE_CODES + n_vocab + n_vocab % 2


def _header(file: IO[bytes], name: str) -> tuple[int, int, int]:
    """The tokens of a chunk, the classes, and the number of chunks, which fit the length of the file."""
    file.seek(0)
    present = os.fstat(file.fileno()).st_size
    if present < _HEADER.size:
        raise Failure(name, f"truncated: the header takes {_HEADER.size} bytes, the file holds {present}")
    _, n_ctx, n_vocab, n_chunk = _HEADER.unpack(file.read(_HEADER.size))
    sizes = f"n_ctx {n_ctx}, n_vocab {n_vocab}, n_chunk {n_chunk}"
    if n_ctx < 1 or n_vocab < 1 or n_chunk < 0:
        raise Failure(name, f"damaged header: {sizes}")
    needed = _HEADER.size + 4 * n_chunk * n_ctx + 2 * n_chunk * _rows_per_chunk(n_ctx) * _row_length(n_vocab)
    if needed != present:
        what = "truncated" if needed > present else "damaged header"
        raise Failure(name, f"{what}: {sizes} take {needed} bytes, the file holds {present}")
    return n_ctx, n_vocab, n_chunk
