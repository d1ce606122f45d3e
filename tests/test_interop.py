"""Arrays of other libraries: the numbers that NumPy arrays give, without a copy where the memory can be shared."""

import numpy as np
import pytest
from cases import generator
from compare import same_bits

import fastloss
from fastloss import _arrays

NUMBERS = generator("interop").normal(0, 2, (6, 5)).astype(np.float32)
LABELS = np.array([0, 4, 1, 1, 3, 2])


def shares(value, memory):
    """Whether an array is read where it lies."""
    got = _arrays.floats(value, "x")
    return np.shares_memory(got, memory) and got.dtype == memory.dtype


def check(logits, labels, numbers=NUMBERS):
    """Losses of two arrays that hold these numbers and labels."""
    for reduction in ("mean", "none"):
        assert same_bits(
            fastloss.cross_entropy(logits, labels, reduction=reduction),
            fastloss.cross_entropy(numbers, LABELS, reduction=reduction),
        )
    assert same_bits(fastloss.mse_loss(logits, numbers), fastloss.mse_loss(numbers, numbers))
    assert same_bits(fastloss.score(logits, labels).argmax, fastloss.score(numbers, LABELS).argmax)


# --- torch --------------------------------------------------------------------------------------------------------------


def test_torch():
    torch = pytest.importorskip("torch")
    logits = torch.from_numpy(NUMBERS)
    check(logits, torch.from_numpy(LABELS))
    check(logits.clone().requires_grad_(), torch.from_numpy(LABELS))
    check(torch.nn.Parameter(logits), torch.from_numpy(LABELS))
    recording = logits.requires_grad_()
    for tensor, memory in ((recording, NUMBERS), (recording.T, NUMBERS), (recording[1:, ::2], NUMBERS)):
        assert shares(tensor, memory)
    wide = recording[:1].expand(6, 5)
    assert shares(wide, NUMBERS) and _arrays.floats(wide, "x").strides == (0, 4)
    assert fastloss.log_softmax(recording).shape == torch.Size([6, 5])
    assert fastloss.mse_loss(logits.shape, [6, 5]) == 0  # a size is a tuple


def test_torch_bfloat16():
    torch = pytest.importorskip("torch")
    pytest.importorskip("ml_dtypes")
    logits = torch.from_numpy(NUMBERS).bfloat16()
    memory = _arrays.floats(logits, "x")
    numbers = logits.float().numpy()
    for tensor in (logits, logits.clone().requires_grad_()):
        check(tensor, torch.from_numpy(LABELS), numbers)
    for tensor in (logits, logits.T, logits[::2], logits.requires_grad_()):
        assert shares(tensor, memory)
    np.testing.assert_array_equal(_arrays.floats(logits.T, "x").astype(np.float32), numbers.T)
    target = torch.softmax(torch.from_numpy(NUMBERS), 1).bfloat16()
    got = fastloss.cross_entropy(logits, target)
    np.testing.assert_allclose(got, fastloss.cross_entropy(numbers, target.float().numpy()), rtol=1e-6)


def test_torch_views_that_are_not_what_lies_in_memory():
    torch = pytest.importorskip("torch")
    real = torch.from_numpy(NUMBERS)
    conjugate = torch.complex(real, -real).conj()
    assert conjugate.imag.is_neg()
    check(conjugate.imag, LABELS)
    check(torch._neg_view(-real).requires_grad_(), LABELS)
    pytest.importorskip("ml_dtypes")
    check(torch._neg_view(-real.bfloat16()), LABELS, real.bfloat16().float().numpy())
    with pytest.raises(TypeError, match="logits: expected real numbers, got dtype complex64"):
        fastloss.cross_entropy(conjugate, LABELS)


def test_torch_errors():
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match="logits: .*[Ss]parse"):
        fastloss.cross_entropy(torch.from_numpy(NUMBERS).to_sparse(), LABELS)
    with pytest.raises(TypeError, match="pred: .*Float8"):
        fastloss.mse_loss(torch.zeros(3).to(torch.float8_e4m3fn), [0.0] * 3)


def test_a_tensor_class_of_ones_own():
    torch = pytest.importorskip("torch")

    class Own(torch.Tensor):
        pass

    own = torch.from_numpy(NUMBERS).as_subclass(Own)
    check(own, LABELS)
    check(own.clone().requires_grad_(), LABELS)
    if pytest.importorskip("ml_dtypes"):
        check(own.bfloat16(), LABELS, own.bfloat16().float().numpy())


# --- JAX ------------------------------------------------------------------------------------------------------------------


def test_jax():
    jnp = pytest.importorskip("jax.numpy")
    logits = jnp.asarray(NUMBERS)
    check(logits, jnp.asarray(LABELS))
    assert shares(logits, np.asarray(logits))
    half = logits.astype(jnp.bfloat16)
    check(half, LABELS, np.asarray(half).astype(np.float32))
    assert shares(half, np.asarray(half))


# --- pandas ---------------------------------------------------------------------------------------------------------------


def test_pandas():
    pd = pytest.importorskip("pandas")
    frame, labels = pd.DataFrame(NUMBERS), pd.Series(LABELS)
    check(frame, labels)
    check(frame[::-1][::-1], labels)
    assert shares(frame, frame.to_numpy()) and shares(frame[0], frame.to_numpy())
    assert shares(frame.iloc[::2, 1:], frame.to_numpy())
    mixed = pd.DataFrame({"a": NUMBERS[:, 0].astype(np.float64), "b": LABELS})
    assert _arrays.floats(mixed, "x").dtype == np.float64
    check(pd.DataFrame(NUMBERS, index=list("abcdef")), pd.Series(LABELS, index=list("fedcba")))  # by position
    index = pd.Index(LABELS)
    assert fastloss.l1_loss(index, labels) == 0


def test_pandas_nullable():
    pd = pytest.importorskip("pandas")
    labels = pd.Series(LABELS, dtype="Int64")
    check(pd.DataFrame(NUMBERS), labels)
    check(pd.DataFrame(NUMBERS).astype("Float32"), labels.array)
    mixed = pd.DataFrame({"a": pd.array([1.5, 2.5], "Float32"), "b": np.array([1.0, np.nan], np.float32)})
    assert _arrays.floats(mixed, "x").dtype == np.float32 and np.isnan(_arrays.floats(mixed, "x")[1, 1])
    truth = pd.Series([True, False, True], dtype="boolean")
    assert fastloss.binary_cross_entropy([1.0, 0.0, 1.0], truth) == 0
    labels[2] = pd.NA
    with pytest.raises(ValueError, match="target: expected numbers throughout, got 1 missing values"):
        fastloss.cross_entropy(NUMBERS, labels)
    missing = pd.DataFrame(NUMBERS).astype("Float32")
    missing.iloc[1:3, 2] = pd.NA
    with pytest.raises(ValueError, match="logits: expected numbers throughout, got 2 missing values"):
        fastloss.cross_entropy(missing, LABELS)
    plain = pd.Series([1.0, np.nan])  # NumPy's, where NaN is a number
    assert np.isnan(fastloss.mse_loss(plain, [1.0, 2.0]))
    for words in (pd.Series(["a", "b"]), pd.DataFrame({"a": pd.array([1, 2], "Int64"), "b": ["x", "y"]}), pd.NaT):
        with pytest.raises(TypeError, match="pred"):
            fastloss.mse_loss(words, [1.0, 2.0])


def test_pandas_objects():
    """What pandas makes of columns with missing values it has no type for."""
    pd = pytest.importorskip("pandas")
    for column in (pd.Series([3, None, 1, 0, 0, 0], dtype=object), pd.Series([3, pd.NA, 1, 0, 0, 0], dtype=object)):
        for function in (fastloss.cross_entropy, fastloss.score):
            with pytest.raises(ValueError, match="target: expected numbers throughout, got 1 missing values"):
                function(NUMBERS, column)
        with pytest.raises(ValueError, match="pred: expected numbers throughout, got 1 missing values"):
            fastloss.mse_loss(pd.DataFrame({"a": column, "b": 1.0}), 1.0)
    with pytest.raises(TypeError, match="pred: expected real numbers, got dtype object"):
        fastloss.mse_loss(pd.Series([1.0, 2.0], dtype=object), 1.0)


def test_pandas_nested_in_arrow():
    pd, pa = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    dictionary = pa.DictionaryArray.from_arrays(pa.array([0, 1, 1]), pa.array([1.0, None]))
    lists = pa.array([[1.0, None], [2.0, 3.0], None], pa.list_(pa.float64(), 2))
    for array in (dictionary, lists):
        column = pd.Series(pd.arrays.ArrowExtensionArray(pa.chunked_array([array])))
        for value in (column, column.array, column.to_frame()):
            with pytest.raises(ValueError, match="pred: expected numbers throughout, got 2 missing values"):
                fastloss.mse_loss(value, 1.0)


def test_pandas_over_arrow():
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    frame = pd.DataFrame(NUMBERS).astype("float32[pyarrow]")
    check(frame, pd.Series(LABELS, dtype="int64[pyarrow]"))
    with pytest.raises(ValueError, match="pred: expected numbers throughout, got 1 missing values"):
        fastloss.mse_loss(pd.Series([1.0, None], dtype="float32[pyarrow]"), [1.0, 2.0])


# --- pyarrow --------------------------------------------------------------------------------------------------------------


def test_pyarrow():
    pa = pytest.importorskip("pyarrow")
    column = pa.array(NUMBERS[:, 0])
    assert shares(column, column.to_numpy()) and shares(column.slice(2), column.to_numpy())
    assert fastloss.mse_loss(column, NUMBERS[:, 0]) == 0
    whole = pa.chunked_array([column])
    assert shares(whole, column.to_numpy())
    assert fastloss.mse_loss(pa.chunked_array([column[:2], column[2:]]), NUMBERS[:, 0]) == 0
    assert _arrays.floats(pa.chunked_array([], pa.float32()), "x").shape == (0,)
    check(NUMBERS, pa.chunked_array([LABELS[:1], LABELS[1:]]))
    assert fastloss.l1_loss(pa.array(NUMBERS[:, 0].astype(np.float16)), NUMBERS[:, 0].astype(np.float16)) == 0
    assert fastloss.binary_cross_entropy([1.0, 0.0], pa.array([True, False])) == 0
    table = pa.table({str(i): NUMBERS[:, i] for i in range(5)})
    check(table, LABELS)
    check(table.to_batches()[0], LABELS)
    tensor = pa.Tensor.from_numpy(NUMBERS)
    check(tensor, LABELS)
    assert shares(tensor, NUMBERS)


def test_pyarrow_rows():
    """Rows of one length, as lists and as tensors."""
    pa = pytest.importorskip("pyarrow")
    flat = pa.array(NUMBERS.ravel())
    memory = flat.to_numpy()
    rows = pa.FixedSizeListArray.from_arrays(flat, 5)
    tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(NUMBERS)
    for value, memory in ((rows, flat.to_numpy()), (tensors, NUMBERS)):
        check(value, LABELS)
        assert shares(value, memory)
        assert shares(pa.chunked_array([value]), memory)
        assert shares(value.slice(2, 3), memory)
        np.testing.assert_array_equal(_arrays.floats(value.slice(2, 3), "x"), NUMBERS[2:5])
        check(pa.chunked_array([value.slice(0, 2), value.slice(2)]), LABELS)
    nested = pa.FixedSizeListArray.from_arrays(rows, 3)
    assert shares(nested, flat.to_numpy())
    np.testing.assert_array_equal(_arrays.floats(nested, "x"), NUMBERS.reshape(2, 3, 5))
    cubes = pa.FixedShapeTensorArray.from_numpy_ndarray(NUMBERS.reshape(2, 3, 5))
    np.testing.assert_array_equal(_arrays.floats(cubes, "x"), NUMBERS.reshape(2, 3, 5))


def test_pyarrow_missing_values():
    pa = pytest.importorskip("pyarrow")
    some = pa.array([1.0, None, 2.0, None])
    rows = pa.FixedSizeListArray.from_arrays(some, 2)
    tensors = pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.float64(), (2,)), rows)
    table = pa.table({"a": [1.0, 2.0], "b": [None, 2.0]})
    for value, n in ((some, 2), (pa.chunked_array([some, some]), 4), (rows, 2), (tensors, 2), (table, 1)):
        with pytest.raises(ValueError, match=f"pred: expected numbers throughout, got {n} missing values"):
            fastloss.mse_loss(value, 1.0)
    with pytest.raises(ValueError, match="pred: .* 1 missing"):
        fastloss.mse_loss(pa.array([[1.0, 2.0], None], pa.list_(pa.float64(), 2)), 1.0)
    assert fastloss.mse_loss(some.slice(0, 1), 1.0) == 0
    for value in (pa.array([[1.0], [2.0, 3.0]]), pa.array(["a", "b"]), pa.array(["a", "b"]).dictionary_encode()):
        with pytest.raises(TypeError, match="pred"):
            fastloss.mse_loss(value, 1.0)


def test_pyarrow_encoded():
    """Dictionaries and runs are written out; nulls may be in either part of them."""
    pa = pytest.importorskip("pyarrow")
    compute = pytest.importorskip("pyarrow.compute")
    column = pa.array([1.5, 2.5, 2.5, 1.5])
    rows = pa.FixedSizeListArray.from_arrays(column.dictionary_encode(), 2)
    for value in (column.dictionary_encode(), compute.run_end_encode(column)):
        np.testing.assert_array_equal(_arrays.floats(value, "x"), [1.5, 2.5, 2.5, 1.5])
        np.testing.assert_array_equal(_arrays.floats(pa.chunked_array([value, value]), "x"), [1.5, 2.5, 2.5, 1.5] * 2)
    np.testing.assert_array_equal(_arrays.floats(rows, "x"), [[1.5, 2.5], [2.5, 1.5]])
    labels = pa.array(LABELS).dictionary_encode()
    check(NUMBERS, labels)
    unused = pa.DictionaryArray.from_arrays(pa.array([0, 0]), pa.array([1.0, None]))
    assert fastloss.mse_loss(unused, 1.0) == 0


def test_pyarrow_missing_values_wherever_they_are():
    pa = pytest.importorskip("pyarrow")
    compute = pytest.importorskip("pyarrow.compute")
    dictionary = pa.DictionaryArray.from_arrays(pa.array([0, 1, None, 1]), pa.array([1.0, None]))
    runs = compute.run_end_encode(pa.array([1.0, None, None, None]))
    flat = pa.array([1.0, None, None, 2.0, 3.0, None])
    nested = pa.FixedSizeListArray.from_arrays(pa.FixedSizeListArray.from_arrays(flat, 3), 1)
    of_dictionary = pa.FixedSizeListArray.from_arrays(dictionary, 2)
    lists = pa.array([[1.0, None], None, [2.0], [None]])
    record = pa.array([{"a": 1.0, "b": None}, {"a": None, "b": None}])
    values = [dictionary, runs, nested, of_dictionary, lists, record]
    for value in (*values, *(pa.chunked_array([value]) for value in values), *(pa.table({"a": v}) for v in values)):
        with pytest.raises(ValueError, match="pred: expected numbers throughout, got 3 missing values"):
            fastloss.mse_loss(value, 1.0)
    sliced = dictionary.slice(0, 1)
    assert fastloss.mse_loss(sliced, 1.0) == 0
    labels = pa.DictionaryArray.from_arrays(pa.array([0, 1, 0, 0, 0, 0]), pa.array([3, None]))
    for function in (fastloss.cross_entropy, fastloss.score, fastloss.nll_loss):
        with pytest.raises(ValueError, match="target: expected numbers throughout, got 1 missing values"):
            function(NUMBERS, labels)
    union = pa.UnionArray.from_sparse(pa.array([0, 0], pa.int8()), [pa.array([1.0, 2.0])])
    with pytest.raises(TypeError, match="pred: expected real numbers"):
        fastloss.mse_loss(union, 1.0)


# --- others -----------------------------------------------------------------------------------------------------------------


def test_polars():
    pl = pytest.importorskip("polars")
    column = pl.Series(NUMBERS[:, 0])
    assert shares(column, column.to_numpy(allow_copy=False))
    check(pl.DataFrame(NUMBERS), pl.Series(LABELS))
    check(pl.Series(NUMBERS), pl.Series(LABELS))  # of arrays
    for value in (pl.Series([1.0, None]), pl.DataFrame({"a": [1.0, 2.0], "b": [None, 1.0]})):
        with pytest.raises(ValueError, match="pred: expected numbers throughout, got 1 missing values"):
            fastloss.mse_loss(value, 1.0)


def test_polars_nested():
    pl = pytest.importorskip("polars")
    pairs, cubes = pl.Array(pl.Float64, 2), pl.Array(pl.Array(pl.Float64, 2), 1)
    np.testing.assert_array_equal(_arrays.floats(pl.Series([[1, 2], [3, 4]], dtype=pairs), "x"), [[1, 2], [3, 4]])
    for value, n in (
        (pl.Series([[1.0, None], [2.0, 3.0]], dtype=pairs), 1),
        (pl.Series([[1.0, None], [None, 3.0], None], dtype=pairs), 3),
        (pl.Series([[[1.0, None]], [[None, None]]], dtype=cubes), 3),
        (pl.Series([{"a": 1.0, "b": None}]), 1),
        (pl.DataFrame({"a": pl.Series([[1.0, None]], dtype=pairs)}), 1),
    ):
        with pytest.raises(ValueError, match=f"pred: expected numbers throughout, got {n} missing values"):
            fastloss.mse_loss(value, 1.0)
    labels = pl.Series([[1, None], [2, 3]], dtype=pl.Array(pl.Int64, 2))
    for function in (fastloss.cross_entropy, fastloss.score):
        with pytest.raises(ValueError, match="target: expected numbers throughout, got 1 missing values"):
            function(np.zeros((2, 2, 5)), labels)


def test_xarray():
    xr = pytest.importorskip("xarray")
    logits = xr.DataArray(NUMBERS, dims=("row", "class"))
    check(logits, xr.DataArray(LABELS, dims="row"))
    assert shares(logits, NUMBERS) and shares(logits.T, NUMBERS)
