"""The executor of PTX by itself: kernels written by hand whose results are known, and others that it must not let pass."""

import itertools
import re

import numpy as np
import pytest
from by_hand import Failed, Memory, line_of, ptx, run

ORDERS = range(5)


@pytest.fixture(params=ORDERS, ids=lambda n: f"order{n}")
def order(request, monkeypatch):
    monkeypatch.setenv("DRIVER_ORDER", str(request.param))


def failure(text, first, second, **launch):
    """The report on a kernel that must fail: error number, thread, block, line, and the rest."""
    with pytest.raises(Failed) as caught:
        run(text, first, second, **launch)
    found = re.match(r"thread (\d+) of block (\d+), line (\d+): (.*) \[kernel k\]$", str(caught.value))
    assert found, str(caught.value)
    return caught.value.code, *map(int, found.groups()[:3]), found.group(4)


# Thread i of block b is element b * n + i of both arrays, at %rd3 and %rd4.
OWN_ELEMENT = """
    mov.u32 %r3, %ntid.x;
    mad.lo.s32 %r4, %r2, %r3, %r1;
    mul.wide.s32 %rd5, %r4, 4;
    add.s64 %rd3, %rd1, %rd5;
    add.s64 %rd4, %rd2, %rd5;
"""


# --- kernels that are right ---------------------------------------------------------------------------------------------


def test_every_thread_of_a_grid(order):
    text = ptx(OWN_ELEMENT + "ld.global.f32 %f1, [%rd3]; add.f32 %f1, %f1, 0f3F800000; st.global.f32 [%rd4], %f1;")
    x, out = np.arange(160, dtype=np.float32), Memory(640)
    run(text, Memory(x), out, blocks=5, threads=32)
    np.testing.assert_array_equal(out.read(np.float32), x + 1)


def test_blocks_and_threads_of_two_dimensions(order):
    """Element (ctaid.y * 2 + tid.y) * 12 + ctaid.x * 4 + tid.x."""
    text = ptx("""
    mov.u32 %r3, %tid.y;  mov.u32 %r4, %ctaid.y;  mad.lo.s32 %r5, %r4, 2, %r3;
    mad.lo.s32 %r6, %r2, 4, %r1;  mad.lo.s32 %r7, %r5, 12, %r6;
    mul.wide.u32 %rd3, %r7, 4;  add.s64 %rd3, %rd2, %rd3;  st.global.u32 [%rd3], %r7;""")
    out = Memory(4 * 12 * 6)
    run(text, 0, out, blocks=(3, 3, 1), threads=(4, 2, 1))
    np.testing.assert_array_equal(out.read(np.int32), np.arange(72))


REVERSED = (
    OWN_ELEMENT
    + """
    ld.global.f32 %f1, [%rd3];
    mul.wide.u32 %rd6, %r1, 4;  mov.u64 %rd7, memory;  add.s64 %rd8, %rd7, %rd6;
    st.shared.f32 [%rd8], %f1;
    bar.sync 0;
    xor.b32 %r5, %r1, 127;  mul.wide.u32 %rd6, %r5, 4;  add.s64 %rd8, %rd7, %rd6;
    ld.shared.f32 %f2, [%rd8];
    st.global.f32 [%rd4], %f2;"""
)


def test_shared_memory_behind_a_barrier(order):
    x, out = np.arange(1280, dtype=np.float32), Memory(4 * 1280)
    run(ptx(REVERSED, shared=512), Memory(x), out, blocks=10, threads=128)
    np.testing.assert_array_equal(out.read(np.float32), x.reshape(10, 128)[:, ::-1].reshape(-1))


@pytest.mark.parametrize(
    ("kind", "b", "c", "source"),
    [
        ("bfly", 5, 0x1F, lambda i: i ^ 5),
        ("idx", 7, 0x1F, lambda i: 7),
        ("up", 3, 0, lambda i: i - 3 if i >= 3 else i),
        ("down", 4, 0x1F, lambda i: i + 4 if i + 4 < 32 else i),
        ("down", 4, 0x181F, lambda i: i + 4 if i % 8 + 4 < 8 else i),  # in segments of 8 lanes
        ("idx", 2, 0x181F, lambda i: i // 8 * 8 + 2),
    ],
)
def test_shuffles(order, kind, b, c, source):
    text = ptx(
        OWN_ELEMENT
        + f"ld.global.b32 %r5, [%rd3]; shfl.sync.{kind}.b32 %r6|%p1, %r5, {b}, {c}, -1; st.global.b32 [%rd4], %r6;"
    )
    x, out = np.arange(100, 164, dtype=np.int32), Memory(256)
    run(text, Memory(x), out, threads=64)
    lanes = np.array([i // 32 * 32 + source(i % 32) for i in range(64)])
    np.testing.assert_array_equal(out.read(np.int32), x[lanes])


def test_votes(order):
    text = ptx(
        OWN_ELEMENT
        + """
    ld.global.b32 %r5, [%rd3];  setp.gt.s32 %p1, %r5, 3;
    vote.sync.ballot.b32 %r6, %p1, -1;
    vote.sync.any.pred %p2, %p1, -1;  @%p2 add.s32 %r6, %r6, 1;
    st.global.b32 [%rd4], %r6;"""
    )
    x, out = np.arange(32, dtype=np.int32), Memory(128)
    run(text, Memory(x), out)
    np.testing.assert_array_equal(out.read(np.uint32), np.full(32, 0xFFFFFFF0 + 1))


def test_atomics_of_many_blocks(order):
    text = ptx(
        "atom.global.add.u32 %r5, [%rd1], 1;  atom.global.max.s32 %r6, [%rd1+4], %r1;  red.global.add.f32 [%rd2], 0f3F000000;"
    )
    numbers, total = Memory(np.array([5, 7], np.int32)), Memory(np.zeros(1, np.float32))
    run(text, numbers, total, blocks=7, threads=48)
    np.testing.assert_array_equal(numbers.read(), [5 + 7 * 48, 47])
    assert total.read()[0] == 7 * 48 / 2


def test_loops_branches_and_predicates(order):
    """Collatz steps of 1 to 64."""
    text = ptx(
        OWN_ELEMENT
        + """
    ld.global.u32 %r5, [%rd3];  mov.u32 %r6, 0;
$again:
    setp.eq.u32 %p1, %r5, 1;
    @%p1 bra $done;
    and.b32 %r7, %r5, 1;  setp.ne.u32 %p2, %r7, 0;
    @%p2 mad.lo.s32 %r8, %r5, 3, 1;
    @!%p2 shr.u32 %r8, %r5, 1;
    mov.u32 %r5, %r8;  add.s32 %r6, %r6, 1;
    bra.uni $again;
$done:
    st.global.u32 [%rd4], %r6;"""
    )

    def steps(n):
        return 0 if n == 1 else 1 + steps(3 * n + 1 if n % 2 else n // 2)

    x, out = np.arange(1, 65, dtype=np.uint32), Memory(256)
    run(text, Memory(x), out, threads=64)
    np.testing.assert_array_equal(out.read(np.uint32), [steps(int(n)) for n in x])


def test_vectors_and_scopes():
    text = ptx("""
    { .reg .b32 %f1; ld.global.v4.b32 {%r5, %r6, %r7, %f1}, [%rd1]; mov.b32 %r8, %f1; }
    st.global.v4.b32 [%rd2], {%r8, %r7, %r6, %r5};""")
    out = Memory(16)
    run(text, Memory(np.array([1, 2, 3, 4], np.int32)), out, threads=1)
    np.testing.assert_array_equal(out.read(np.int32), [4, 3, 2, 1])


def unary(instruction, x, to=np.float32):
    """An instruction from %f1 or, of 8 bytes, %fd1 to one of these."""
    registers = {4: ("f32", "%f"), 8: ("f64", "%fd")}
    (kind, source), (result, target) = registers[x.itemsize], registers[np.dtype(to).itemsize]
    source, target = f"{source}1", f"{target}2"
    text = ptx(
        f"mul.wide.u32 %rd5, %r1, {x.itemsize};  add.s64 %rd3, %rd1, %rd5;  mul.wide.u32 %rd6, %r1, {np.dtype(to).itemsize};"
        f"add.s64 %rd4, %rd2, %rd6;\nld.global.{kind} {source}, [%rd3]; {instruction.format(r=target, a=source)} st.global.{result} [%rd4], {target};"
    )
    out = Memory(x.size * np.dtype(to).itemsize)
    run(text, Memory(x), out, threads=x.size)
    return out.read(to)


SPECIAL = np.array([0.0, -0.0, 1.0, -1.5, 3e38, 1e-40, np.inf, -np.inf, np.nan, 7.25], np.float32)


def test_arithmetic_of_floats():
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(unary("div.rn.f32 {r}, {a}, 0f40400000;", SPECIAL), SPECIAL / np.float32(3))
        np.testing.assert_array_equal(unary("cvt.f64.f32 {r}, {a};", SPECIAL, np.float64), SPECIAL.astype(np.float64))
        sums = unary("add.ftz.f32 {r}, {a}, 0f00000001;", SPECIAL)
    np.testing.assert_array_equal(sums, np.where(np.abs(SPECIAL) < 1e-38, 0, SPECIAL))  # subnormal numbers are 0
    fused = unary("fma.rn.f32 {r}, {a}, {a}, 0fBF800000;", np.array([1 + 2.0**-12], np.float32))
    assert fused[0] == np.float32((1 + 2.0**-12) ** 2 - 1) != np.float32(1 + 2.0**-12) ** 2 - 1
    down, up = (
        unary(f"fma.{way}.f32 {{r}}, {{a}}, 0f3DCCCCCD, 0f3F800000;", np.ones(1, np.float32))[0] for way in ("rm", "rp")
    )
    assert np.nextafter(down, np.float32(2)) == up
    np.testing.assert_array_equal(
        unary("ex2.approx.ftz.f32 {r}, {a};", np.array([3, -0.0, -np.inf, -130], np.float32)), [8, 1, 0, 0]
    )


def test_what_nan_and_zeros_do():
    others = unary("max.f32 {r}, {a}, 0f00000000;", SPECIAL)
    np.testing.assert_array_equal(others, np.fmax(SPECIAL, 0))
    assert not np.signbit(others[1])  # max(-0, 0)
    for relation, holds in [("ne", False), ("neu", True), ("lt", False), ("ltu", True), ("num", False), ("nan", True)]:
        text = f"setp.{relation}.f32 %p1, {{a}}, {{a}}; selp.f32 {{r}}, 0f3F800000, 0f00000000, %p1;"
        assert unary(text, np.array([np.nan], np.float32))[0] == holds, relation


def test_integers_from_floats_saturate():
    x = np.array([np.nan, 1e30, -1e30, 2.5, -2.5], np.float32)
    got = unary("cvt.rzi.s32.f32 %r5, {a}; cvt.rn.f64.s32 {r}, %r5;", x, np.float64)
    np.testing.assert_array_equal(got, [0, 2**31 - 1, -(2**31), 2, -2])


def test_approximations_are_off_when_asked_to_be(monkeypatch):
    x = np.linspace(-20, 5, 200, dtype=np.float32)
    exact = unary("ex2.approx.ftz.f32 {r}, {a};", x)
    monkeypatch.setenv("DRIVER_APPROXIMATE", "1")
    got = unary("ex2.approx.ftz.f32 {r}, {a};", x)
    off = np.abs(got.astype(np.float64) - exact) / np.spacing(exact)
    assert 1 <= off.max() <= 2


# --- kernels that are wrong ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "offset"), [("load", 0), ("store", 0), ("load", -160)])
def test_out_of_bounds(order, kind, offset):
    access = f"ld.global.f32 %f1, [%rd3+{offset}];" if kind == "load" else f"st.global.f32 [%rd3+{offset}], %f1;"
    text = ptx(OWN_ELEMENT + f"mov.f32 %f1, 0f00000000;\n{access}")
    code, thread, block, line, reason = failure(text, Memory(np.zeros(39, np.float32)), 0, blocks=2, threads=20)
    assert (code, line) == (700, line_of(text, access)) and access[:-1] in reason
    assert offset or (thread, block) == (19, 1) and "from byte 156 on of 156" in reason


def test_memory_that_is_freed():
    memory = Memory(np.zeros(8, np.float32))
    memory.free()
    assert failure(ptx(OWN_ELEMENT + "ld.global.f32 %f1, [%rd3];"), memory, 0, threads=8)[0] == 700
    assert failure(ptx(OWN_ELEMENT + "ld.global.f32 %f1, [%rd3];"), 0, 0, threads=8)[0] == 700


def test_misaligned():
    text = ptx("add.s64 %rd3, %rd1, 4;\nld.global.v2.f32 {%f1, %f2}, [%rd3];")
    code, thread, _, line, _ = failure(text, Memory(np.zeros(8, np.float32)), 0, threads=1)
    assert (code, thread, line) == (716, 0, line_of(text, "ld.global.v2"))


def test_never_written():
    text = ptx(
        OWN_ELEMENT
        + "setp.ne.u32 %p1, %r1, 5;\n@%p1 st.global.u32 [%rd3], %r1;\nbar.sync 0;\nld.global.u32 %r9, [%rd3];"
    )
    code, thread, _, line, reason = failure(text, Memory(32), 0, threads=8)
    assert (thread, line) == (5, line_of(text, "ld.global")) and "never written" in reason
    out = Memory(32)
    run(ptx(OWN_ELEMENT + "setp.ne.u32 %p1, %r1, 5;\n@%p1 st.global.u32 [%rd3], %r1;"), out, 0, threads=8)
    with pytest.raises(Failed, match="byte 20 was never written"):
        out.read()


@pytest.mark.parametrize("barrier", ["", "bar.warp.sync -1;"])
def test_race_in_shared_memory(order, barrier):
    text = ptx(REVERSED.replace("bar.sync 0;", barrier), shared=512)
    _, thread, _, line, reason = failure(text, Memory(np.zeros(128, np.float32)), Memory(512), threads=128)
    assert line in (line_of(text, "ld.shared"), line_of(text, "st.shared")) and re.search(
        r"races: .* thread \d+ has|never written", reason
    )


def test_a_barrier_of_the_warp_orders_the_warp(order):
    text = ptx(REVERSED.replace("bar.sync 0;", "bar.warp.sync -1;").replace("127", "31"), shared=512)
    x, out = np.arange(128, dtype=np.float32), Memory(512)
    run(text, Memory(x), out, threads=128)
    np.testing.assert_array_equal(out.read(np.float32), x.reshape(4, 32)[:, ::-1].reshape(-1))


def test_a_shuffle_orders_nothing(order):
    text = ptx(
        REVERSED.replace("bar.sync 0;", "shfl.sync.bfly.b32 %r9, %r1, 1, 31, -1;").replace("127", "31"), shared=512
    )
    _, _, _, line, reason = failure(text, Memory(np.zeros(128, np.float32)), Memory(512), threads=128)
    assert "races" in reason and line == line_of(text, "ld.shared")


@pytest.mark.parametrize("reads_first", [False, True])
def test_race_in_global_memory(order, reads_first):
    """Each writes its own element; a neighbour has read it, or will, with no barrier in between."""
    accesses = ["add.s64 %rd6, %rd3, 4;\nld.global.f32 %f1, [%rd6];\n", "st.global.f32 [%rd3], 0f3F800000;\n"]
    text = ptx(OWN_ELEMENT + "".join(accesses if reads_first else accesses[::-1]))
    assert "races" in failure(text, Memory(np.zeros(65, np.float32)), 0, threads=64)[-1]


def test_race_of_blocks(order):
    text = ptx("st.global.u32 [%rd1], %r2;")
    assert "block" in failure(text, Memory(4), 0, blocks=2, threads=1)[-1]


def test_atomics_do_not_race_with_one_another_but_with_others(order):
    text = ptx("atom.global.add.u32 %r5, [%rd1], 1;\nld.global.u32 %r6, [%rd1];")
    assert "races" in failure(text, Memory(np.zeros(1, np.int32)), 0, threads=32)[-1]


# A block leaves its number + 1; the one that comes last, by a counter, adds up what all have left.
HANDED_OVER = """
    mul.wide.u32 %rd5, %r2, 4;  add.s64 %rd3, %rd2, %rd5;  add.s32 %r3, %r2, 1;
    st.global.u32 [%rd3], %r3;
    membar.gl;  // behind
    atom.global.add.u32 %r4, [%rd1], 1;  mov.u32 %r5, %nctaid.x;  sub.s32 %r5, %r5, 1;
    setp.ne.u32 %p1, %r4, %r5;  @%p1 bra $done;
    membar.gl;  // before
    mov.u32 %r6, 0;  mov.u32 %r7, 0;
$again:
    mul.wide.u32 %rd5, %r6, 4;  add.s64 %rd3, %rd2, %rd5;  ld.volatile.global.u32 %r8, [%rd3];
    add.s32 %r7, %r7, %r8;  add.s32 %r6, %r6, 1;  setp.le.u32 %p1, %r6, %r5;  @%p1 bra $again;
    st.global.u32 [%rd1], %r7;
$done:
"""


def test_what_blocks_leave_one_another(order):
    ticket = Memory(np.zeros(1, np.int32))
    run(ptx(HANDED_OVER), ticket, Memory(4 * 9), blocks=9, threads=1)
    assert ticket.read()[0] == 45


@pytest.mark.parametrize("missing", ["membar.gl;  // behind", "membar.gl;  // before"])
def test_what_blocks_leave_one_another_without_a_fence(order, missing):
    text = ptx(HANDED_OVER.replace(missing, ""))
    _, _, _, line, reason = failure(text, Memory(np.zeros(1, np.int32)), Memory(4 * 9), blocks=9, threads=1)
    assert "without fences" in reason and line == line_of(text, "ld.volatile")


def test_what_blocks_leave_one_another_is_not_read_from_a_cache(order):
    text = ptx(HANDED_OVER.replace("ld.volatile", "ld"))
    reason = failure(text, Memory(np.zeros(1, np.int32)), Memory(4 * 9), blocks=9, threads=1)[-1]
    assert "races" in reason and "block" in reason


@pytest.mark.parametrize("what", ["bar.sync 0;", "shfl.sync.bfly.b32 %r5, %r1, 1, 31, -1;", "bar.warp.sync -1;"])
def test_reached_by_some_threads_only(order, what):
    text = ptx(f"setp.lt.u32 %p1, %r1, 20;\n@%p1 bra $there;\nret;\n$there:\n{what}")
    code, thread, _, line, reason = failure(text, 0, 0, threads=32)
    assert line == line_of(text, what) and re.search(r"waits for thread \d+, which has ended", reason)


def test_a_shuffle_under_another_mask(order):
    text = ptx("""
    setp.lt.u32 %p1, %r1, 16;  mov.u32 %r3, -1;  @%p1 mov.u32 %r3, 0xFFFF;
    shfl.sync.bfly.b32 %r5, %r1, 1, 31, %r3;""")
    assert "waits" in failure(text, 0, 0, threads=32)[-1]
    text = ptx("shfl.sync.idx.b32 %r5, %r1, 20, 31, 0xFFFF;")
    assert failure(text, 0, 0, threads=16)[-1]


@pytest.mark.parametrize(
    "body", ["sin.approx.f32 %f1, %f2;", "add.s32 %r5, %r6;", "add.s32 %r5, %r99, 1;", "ld.global.v8.f32 %f1, [%rd1];"]
)
def test_what_is_not_in_the_table_is_refused_with_its_line(body):
    text = ptx(f"mov.u32 %r3, 0;\n{body}")
    with pytest.raises(Failed, match=rf"line {line_of(text, body)}:") as caught:
        run(text, 0, 0)
    assert caught.value.code == 218


def test_functions_that_are_called_are_refused():
    with pytest.raises(Failed, match="line 4: functions"):
        run(ptx("").replace(".visible .entry", ".func f()\n{\nret;\n}\n.visible .entry"), 0, 0)


# --- the table ----------------------------------------------------------------------------------------------------------

EDGES = [0, 1, 2, 5, 31, 32, 63, 64, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1]


def signed(value, width):
    value &= 2**width - 1
    return value - 2**width if value >> (width - 1) else value


@pytest.mark.parametrize("width", [32, 64])
def test_integers_at_the_edges(width):
    pairs = np.array(list(itertools.product(EDGES, EDGES)), np.uint64)
    register, kind = {32: ("r", "u32"), 64: ("rd", "u64")}[width]
    a, b, r = f"%{register}10", f"%{register}11", f"%{register}12"

    def quotient(x, y):
        return abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1)

    expected = {
        f"add.s{width}": lambda a, b: a + b,
        f"mul.lo.s{width}": lambda a, b: a * b,
        f"mul.hi.u{width}": lambda a, b: a * b >> width,
        f"mul.hi.s{width}": lambda a, b: signed(a, width) * signed(b, width) >> width,
        f"div.u{width}": lambda a, b: a // b if b else 2**width - 1,
        f"div.s{width}": lambda a, b: quotient(signed(a, width), signed(b, width)) if b else 2**width - 1,
        f"max.s{width}": lambda a, b: max(signed(a, width), signed(b, width)),
        f"min.u{width}": lambda a, b: min(a, b),
        f"shl.b{width}": lambda a, b: a << min(b & 0xFFFFFFFF, width),
        f"shr.s{width}": lambda a, b: signed(a, width) >> min(b & 0xFFFFFFFF, width),
    }
    body = "mul.wide.u32 %rd5, %r1, 16;  add.s64 %rd3, %rd1, %rd5;  ld.global.u64 %rd10, [%rd3];  ld.global.u64 %rd11, [%rd3+8];\n"
    body += "cvt.u32.u64 %r10, %rd10;  cvt.u32.u64 %r11, %rd11;\n"
    body += f"mul.wide.u32 %rd5, %r1, {8 * len(expected)};  add.s64 %rd4, %rd2, %rd5;\n"
    for k, name in enumerate(expected):
        second = b if not name.startswith("sh") else "%r11"
        body += f"{name} {r}, {a}, {second};  cvt.u64.{kind} %rd13, {r};  st.global.u64 [%rd4+{8 * k}], %rd13;\n"
    out = Memory(8 * len(expected) * len(pairs))
    run(ptx(body), Memory(pairs), out, threads=len(pairs))
    got = out.read(np.uint64).reshape(len(pairs), -1)
    mask = 2**width - 1
    for k, (name, function) in enumerate(expected.items()):
        right = [function(int(x) & mask, int(y) & mask) & mask for x, y in pairs]
        np.testing.assert_array_equal(got[:, k], np.array(right, np.uint64), err_msg=name)
