"""The gates on machine code: what is read of loops, and what is found between instruction sets and builds."""

import dataclasses
import json
import platform
import shutil

import pytest
from amounts import mostly_full

import fastloss
from fastloss.bench import findings, gates, machine_code
from fastloss.bench.cases import CASES
from fastloss.bench.side import this_side
from fastloss.bench.turns import Subject
from fastloss.cli import main

x86 = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="reads x86-64")
MSE, ROWS = CASES["mse_loss/value/small"], CASES["cross_entropy/value/small"]

# An outer loop, whose division and whose access to the stack do not count; a loop of vectors with one number on the stack and an array there; a loop of
# single numbers; one without arithmetic.
TEXT = """
\t.text
kernel:
\tpushq\t%rbx
.LBB0_1:
\tvdivps\t%zmm1, %zmm2, %zmm3
\tmovq\t8(%rsp), %rax
.LBB0_2:                                # =>  This Inner Loop Header: Depth=2
\tvmovups\t(%rdi,%rax,4), %ymm1       # not arithmetic
\tvmulps\t-64(%rsp), %ymm1, %ymm1
\tvfmadd231ps\t16(%rsp,%rcx,4), %ymm1, %ymm0
\tvpaddd\t%zmm4, %zmm4, %zmm4
\taddq\t$8, %rax
\tjne\t.LBB0_2
.LBB0_3:
\tvaddss\t(%rdi,%rax,4), %xmm0, %xmm0
\tjl\t.LBB0_3
.LBB0_4:
\tmovq\t24(%rsp), %rax
\tjb\t.LBB0_4
\tjmp\t.LBB0_1
\tretq
"""

DISASSEMBLED = """
a.so:     file format elf64-x86-64

0000000000001000 <mse_sums_float>:
    1000:\txor    %eax,%eax
    1002:\tvaddpd 0x20(%rsp),%zmm0,%zmm1        # 2000 <table>
    1008:\tvmulsd %xmm1,%xmm2,%xmm3
    100a:\tjne    1002 <mse_sums_float+0x2>
    100c:\tret

0000000000001010 <mse_sums_double.constprop.0>:
    1010:\tret
"""


def test_loops_are_read():
    found = machine_code._counts([list(machine_code._assembly(TEXT))])
    assert found == {"vector-bits": round((256 + 256 + 32) / 3), "stack": 1}
    functions = dict(machine_code._disassembled(DISASSEMBLED))
    assert list(functions) == ["mse_sums_float", "mse_sums_double.constprop.0"]
    assert machine_code._counts(functions.values()) == {"vector-bits": (512 + 64) // 2, "stack": 1}
    with pytest.raises(machine_code.Unreadable, match="no floating-point arithmetic"):
        machine_code._counts([functions["mse_sums_double.constprop.0"]])


def test_functions_of_a_case():
    """Those of its formula, also where that is a variant; for rows, those of no formula; of the type that is computed in."""
    plain = {
        f"{name}_{real}": f"{name}_{real}" for name in ("mse_sums", "huber_sums", "mix") for real in ("float", "double")
    }
    assert machine_code._chosen(MSE, plain) == ["mse_sums_float"]
    assert machine_code._chosen(ROWS, plain | {"mix_float.isra.0": "mix_float"}) == ["mix_float", "mix_float.isra.0"]
    wide = dataclasses.replace(MSE, arrays=tuple(dataclasses.replace(a, dtype="float64") for a in MSE.arrays))
    assert machine_code._chosen(wide, plain) == ["mse_sums_double"]
    with pytest.raises(machine_code.Unreadable, match="this version has no nonesuch"):
        machine_code._chosen(dataclasses.replace(MSE, loss="nonesuch"), plain)


def test_what_can_not_be_read(monkeypatch):
    counted = machine_code.counted
    monkeypatch.setattr(machine_code.platform, "machine", lambda: "x86_64")
    assert counted(MSE, "numpy") == {"missing": "numpy has no machine code of its own"}
    if fastloss.backends()["cython"] == "available":
        monkeypatch.setattr(machine_code.shutil, "which", lambda name: None)
        assert counted(MSE, "cython") == {"missing": "objdump is not installed (it is part of binutils)"}
    monkeypatch.setattr(machine_code.platform, "machine", lambda: "riscv64")
    assert counted(MSE, "cython") == {"missing": "the machine code of riscv64 is not read"}


NARROW = (("FASTLOSS_CPU", "baseline"), ("NUMBA_CPU_NAME", "x86-64"), ("NUMBA_CPU_FEATURES", ""))
WIDE = (("FASTLOSS_CPU", "avx2"), ("NUMBA_CPU_NAME", "haswell"), ("NUMBA_CPU_FEATURES", ""))


def has_avx2():
    return pytest.importorskip("llvmlite.binding").get_host_cpu_features().get("avx2", False)


@x86
@pytest.mark.parametrize("backend", mostly_full(["cython", "numba"], "cython".__eq__))
def test_vectors_of_two_instruction_sets(backend):
    if fastloss.backends()[backend] != "available" or backend == "cython" and not shutil.which("objdump"):
        pytest.skip(f"needs {backend}, and objdump")
    if not has_avx2():
        pytest.skip("needs AVX2")
    narrow, wide = (dataclasses.replace(this_side(), environment=each) for each in (NARROW, WIDE))
    found = findings.Finding(Subject(MSE, backend))
    found.estimate = object()  # it has been timed

    def problems(*sides):
        found.problems.clear()
        assert gates.check([found], sides, gates.tolerances([]), gates.CODE, 1) == []
        return found.problems

    (problem,) = [what for kind, what in problems(narrow, wide) if "vector-bits" in what]
    new, old, tolerated = found.gates["vector-bits"]
    assert new <= 128 < old <= 256 and tolerated == 1.05
    assert problem.startswith(f"vector-bits: {new} against {old}")
    assert problems(wide, wide) == []
    assert found.gates["stack"][0] == found.gates["stack"][1] and found.gates["vector-bits"][:2] == (old, old)


@x86
@pytest.mark.full
def test_the_flag(capsys):
    if fastloss.backends()["cython"] != "available" or not shutil.which("objdump"):
        pytest.skip("needs compiled kernels, and objdump")
    arguments = [
        "--against",
        "FASTLOSS_CPU=baseline",
        "--cases",
        MSE.name,
        "--contenders",
        "fastloss-cython",
        "--machine-code",
    ]
    main(["bench", *arguments, "--seconds", "1", "--threads", "1", "--json"])
    (case,) = json.loads(capsys.readouterr().out)["cases"]
    assert {"vector-bits", "stack"} < set(case["gates"]) and case["gates"]["vector-bits"]["old"] <= 128
