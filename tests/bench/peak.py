"""The multiply-add peak of a core, measured by a loop that does nothing but independent multiply-adds: of numbers in f32, or of bytes
or bf16 numbers, if the core has instructions that add up products of four or two of them.

Fourteen accumulators hide the latency of both pipes (2 pipes x 4 cycles = 8 would do). The loop is written as machine
code, since no Python library promises to reach the peak:

            vzeroall                    so that no addition takes the slow way for denormal numbers
    again:  vfmadd231ps acc0, x, y      zmm with AVX-512, else ymm; acc is 0 to 13, x 14, y 15
            ...
            vfmadd231ps acc13, x, y
            dec rdi
            jnz again
            vzeroupper
            ret

In place of vfmadd231ps: vpdpbusd (int8), vdpbf16ps (bf16).
"""

import concurrent.futures
import ctypes
import dataclasses
import mmap
import os
import statistics
import threading
import time

ACCUMULATORS = 14
REPEATS = 400_000


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One that multiplies and adds, whose operands are like those of all others here."""

    opcode: int
    products: int
    """For each f32 or i32 that is added to."""
    prefix: int = 1
    """The last two bits of the VEX or EVEX prefix's `pp`: 1 for 66, 2 for F3."""
    wide: str = "avx512f"
    """The flag of /proc/cpuinfo for 512 bits, and the one for 256."""
    narrow: str = ""


INSTRUCTIONS = {
    "f32": Instruction(0xB8, 1, narrow="fma"),
    "int8": Instruction(0x50, 4, wide="avx512_vnni", narrow="avx_vnni"),
    "bf16": Instruction(0x52, 2, prefix=2, wide="avx512_bf16"),
}


def _code(instruction, wide):
    x = 14
    y = 15
    zero = b"\xc5\xfc\x77"  # vzeroall
    body = b""
    for acc in range(ACCUMULATORS):
        high = 0x80 if acc < 8 else 0x00  # the inverted fourth bit of acc
        modrm = 0xC0 | (acc & 7) << 3 | y & 7
        if wide:  # EVEX.512.pp.0F38.W0 opcode /r
            form = [(~x & 15) << 3 | 0x04 | instruction.prefix, 0x48]
            body += bytes([0x62, high | 0x52, *form, instruction.opcode, modrm])
        else:  # VEX.256.pp.0F38.W0 opcode /r
            form = [(~x & 15) << 3 | 0x04 | instruction.prefix]
            body += bytes([0xC4, high | 0x42, *form, instruction.opcode, modrm])
    body += b"\x48\xff\xcf"
    body += b"\x0f\x85" + (-(len(body) + 6)).to_bytes(4, "little", signed=True)
    return zero + body + b"\xc5\xf8\x77\xc3"


class Peak:
    """Measures the peak again and again; a shared machine is not equally fast at all times.

    With several cores, all run the loop at once. Then `scaling` tells how much of them this machine really has: the
    sum of their rates by the best rate of one.
    """

    def __init__(self, cores, precision="f32"):
        with open("/proc/cpuinfo") as cpuinfo:
            flags = next((line.split() for line in cpuinfo if line.startswith("flags")), [])
        instruction = INSTRUCTIONS[precision]
        wide = instruction.wide in flags
        if not wide and instruction.narrow not in flags:
            raise OSError(f"the peak of {precision} is only measured on x86-64 with instructions for it")
        self.flop = 2 * instruction.products * (16 if wide else 8) * ACCUMULATORS * REPEATS
        code = _code(instruction, wide)
        self._memory = mmap.mmap(-1, len(code), prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        self._memory.write(code)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        self._loop = ctypes.CFUNCTYPE(None, ctypes.c_uint64)(address)
        # One thread for each core, which stays there.
        self._threads = []
        for core in cores:
            thread = concurrent.futures.ThreadPoolExecutor(1)
            thread.submit(os.sched_setaffinity, 0, {core}).result()
            self._threads.append(thread)
        self._together = threading.Barrier(len(self._threads))
        self.best = 0.0
        self._sums = []

    def sample(self):
        """Runs the loop for a few milliseconds; `best` is the highest rate of one core so far, in FLOP/s."""
        futures = [thread.submit(self._rate) for thread in self._threads]
        rates = [future.result() for future in futures]
        self.best = max(self.best, *rates)
        self._sums.append(sum(rates))

    def scaling(self):
        """The median, of all samples, of what the cores did together by the best rate of one."""
        return statistics.median(self._sums) / self.best

    def _rate(self):
        self._together.wait()
        start = time.perf_counter()
        self._loop(REPEATS)
        return self.flop / (time.perf_counter() - start)
