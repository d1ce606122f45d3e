"""The cost model of kernels on a GPU, `ptx/costs.py`; what it is given is tested in `ptx/test_counts.py`."""

import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "ptx"))
import costs
import machine
from by_hand import ptx
from opcodes import TABLE

A100, H100, H200 = costs.GPUS.values()


# --- occupancy --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("threads", "registers", "blocks"),
    [
        (
            512,
            64,
            2,
        ),  # CUDA C++ Programming Guide, 8.2.3: two blocks need all registers, and with one more there is one
        (512, 65, 1),
        (128, 37, 12),  # CUDA C++ Best Practices Guide, 11.1.1: 75 %, and with 320 threads 63 %
        (320, 37, 4),
        (1024, 32, 2),  # all 64 warps
        (32, 16, 32),  # the most blocks that there can be
    ],
)
def test_published_examples(threads, registers, blocks):
    assert costs.blocks_at_once(H100, threads, registers, 0) == blocks


def test_shared_memory_limits_blocks():
    # A100 and H100 tuning guides: up to 163 and 227 KiB for a block, 1 KiB is kept for each
    assert costs.blocks_at_once(A100, 32, 16, 163 << 10) == costs.blocks_at_once(H100, 32, 16, 227 << 10) == 1
    assert costs.blocks_at_once(A100, 32, 16, 164 << 10) == costs.blocks_at_once(H100, 32, 16, 228 << 10) == 0
    assert costs.blocks_at_once(H100, 32, 16, 18 << 10) == 12


# --- instructions -----------------------------------------------------------------------------------------------------


def test_every_form_that_can_be_executed_has_its_costs():
    for name in TABLE:
        units = costs.work(name.removesuffix(".pair").removesuffix(".pack").removesuffix(".unpack"))
        assert units.keys() <= H100.rates.keys(), name
    with pytest.raises(KeyError, match=r"wgmma\.sync"):
        costs.work("wgmma.sync")


@pytest.mark.parametrize(
    ("form", "units"),
    [
        ("fma.rn.f32", {"float32": 1, "issue": 1}),
        ("fma.rn.f64", {"float64": 1, "issue": 1}),
        ("add.s64", {"alu": 2, "issue": 2}),
        ("mad.lo.s32", {"multiply": 1, "issue": 1}),
        ("ex2.approx.ftz.f32", {"special": 1, "issue": 1}),
        ("setp.lt.or.f32", {"alu": 1, "issue": 1}),
        ("selp.f64", {"alu": 2, "issue": 2}),
        ("ld.global.nc.v4.f32", {"issue": 1}),
        ("ld.param.u64", {"issue": 0}),
        ("bar.sync", {"issue": 1}),
    ],
)
def test_costs_of_forms(form, units):
    assert costs.work(form) == units


# --- predictions ------------------------------------------------------------------------------------------------------


@pytest.fixture
def of_32_registers(monkeypatch):
    monkeypatch.setattr(costs, "resources", lambda *of: costs.Resources(32, 0, 100))


def counts(issued, sectors=0, again=(), blocks=2048, run=2048, clocks=0):
    return {
        "blocks": blocks, "run": run, "threads": 256, "shared": 0, "issued": issued, "read": sectors, "written": 0, "lines": sectors // 4,
        "first_read": sectors - sum(again), "first_written": 0, "wavefronts": 0, "barriers": 0, "again": list(again), "clocks": clocks * run,
    }  # fmt: skip


def test_memory_binds_a_plain_read(of_32_registers):
    for gpu in costs.GPUS.values():
        found = costs.predicted(counts([("ld.global.v4.f32", 1 << 21)], 1 << 25), "", gpu)
        assert found.binding == "memory" and found.at_best == found.expected == (1 << 30) / gpu.bandwidth
        assert (found.warps, found.waves) == (64, 2048 / (8 * gpu.multiprocessors))


def test_arithmetic_binds_where_there_is_enough_of_it(of_32_registers):
    """A data sheet's peak, in operations of which a fused product has two."""
    for gpu, peak in ((A100, 19.5e12), (H100, 67e12), (H200, 67e12)):
        found = costs.predicted(counts([("fma.rn.f32", 1 << 30)], 1 << 20), "", gpu)
        assert found.seconds["float32"] == pytest.approx((1 << 30) * 32 * 2 / peak)
        assert found.binding in ("float32", "issue")  # which are as fast on a Hopper


def test_some_blocks_stand_for_all(of_32_registers):
    part = costs.predicted(counts([("fma.rn.f32", 1 << 20)], 1 << 20, run=64), "", H100)
    whole = costs.predicted(counts([("fma.rn.f32", 1 << 25)], 1 << 25), "", H100)
    assert part.seconds == whole.seconds


def test_what_is_read_again_comes_from_the_second_level_cache_if_it_is_still_there(of_32_registers):
    """8 blocks on each of 132 multiprocessors: 50 MiB are 48 KiB for each."""
    near, far = [0] * 48, [0] * 48
    near[12], far[16] = 1 << 20, 1 << 20  # after 4 to 8, and 64 to 128 KiB
    for again, moved in ((near, 1 << 20), (far, 1 << 21)):
        found = costs.predicted(counts([], 1 << 21, again), "", H100)
        assert found.seconds["memory"] == pytest.approx(moved * 32 / H100.bandwidth)


def test_waiting_comes_on_top(of_32_registers):
    """2048 blocks, 1056 at a time, take two turns."""
    read = costs.predicted(counts([], 1 << 25, clocks=10_000), "", H100)
    alone = 2 * 10_000 / H100.clock
    assert (read.at_best, read.expected) == (max(read.seconds.values()), pytest.approx(read.at_best + alone))
    assert costs.predicted(counts([], 0, clocks=10_000), "", H100).at_best == alone


def test_registers_that_the_assembler_reports():
    """More values that live at the same time, more registers; no fewer than these values, and no spills."""
    pytest.importorskip("cuda.bindings.nvjitlink", reason="nvJitLink, of the extra 'cuda', is not installed")

    def kernel(n):
        loads = "\n".join(f"ld.global.volatile.f32 %f{k}, [%rd1+{4 * k}];" for k in range(n))
        stores = "\n".join(f"st.global.volatile.f32 [%rd2+{4 * k}], %f{n - 1 - k};" for k in range(n))
        return ptx(loads + stores).replace("global.volatile", "volatile.global")

    for gpu in (A100, H100):
        few, many = (costs.resources(kernel(n), gpu.capability) for n in (4, 19))
        assert 4 <= few.registers <= many.registers and many.registers >= 19
        assert few.spilled == many.spilled == 0
        assert 8 < few.instructions < many.instructions


@pytest.mark.full
@pytest.mark.skipif(machine.reason_missing() is not None, reason=str(machine.reason_missing()))
def test_a_case_of_the_benchmark():
    """Squared differences move nothing twice, and do little besides."""
    program = """
import sys; sys.path.insert(0, sys.argv[1])
from gpu_cases import cases
from gpu_predict import predictions
(found,) = predictions([case for case in cases() if case.name == "mse_loss 134217728 float32"], ["H100"])
assert found.binding == "memory" and found.share > 0.6 and 0.97 < found.share_at_best < 1.03, found
"""
    bench = Path(__file__).parents[1] / "bench"
    subprocess.run([sys.executable, "-c", program, bench], check=True, timeout=600)
