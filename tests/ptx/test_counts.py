"""What is counted of kernels that were written by hand, where the counts are known."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from amounts import mostly_full
from by_hand import Memory, checked, driver, ptx, run


@pytest.fixture
def counted(tmp_path, monkeypatch):
    """Runs a kernel as `by_hand.run` does; what was counted of the launch."""
    path = tmp_path / "counts"
    monkeypatch.setenv("DRIVER_COSTS", str(path))

    def launch(*arguments, **options):
        run(*arguments, **options)
        return json.loads(path.read_text().splitlines()[-1])

    return launch


def issues(counts, form):
    return sum(n for name, n in counts["issued"] if name == form)


def own_bytes(n_bytes, from_byte=0):
    """Thread i of all has n_bytes at %rd3 and %rd4, in the first and the second array."""
    return f"""
    mov.u32 %r3, %ntid.x;  mad.lo.s32 %r4, %r2, %r3, %r1;
    mul.wide.s32 %rd5, %r4, {n_bytes};  add.s64 %rd5, %rd5, {from_byte};
    add.s64 %rd3, %rd1, %rd5;  add.s64 %rd4, %rd2, %rd5;
"""


COPY = own_bytes(4) + "ld.global.f32 %f1, [%rd3];  st.global.f32 [%rd4], %f1;"


def test_a_copy_whose_threads_are_neighbours(counted):
    n = 5 * 96
    counts = counted(ptx(COPY), Memory(np.zeros(n, np.float32)), Memory(4 * n), blocks=5, threads=96)
    assert counts["read"] == counts["written"] == counts["first_read"] == counts["first_written"] == n / 8
    assert issues(counts, "ld.global.f32") == issues(counts, "st.global.f32") == n / 32
    assert counts["lines"] == 2 * n / 32
    assert (counts["blocks"], counts["run"], counts["threads"]) == (5, 5, 96)


def test_vectors_of_16_bytes(counted):
    text = ptx(own_bytes(16) + "ld.global.v4.f32 {%f1, %f2, %f3, %f4}, [%rd3];")
    counts = counted(text, Memory(np.zeros(4 * 64, np.float32)), 0, threads=64)
    assert (counts["read"], counts["lines"], issues(counts, "ld.global.v4.f32")) == (32, 8, 2)


@pytest.mark.parametrize(
    ("stride", "offset", "sectors"),
    mostly_full([(1, 0, 4), (1, 1, 5), (2, 0, 8), (8, 0, 32), (32, 0, 32), (0, 0, 1)], lambda case: case[0] in (1, 32)),
)
def test_strides(counted, stride, offset, sectors):
    text = ptx(own_bytes(4 * stride, 4 * offset) + "ld.global.f32 %f1, [%rd3];")
    counts = counted(text, Memory(np.zeros(32 * 32 + 1, np.float32)), 0)
    assert counts["read"] == sectors


def test_products_in_a_loop_that_lanes_leave_at_different_times(counted):
    """Lane i goes around i % 8 + 1 times, so that a warp does 8 times."""
    text = ptx("""
    and.b32 %r3, %r1, 7;  mov.b32 %r4, 0;  mov.f32 %f1, 0f3F800000;
again:
    fma.rn.f32 %f1, %f1, %f1, %f1;  fma.rn.f32 %f2, %f1, %f1, %f1;
    add.s32 %r4, %r4, 1;  setp.le.s32 %p1, %r4, %r3;
    @%p1 bra again;""")
    counts = counted(text, 0, 0, blocks=3, threads=64)
    assert issues(counts, "fma.rn.f32") == 2 * 8 * 6
    assert issues(counts, "bra") == 8 * 6
    assert issues(counts, "and.b32") == 6


def test_what_is_guarded_takes_its_turn_but_no_memory(counted):
    text = ptx(
        own_bytes(4) + "setp.lt.s32 %p1, %r1, 8;  @%p1 ld.global.f32 %f1, [%rd3];  @!%p1 ex2.approx.f32 %f2, %f1;"
    )
    counts = counted(text, Memory(np.zeros(32, np.float32)), 0)
    assert (counts["read"], issues(counts, "ld.global.f32"), issues(counts, "ex2.approx.f32")) == (1, 1, 1)


def test_what_a_block_comes_back_to(counted):
    text = ptx(own_bytes(4) + "ld.global.f32 %f1, [%rd3];  ld.global.f32 %f2, [%rd3];  st.global.f32 [%rd3], %f2;")
    counts = counted(text, Memory(np.zeros(32, np.float32)), 0)
    assert (counts["read"], counts["written"], counts["first_read"], counts["first_written"]) == (8, 4, 4, 4)
    assert counts["again"][7] == sum(counts["again"]) == 4  # after 4 sectors, 128 bytes


@pytest.mark.parametrize(
    ("stride", "kind", "turns"),
    mostly_full(
        [(4, "f32", 1), (8, "f32", 2), (128, "f32", 32), (0, "f32", 1), (132, "f32", 1), (8, "f64", 2)],
        lambda case: case[0] in (8, 128),
    ),
)
def test_banks_of_shared_memory(counted, stride, kind, turns):
    register = {"f32": "%f1", "f64": "%fd1"}[kind]
    text = ptx(
        f"""
    mul.lo.s32 %r3, %r1, {stride};  mul.wide.u32 %rd3, %r3, 1;  mov.u64 %rd4, memory;  add.s64 %rd3, %rd3, %rd4;
    mov.{kind} {register}, {"0f00000000" if kind == "f32" else "0d0000000000000000"};
    setp.eq.s32 %p1, %r1, %r1;
    @%p1 st.shared.{kind} [%rd3], {register};"""
        if stride
        else "mov.u64 %rd3, memory;  setp.eq.s32 %p1, %r1, 0;  mov.f32 %f1, 0f00000000;  @%p1 st.shared.f32 [%rd3], %f1;",
        shared=32 * 132,
    )
    assert counted(text, 0, 0)["wavefronts"] == turns


def test_barriers_are_counted_by_warps(counted):
    counts = counted(ptx("bar.sync 0;  bar.sync 0;"), 0, 0, blocks=2, threads=96)
    assert counts["barriers"] == 2 * 2 * 3
    assert issues(counts, "bar.sync") == 12


def clocks(counted, text, **launch):
    return counted(ptx(text), Memory(np.zeros(64, np.float32)), 0, **launch)["clocks"]


def test_clocks_of_what_waits_for_each_other(counted):
    """Three products: one after the other, 4 clocks each but for the last, which is waited for by nobody; or side by side."""
    one, other = "fma.rn.f32 %f1, %f1, %f1, %f1;", "fma.rn.f32 %f{0}, %f9, %f9, %f9;"
    start = "mov.f32 %f1, 0f00000000;  mov.f32 %f9, %f1;"
    chain = clocks(counted, f"{start} {3 * one} setp.lt.f32 %p1, %f1, %f1;  @%p1 bra over;  over:")
    apart = clocks(
        counted,
        start + "".join(other.format(k) for k in (1, 2, 3)) + "setp.lt.f32 %p1, %f1, %f1;  @%p1 bra over;  over:",
    )
    assert chain - apart == 2 * 4


def test_clocks_of_memory_and_barriers(counted):
    """Loads that do not depend on each other are waited for together; what was read a moment ago is near."""
    load = "ld.global.f32 %f{0}, [%rd3+{1}];  "
    use = "add.f32 %f9, %f1, %f2;  setp.lt.f32 %p1, %f9, %f9;  @%p1 bra over;  over:"
    one = clocks(counted, own_bytes(4) + load.format(1, 0) + load.format(2, 0) + use)
    two = clocks(counted, own_bytes(4) + load.format(1, 0) + load.format(2, 128) + use)
    assert one == two > 475
    after = (
        own_bytes(4) + load.format(1, 0) + "setp.lt.f32 %p1, %f1, %f1;  @%p1 bra on;  on: " + load.format(2, 0) + use
    )
    assert 475 + 40 < clocks(counted, after) < 475 + 40 + 60
    assert clocks(counted, "bar.sync 0;  bar.sync 0;", threads=64) - clocks(counted, "bar.sync 0;", threads=64) >= 20


def test_some_blocks_for_all(counted, monkeypatch):
    monkeypatch.setenv("DRIVER_BLOCKS", "4")
    x, out = Memory(np.arange(16 * 32, dtype=np.float32)), Memory(np.zeros(16 * 32, np.float32))
    counts = counted(ptx(COPY), x, out, blocks=16)
    assert (counts["blocks"], counts["run"], counts["read"]) == (16, 4, 16)
    blocks = out.read().reshape(16, 32).any(axis=1)
    np.testing.assert_array_equal(np.flatnonzero(blocks), [2, 6, 10, 14])


def test_large_memory_repeats_itself(counted, monkeypatch):
    monkeypatch.setenv("DRIVER_BLOCKS", "1")
    large, piece = Memory(9 << 20), np.arange(1 << 18, dtype=np.uint32)
    checked(driver().cuMemcpyHtoD(large.address, piece.ctypes.data, piece.nbytes))
    np.testing.assert_array_equal(large.read(np.uint32), np.tile(piece, 9))
    large.free()
