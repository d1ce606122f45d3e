"""PTX to C, and C to a shared library of kernels: ``python translate.py kernels.ptx kernels.so libcuda.so.1``.

A statement becomes a block of C by its form in `opcodes.TABLE`.  Nothing is skipped: what is not understood is a `Refused` with its line.
"""

import functools
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from opcodes import SIZES, TABLE

HERE = Path(__file__).parent
FLAGS = ["-O1", "-fPIC", "-shared", "-fwrapv", "-ffp-contract=off", "-fno-strict-aliasing", "-mfma", "-mf16c", "-w"]

WIDTHS = {"pred": "pred", **{kind: f"b{8 * size}" for kind, size in SIZES.items()}}
POISON = {"pred": "1", "b8": "0xA5", "b16": "0xA5A5", "b32": "0x7FA5A5A5", "b64": "0x7FF5A5A5A5A5A5A5"}
SPECIAL = {
    f"%{name}.{axis}": f"t->{name}[{i}]" for name in ("tid", "ntid", "ctaid", "nctaid") for i, axis in enumerate("xyz")
}
SPECIAL |= {"%laneid": "t->lane", "%warpid": "t->warp", "WARP_SZ": "32"}

# Lines that say nothing about what a kernel computes.
_REMARK = re.compile(r"^[ \t]*\.(version|target|address_size|file|loc|maxntid|minnctapersm|reqntid|maxnreg)\b.*$", re.M)
_ENTRY = re.compile(r"\.entry\s+([\w$]+)\s*\(([^)]*)\)\s*\{")
_VARIABLE = re.compile(r"\.(shared|local)\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+([\w$]+)(?:\[(\d*)\])?")
_PARAMETER = re.compile(r"\.param\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+([\w$]+)(?:\[(\d+)\])?")
_STATEMENT = re.compile(r"(?:@(!?)(%?[\w$]+)\s+)?([a-zA-Z][\w.:]*)\s*(.*)", re.S)


class Refused(Exception):
    pass


def translated(ptx, counting=False):
    """The C of all kernels in a text of PTX; with counts of how often each instruction is executed, if wanted."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*", lambda m: "\n" * m.group().count("\n"), ptx, flags=re.S)
    text = _REMARK.sub("", text)
    first = re.search(r"\.func\b", text)
    if first:
        raise Refused(f"line {text[: first.start()].count(chr(10)) + 1}: functions that are called can't be executed")
    kernels, end, parts, branches = [], 0, ['#include "machine.h"\n'], []
    entries = list(_ENTRY.finditer(text))
    shared = Variables("shared", text[: entries[0].start() if entries else None])
    for entry in entries:
        end = _end_of_scope(text, entry.end())
        kernel = Kernel(entry, text, end, shared, counting, branches)
        parts.append(kernel.code(len(kernels)))
        kernels.append(kernel)
    rows = "".join(kernel.row(i) for i, kernel in enumerate(kernels))
    parts.insert(1, f"BRANCHES({len(branches)})\n")
    return "\n".join([*parts, f"const struct kernel kernels[] = {{\n{rows}    {{0}}\n}};\n"])


def _end_of_scope(text, start):
    depth = 1
    for brace in re.compile(r"[{}]").finditer(text, start):
        depth += 1 if brace.group() == "{" else -1
        if not depth:
            return brace.start()
    raise Refused("a scope has no end")


class Variables:
    """Those of a space that a text declares, one after another: where each starts, and the bytes of all."""

    def __init__(self, space, text):
        self.offsets, self.size = {}, 0
        for where, align, kind, name, n in _VARIABLE.findall(text):
            if where == space:
                align = int(align or SIZES[kind])
                self.offsets[name] = -(-self.size // align) * align
                self.size = self.offsets[name] + SIZES[kind] * int(n or 1)


class Kernel:
    def __init__(self, entry, text, end, shared, counting, branches):
        self.name, self.shared, self.branches = entry.group(1), shared, branches
        self.body, self.line = text[entry.end() : end], text[: entry.end()].count("\n") + 1
        self.local = Variables("local", self.body)
        own = Variables("shared", self.body)
        if own.size:
            raise Refused(f"line {self.line}: shared memory of one kernel's own can't be executed")
        self.parameters, self.sizes, at = {}, [], 0
        for align, kind, name, n in _PARAMETER.findall(entry.group(2)):
            size = SIZES[kind] * int(n or 1)
            align = int(align or SIZES[kind])
            at = -(-at // align) * align
            self.parameters[name] = at
            self.sizes.append(size)
            at += size
        self.registers, self.scopes, self.n_scopes = {}, [{}], 0
        self.sites, self.times = [] if counting else None, set()  # names of instructions, and variables; see `_timed`

    def row(self, i):
        sites = f", sites{i}, {len(self.sites)}" if self.sites else ""
        return f'    {{"{self.name}", run{i}, {self.shared.size}, {self.local.size}, {len(self.sizes)}, sizes{i}, offsets{i}{sites}}},\n'

    def code(self, i):
        statements = "".join(self._statement(line, text) for line, text in self._statements())
        numbers = ", ".join(map(str, self.sizes or [0]))
        offsets = ", ".join(map(str, self.parameters.values() or [0]))
        declared = "".join(f"    {kind} {name} = {POISON[kind]};\n" for name, kind in self.registers.items())
        declared += "".join(f"    u32 {name} = 0;\n" for name in sorted(self.times))
        local = f"    char local[{max(self.local.size, 1)}] __attribute__((aligned(16)));\n" if self.local.size else ""
        names = ", ".join(f'"{name}"' for name in self.sites or [])
        named = f"static const char *const sites{i}[] = {{{names}}};\n" if names else ""
        return (
            f"{named}static const unsigned sizes{i}[] = {{{numbers}}}, offsets{i}[] = {{{offsets}}};\n"
            f"static void run{i}(struct thread *t, const char *parameters)\n{{\n{local}{declared}{statements}}}\n"
        )

    # --- statements -----------------------------------------------------------------------------------------------------

    def _statements(self):
        """Each with its line; labels end with a colon, scopes are single braces."""
        start, i, depth, body = 0, 0, 0, self.body
        for mark in re.finditer(r"[;{}:]", body):
            i = mark.start()
            text = body[start:i].strip()
            line = self.line + body[: i - len(body[start:i].lstrip())].count("\n")
            sign = mark.group()
            if sign == ";" and text:
                yield line, text
            elif sign == ":" and re.fullmatch(r"[$\w]+", text) and body[i : i + 2] != "::":
                yield line, f"{text}:"
            elif sign in "{}" and not text and not depth:
                yield line, sign
            else:
                depth += {"{": 1, "}": -1}.get(sign, 0)
                continue
            start = i + 1
        if body[start:].strip():
            raise Refused(f"line {self.line}: text without an end")

    def _statement(self, line, text):
        try:
            return self._translated(line, text)
        except Refused as error:
            raise Refused(f"line {line}: {error}: {text}") from None

    def _translated(self, line, text):
        if text == "{":
            self.scopes.append({})
            self.n_scopes += 1
            return ""
        if text == "}":
            self.scopes.pop()
            return ""
        if text.endswith(":"):
            return f"{_label(text[:-1])}:;{' CATCH_UP;' if self.sites is not None else ''}\n"
        if text.startswith(".reg"):
            return self._declare(text)
        if text.startswith((".local", ".pragma")):
            return ""
        match = _STATEMENT.fullmatch(text)
        if not match:
            raise Refused("not a statement that can be executed")
        negated, guard, name, rest = match.groups()
        code = self._instruction(line, name, _operands(rest), " ".join(text.split()))
        if guard:
            condition = f"{'!' if negated else ''}{self._register(guard)[0]}"
            if name.startswith("bra"):
                condition = f"WENT({len(self.branches)}, {condition})"
                self.branches.append(line)
            code = f"if ({condition}) {code}"
        if self.sites is not None:
            code = self._timed(name, guard, code)
        return f"    {code}\n"

    def _timed(self, name, guard, code):
        """Code that counts and times the instruction as well."""
        import costs

        results, operands = ([w for part in parts for w in self._times_of(part)] for parts in self.flow)
        ready = functools.reduce("later({1}, {0})".format, [*operands, *self._times_of(guard or "")], "0")
        counted = f"COUNT({len(self.sites)}, {costs.work(name)['issue']}, {ready});"
        self.sites.append(name)
        if name.startswith(("bra", "ret", "exit", "bar")):
            return f"{counted} CATCH_UP; {code}"
        took = "t->took" if name.startswith(("ld.", "atom.")) and ".param" not in name else costs.latency(name)
        return " ".join([counted, code, *(f"{time} = t->when + {took};" for time in results)])

    def _times_of(self, operand):
        """Variables that tell when the registers in an operand have their values."""
        found = []
        for name in re.findall(r"%?[\w$]+", operand):
            if any(name in scope for scope in self.scopes):
                found.append(f"T{self._register(name)[0]}")
                self.times.add(found[-1])
        return found

    def _declare(self, text):
        kind, names = re.fullmatch(r"\.reg\s+\.(\w+)\s+(.*)", text, re.S).groups()
        for name in re.split(r"\s*,\s*", names.strip()):
            many = re.fullmatch(r"(%?\w+)<(\d+)>", name)
            for each in [f"{many.group(1)}{k}" for k in range(int(many.group(2)))] if many else [name]:
                own = "R" + re.sub(r"\W", "_", each) + (f"_in{self.n_scopes}" if len(self.scopes) > 1 else "")
                self.scopes[-1][each] = own, WIDTHS[kind]
        return ""

    def _register(self, name):
        for scope in reversed(self.scopes):
            if name in scope:
                self.registers[scope[name][0]] = scope[name][1]
                return scope[name]
        raise Refused(f"unknown: {name}")

    # --- instructions ---------------------------------------------------------------------------------------------------

    def _instruction(self, line, name, operands, text):
        if name.startswith("mov.") and any(type(operand) is list for operand in operands):
            name += ".unpack" if type(operands[0]) is list else ".pack"
        if operands and type(operands[0]) is str and "|" in operands[0]:
            name, operands = f"{name}.pair", [operands[0].split("|"), *operands[1:]]
        form = TABLE.get(name)
        if form is None:
            raise Refused(f"no such form in the table of opcodes: {name}")
        flat = [part.strip() for operand in operands for part in (operand if type(operand) is list else [operand])]
        n = len(form.results)
        self.flow = flat[:n], flat[n:]
        if len(flat) != n + len(form.operands):
            raise Refused(f"{n + len(form.operands)} operands expected")
        if form.operands == ("label",):
            return f"goto {_label(flat[0])};"
        taken = [
            f"const {'u64' if kind in ('address', 'parameter') else kind} {letter} = {self._value(operand, kind)};"
            for letter, kind, operand in zip("abcde", form.operands, flat[n:], strict=False)
        ]
        report = text.replace("\\", "/").replace('"', "'")
        action = re.sub(r"\bAT\b", f'"line {line}: {report}"', form.text)
        if form.text.endswith(";"):
            results = [f"{kind} r{k};" for k, kind in enumerate(form.results)]
            given = [
                self._given(out, kind, f"r{k}") for k, (out, kind) in enumerate(zip(flat, form.results, strict=False))
            ]
            return f"{{ {' '.join([*taken, *results, action, *given])} }}"
        return f"{{ {' '.join([*taken, self._given(flat[0], form.results[0], action)])} }}"

    def _given(self, register, kind, expression):
        """A result of a type to a register of its width or a wider one."""
        if register == "_":
            return ""
        name, width = self._register(register)
        if kind[0] == "f":
            expression = f"{WIDTHS[kind]}_of_{kind}({expression})"
        else:
            expression = f"({kind})({expression})"  # a signed type fills what is wider with its sign
        return f"{name} = ({width})({expression});"

    def _value(self, operand, kind):
        if kind == "address":
            base, _, offset = operand.strip("[]").partition("+")
            return f"(u64)({self._value(base.strip(), 'u64')}) + ({offset or 0})"
        if kind == "parameter":
            base, _, offset = operand.strip("[]").partition("+")
            if base not in self.parameters:
                raise Refused(f"unknown parameter: {base}")
            return f"{self.parameters[base] + int(offset or 0)}"
        number = _number(operand, kind)
        if number is None:
            number = self._named(operand)
        return f"{kind}_of({number})" if kind[0] == "f" else f"({kind})({number})"

    def _named(self, operand):
        if operand in SPECIAL:
            return SPECIAL[operand]
        if operand in self.shared.offsets:
            return f"t->shared + {self.shared.offsets[operand]}"
        if operand in self.local.offsets:
            return f"(u64)local + {self.local.offsets[operand]}"
        return self._register(operand)[0]


def _operands(text):
    """Operands; those in braces as lists."""
    found = re.findall(r"\{[^}]*\}|\[[^\]]*\]|[^,{}\[\]\s][^,{}\[\]]*", text)
    return [operand.strip("{}").split(",") if operand.startswith("{") else operand.strip() for operand in found]


def _number(operand, kind):
    """A constant as the bits of its type, or as an integer."""
    exact = re.fullmatch(r"0[fFdD]([0-9a-fA-F]+)", operand)
    if exact:
        return f"0x{exact.group(1)}u"
    if kind[0] != "f" and re.fullmatch(r"-?(0[xX][0-9a-fA-F]+|\d+)U?", operand):
        value = int(operand.rstrip("U"), 0)
        return f"{value & 0xFFFFFFFFFFFFFFFF:#x}u"
    if re.fullmatch(r"0x[0-9a-fA-F]+", operand):  # the bits of a float, in `mov.b32`
        return f"{operand}u"
    return None


def _label(name):
    return "L" + re.sub(r"\W", "_", name)


def compiled(source, to, driver, counting=None):
    """Translate and compile; the library appears under its name when it is complete."""
    try:
        code = translated(Path(source).read_text(), counting is not None)
    except Refused as error:
        raise SystemExit(f"{source}, {error}") from None
    with tempfile.TemporaryDirectory(dir=Path(to).parent) as folder:
        path = Path(folder) / "kernels.c"
        path.write_text(code)
        command = ["gcc", *FLAGS, f"-I{HERE}", "-o", f"{folder}/kernels.so", str(path), str(driver), "-lm"]
        subprocess.run(command, check=True)
        os.replace(f"{folder}/kernels.so", to)


if __name__ == "__main__":
    compiled(*sys.argv[1:])
