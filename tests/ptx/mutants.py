"""What `mutations` changes in the kernels, one at a time, and the tests that are run then."""

from typing import NamedTuple

NUMBA = "backends/numba_cuda/"
EDGES, MATRIX, PACKAGE, REPEATS = ("test_edges.py::", "test_matrix.py::test_", "test_package.py::", "test_repeats.py::")

# By the kernel, and what of it they reach.
GROUPS = (PACKAGE + "test_rows_in_all_orders[(300, 10)]",)  # short rows, staged
LANES = (EDGES + "test_where_rows_go_another_way[40-48]",)
TEAMS = (MATRIX + "rows[weights-float64-1000-rows]",)
CHUNKS = (EDGES + "test_where_rows_go_another_way[2-24578]",)
GROUPS_AGAIN = (EDGES + "test_rows_on_two_blocks[600-10]",)
SLOPES_OF_TEAMS = (EDGES + "test_slopes_on_two_blocks[5-129]",)
SPECIAL = (EDGES + "test_scores_of_special_values[5]",)
SPECIAL_TEAMS = (EDGES + "test_scores_of_special_values[129]",)
LOGSUMEXP = (MATRIX + "rows[logsumexp-float32-33-shifted]",)
BAD_LABELS = (EDGES + "test_labels_that_are_none[cross_entropy-5]",)
IGNORED = (EDGES + "test_a_class_that_is_ignored[5]",)
ELEMENTS = (PACKAGE + "test_elements",)
WEIGHTED_AGAIN = (EDGES + "test_elements_on_two_blocks[mean-vectors]",)
ONE_THREAD = (EDGES + "test_details_that_one_thread_has",)
DETAILS_OF_TEAMS = (EDGES + "test_details_of_any_rows[5-600-normal]",)
SPECIAL_DETAILS = (EDGES + "test_details_of_any_rows[5-40-special]",)
COMPARED = (EDGES + "test_comparisons_on_two_blocks",)
COMPARED_SPECIAL = (EDGES + "test_compared_rows_that_are_special",)


CORRECTED_SUMS = (EDGES + "test_equal_terms_far_below[sums]",)
CORRECTED_PRODUCTS = (EDGES + "test_equal_terms_far_below[products]",)


HALVES = (EDGES + "test_halves_of_any_size[200]",)
HALVES_IN_STEPS = (EDGES + "test_halves_of_any_size[1100]",)


class Mutation(NamedTuple):
    name: str
    file: str  # below fastloss/
    old: str
    new: str
    tests: tuple[str, ...]
    equivalent: str = ""  # why nothing can notice it


def of(file, *mutations):
    return [Mutation(name, NUMBA + file, *rest) for name, *rest in mutations]


SETTLE = of(
    "_settle.py",
    (
        "no barrier before sums are stored",
        "    t = thread()\n    sync()\n    sums[t, LOSS]",
        "    t = thread()\n    sums[t, LOSS]",
        GROUPS,
    ),
    (
        "no barrier between steps of the tree",
        "    while step:\n        sync()\n        if t < step:\n            for k",
        "    while step:\n        if t < step:\n            for k",
        GROUPS,
    ),
    ("the tree starts a step later", "    step = THREADS // 2\n", "    step = THREADS // 4\n", GROUPS),
    (
        "no fence behind what a block leaves",
        "            fence()\n            sums[0, 0]",
        "            sums[0, 0]",
        GROUPS,
    ),
    (
        "no fence before it is read",
        "    if is_last and n_blocks() > 1:\n        fence()\n",
        "    if is_last and n_blocks() > 1:\n",
        GROUPS,
    ),
)

STAGING = of(
    "_staging.py",
    ("no barrier behind the copy", "    sync_warp()\n\n\ndef staged_itself", "\n\ndef staged_itself", GROUPS),
    ("the last vector is not copied", "while i + WHOLE <= n:", "while i + WHOLE < n:", GROUPS),
    (
        "a whole warp's rows are copied at the end",
        "rest = n_rows - row if n_rows - row < WARP else np.int64(WARP)",
        "rest = np.int64(WARP)",
        GROUPS,
    ),
)

SOFTMAX = of(
    "_softmax.py",
    (
        "a new maximum without rescaling",
        "                s, s_low = rescaled(s, s_low, less)\n",
        "",
        CHUNKS,
    ),
    (
        "the former maximum is lost",
        "                s, s_low = added(s, s_low, less if is_out else Real(0.0))  # the former",
        "                # the former",
        CHUNKS,
    ),
    (
        "sums without what was rounded away",
        "    return t, (t - total) - y\n",
        "    return t, Real(0.0)\n",
        CORRECTED_SUMS,
    ),
    (
        "log2(e) in single precision",
        "f = fma(x, Real(LOG2E_REST), fma(",
        "f = fma(x, Real(0.0), fma(",
        CORRECTED_PRODUCTS,
    ),
    ("a label at a vector's start is not left out", "if k >= 0 and k < N:", "if k > 0 and k < N:", LANES),
    ("ties by the higher class", "return equal and c < label or", "return equal and c > label or", SPECIAL),
    ("the largest is no longer excluded", "if left > Real(-INF) and me != winner:", "if left > Real(-INF):", LOGSUMEXP),
    (
        "shares merged without rescaling",
        "share_of_s = (1.0 + s) * based(r, high) if",
        "share_of_s = (1.0 + s) if",
        LANES,
    ),
    (
        "coefficients' losses merged without a shift",
        "share += mass * (np.float64(high) - np.float64(top)) if high > top and top > Real(-INF) else 0.0",
        "share += 0.0",
        (MATRIX + "rows[probabilities_slopes-bfloat16-1023-gappy]",),
    ),
    (
        "the loss of a label that is largest",
        "return (tail if left >= r else gap + tail), tail",
        "return gap + tail, tail",
        LANES,
    ),
    (
        "halves: a new maximum without rescaling",
        "less = power(r, high)\n                s, s_low = rescaled(s, s_low, fma(",
        "less = Real(1.0)\n                s, s_low = rescaled(s, s_low, fma(",
        HALVES_IN_STEPS,
    ),
    (
        "halves: what the base was rounded by",
        "(1.0 - np.float64(rounded) * LN2)",
        "1.0",
        HALVES,
    ),
    ("halves: products of large logits", "if abs(r) >= Real(NEAR_HALVES) and r > Real(-INF):", "if False:", HALVES),
    (
        "a maximum of another lane is excluded",
        "r, is_out = high, highest == high",
        "r, is_out = high, True",
        SPECIAL_TEAMS,
    ),
    (
        "a share of -inf alone",
        "powers(batch, r if r > Real(-INF) else Real(0.0))",
        "powers(batch, r)",
        SPECIAL_TEAMS,
    ),
)

ROWS = of(
    "rows.py",
    ("no barrier before the next rows are staged", "        sync_warp()  # before", "        # before", GROUPS_AGAIN),
    ("grids' stride of one warp", "tile += n_blocks() * WARPS", "tile += n_blocks()", GROUPS_AGAIN),
    ("labels behind the last row are read", "        if LABELED and is_row:", "        if LABELED:", GROUPS),
    (
        "the last chunk as long as the others",
        "end = start + chunk if start + chunk < n_classes else n_classes",
        "end = start + chunk",
        CHUNKS,
    ),
    (
        "the last chunk's state left out",
        "                if t < n_chunks:\n",
        "                if t < n_chunks - 1:\n",
        CHUNKS,
    ),
    (
        "a row's ticket is not taken back",
        "write_ticket(states, 2 * row, 0)",
        "write_ticket(states, 2 * row, 1)",
        CHUNKS,
    ),
    ("one share too many", "    if i >= n:\n", "    if i > n:\n", TEAMS),
    (
        "the weight of another class",
        "np.float64(read_weight(w, label))",
        "np.float64(read_weight(w, np.int64(0)))",
        TEAMS,
    ),
    (
        "slopes not divided by the weights",
        "scale = scale / read_sum(ws, TOTALS + WEIGHT)\n    loss",
        "scale = scale\n    loss",
        SLOPES_OF_TEAMS,
    ),
    (
        "the label's slope as a difference",
        "slope = target_slope(s_rest, p, share, mass, own)",
        "slope = target_slope(Real(1.0) - p, p, share, mass, own)",
        (EDGES + "test_slopes_of_what_is_nearly_certain",),
    ),
    ("of equal classes the label loses", "(left > r or left == r and label < best)", "(left > r)", SPECIAL),
    ("a NaN is not the largest", "if s != s or left != left:", "if s != s and left != left:", SPECIAL),
    ("ignored rows have slopes", "= slope * scale if counts else Real(0.0)", "= slope * scale", IGNORED),
    (
        "no barrier before the next row's shares",
        "            )  # fmt: skip\n            sync()\n        item += n_blocks()",
        "            )  # fmt: skip\n        item += n_blocks()",
        SLOPES_OF_TEAMS,
    ),
)

TARGET = of(
    "_target.py",
    (
        "a shuffle without the last lane",
        "cuda.shfl_xor_sync(0xFFFFFFFF, value, mask)",
        "cuda.shfl_xor_sync(0x7FFFFFFF, value, mask)",
        LANES,
    ),
    ("loads beyond a row's end", "@inside ld.global", "ld.global", (EDGES + "test_where_rows_go_another_way[40-36]",)),
    (
        "halves of a word in the wrong order",
        "for both in zip(low, high,",
        "for both in zip(high, low,",
        (EDGES + "test_long_rows[softmax]",),
    ),
    ("sums of other blocks from a cache", "ld.volatile.global.f64 $0", "ld.global.f64 $0", GROUPS),
)

LABELS = of(
    "labels.py",
    (
        "a label one behind the last",
        "label >= 0 and label < n_classes and",
        "label >= 0 and label <= n_classes and",
        BAD_LABELS,
    ),
    ("a label of -1", "counts = label >= 0", "counts = label >= -1", BAD_LABELS),
)

POINTWISE = of(
    "pointwise.py",
    (
        "every block adds what is no whole vector",
        "    if block() == 0 and i < size:\n        loss",
        "    if i < size:\n        loss",
        WEIGHTED_AGAIN,
    ),
    (
        "the last element is left out",
        "    if block() == 0 and i < size:\n        loss",
        "    if block() == 0 and i < size - 1:\n        loss",
        WEIGHTED_AGAIN,
    ),
    (
        "one vector too many",
        "    while group < size // N:\n        i = group * N\n",
        "    while group <= size // N:\n        i = group * N\n",
        ELEMENTS,
    ),
)

DETAILS_ = of(
    "details.py",
    (
        "no barrier before elements that are kept are stored",
        "    sync()  # others may still read what is there\n",
        "",
        ONE_THREAD,
    ),
    (
        "a thread may have more than it keeps",
        "if places[j] < n_classes and before(values[j], places[j], level, level_place):",
        "if places[j] < 0:",
        ONE_THREAD,
    ),
    (
        "the largest are added twice",
        "v > Real(-INF) and (v < last or v == last and c > last_place)",
        "v > Real(-INF)",
        ONE_THREAD,
    ),
)

LIKELY = of(
    "likely.py",
    (
        "no barrier behind the maxima",
        "high\n    sync()\n    if t < GROUPS",
        "high\n    if t < GROUPS",
        DETAILS_OF_TEAMS,
    ),
    ("a level that one fewer reach", "ahead == wanted - 1", "ahead == wanted - 2", DETAILS_OF_TEAMS),
    (
        "what is NaN is below the level",
        "reached or not batch[k] < level",
        "reached or batch[k] >= level",
        SPECIAL_DETAILS,
    ),
    ("more than a thread has room for", "own if own <= SLOTS else np.int32(MOST + 1)", "own", ONE_THREAD),
    (
        "no barrier before positions are read",
        "upto\n    sync()\n    start",
        "upto\n    start",
        DETAILS_OF_TEAMS,
    ),
    ("a warp's own elements before it", "warp < t // WARP", "warp <= t // WARP", DETAILS_OF_TEAMS),
    (
        "no barrier behind what is gathered",
        "    sync()\n    return n\n",
        "    return n\n",
        DETAILS_OF_TEAMS,
    ),
    ("what is gathered adds nothing", "        total += term\n", "", DETAILS_OF_TEAMS),
    ("distances from the level", "(w + (top - np.float64(level)) * s) * by", "w * by", DETAILS_OF_TEAMS),
)

COMPARING = of(
    "comparing.py",
    (
        "no barrier between steps of the largest",
        "    while step:\n        sync()\n        if t < step and",
        "    while step:\n        if t < step and",
        COMPARED,
    ),
    (
        "no barrier before two sums are stored",
        "    t = thread()\n    sync()\n    sums[t, 0]",
        "    t = thread()\n    sums[t, 0]",
        COMPARED,
    ),
    (
        "of equal classes the last is the largest",
        "return v > top or v == top and c < best",
        "return v > top or v == top and c > best",
        COMPARED_SPECIAL,
    ),
)

SHAPES = of(
    "softmax.py",
    (
        "vectors in rows that are no multiple of them",
        "width if contiguous and n_classes % width == 0 else 1",
        "width if contiguous else 1",
        (EDGES + "test_rows_that_are_part_of_longer_ones[10]",),
    ),
    (
        "chunks rounded down",
        "chunk = -(-n_vectors // n_chunks) * n",
        "chunk = n_vectors // n_chunks * n",
        (EDGES + "test_where_rows_go_another_way[1-262151]",),
    ),
    (
        "one block too few",
        "else -(-n_rows // (WARPS",
        "else (n_rows // (WARPS",
        GROUPS,
        "blocks go on to further rows until none is left; it would only take longer",
    ),
)

FORMULAS = [
    Mutation(
        "weight 0 times an infinite loss",
        "scalars.py",
        "return share * loss if share != T(0.0) or loss != loss else T(0.0)",
        "return share * loss",
        (EDGES + "test_weights_of_0_and_losses_that_are_infinite",),
    )
]

MUTATIONS = (
    SETTLE + STAGING + SOFTMAX + ROWS + TARGET + LABELS + POINTWISE + DETAILS_ + LIKELY + COMPARING + SHAPES + FORMULAS
)
