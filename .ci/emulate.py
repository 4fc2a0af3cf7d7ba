#!/usr/bin/env python3
"""Run a Linux program on an emulated x86-64 processor with AVX-512, which the machine itself need not have.

    emulate.py PROGRAM [ARGUMENT...]

The processor is that of Bochs (the package bochscpu-python); memory and the few system calls that a single-threaded test
program makes are given here. Files can be read, nothing but standard output and error can be written, and there are no
threads. Exit status: that of the program; 70 if it needs more than this.
"""
import ctypes
import mmap
import os
import struct
import sys
import time

import bochscpu
import bochscpu.cpu
import bochscpu.memory

PAGE = 4096
SIZE = 2 << 30
NORESERVE = 0x4000
PML4, PDPT, DIRECTORIES, STUB = 0x1000, 0x2000, 0x3000, 0x8000
PROGRAM, INTERPRETER = 0x400000, 0x10000000
ENVIRONMENT = ("RUST_BACKTRACE=0",)
ENOENT, EBADF, EAGAIN, EACCES, ENOTTY, ENOSYS = 2, 9, 11, 13, 25, 38

ram = mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NORESERVE)
host = ctypes.addressof(ctypes.c_char.from_buffer(ram))


def fail(message):
    sys.stdout.flush()
    print(f"emulate: {message}", file=sys.stderr, flush=True)
    os._exit(70)


def words(at, *values):
    struct.pack_into(f"<{len(values)}Q", ram, at, *(value & (1 << 64) - 1 for value in values))


def pages(size):
    return (size + PAGE - 1) & -PAGE


def text(at):
    return ram[at : ram.find(b"\0", at)].decode()


class Program:
    """An ELF file in memory."""

    def __init__(self, path, base):
        with open(path, "rb") as file:
            data = file.read()
        kind, machine = struct.unpack_from("<HH", data, 16)
        if data[:4] != b"\x7fELF" or machine != 62:
            fail(f"{path} is no program for x86-64")
        base = base if kind == 3 else 0
        entry, table = struct.unpack_from("<QQ", data, 24)
        self.header_size, self.headers = struct.unpack_from("<HH", data, 54)
        self.entry, self.base, self.end, self.table, self.interpreter = base + entry, base, 0, 0, None
        for number in range(self.headers):
            header = struct.unpack_from("<IIQQQQQQ", data, table + number * self.header_size)
            kind, _, offset, address, _, stored, size, _ = header
            if kind == 1:
                ram[base + address : base + address + stored] = data[offset : offset + stored]
                self.end = max(self.end, base + address + size)
                if offset <= table < offset + stored:
                    self.table = base + address + table - offset
            if kind == 3:
                self.interpreter = data[offset : offset + stored].rstrip(b"\0").decode()


class Kernel:
    """The system calls."""

    def __init__(self, heap):
        self.heap = self.first = pages(heap)
        self.top = SIZE - (64 << 20)
        self.free = {}

    def take(self, size):
        size = pages(size)
        if self.free.get(size):
            at = self.free[size].pop()
            ram[at : at + size] = bytes(size)
            return at
        self.top -= size
        if self.top < self.heap:
            fail("no memory left")
        return self.top

    def map(self, at, size, _protection, flags, file, offset):
        fixed, anonymous = flags & 0x10, flags & 0x20
        place = at if fixed else self.take(size)
        if fixed or not anonymous:
            ram[place : place + pages(size)] = bytes(pages(size))
        if not anonymous:
            data = os.pread(file, size, offset)
            ram[place : place + len(data)] = data
        return place

    def unmap(self, at, size, *_):
        if at >= self.top:
            self.free.setdefault(pages(size), []).append(at)
        return 0

    def grow(self, end, *_):
        if self.first <= end < self.top:
            if end < self.heap:
                ram[end : self.heap] = bytes(self.heap - end)
            self.heap = end
        return self.heap

    def write(self, file, at, size, *_):
        return os.write(file, ram[at : at + size]) if file in (1, 2) else -EBADF

    def write_parts(self, file, at, count, *_):
        return sum(self.write(file, *struct.unpack_from("<QQ", ram, at + 16 * i)) for i in range(count))

    def open(self, _directory, path, flags, *_):
        path = text(path)
        # What is said there of this process is not true of the program.
        if path.startswith("/proc") or flags & 3:
            return -EACCES if flags & 3 else -ENOENT
        try:
            return os.open(path, os.O_RDONLY)
        except OSError as error:
            return -error.errno

    def read(self, file, at, size, *_):
        data = os.read(file, size)
        ram[at : at + len(data)] = data
        return len(data)

    def read_at(self, file, at, size, offset, *_):
        data = os.pread(file, size, offset)
        ram[at : at + len(data)] = data
        return len(data)

    def close(self, file, *_):
        if file > 2:
            os.close(file)
        return 0

    def status(self, file, at, *_):
        of = os.fstat(file)
        struct.pack_into("<QQQIIIIQqqq", ram, at, of.st_dev, of.st_ino, of.st_nlink, of.st_mode, 0, 0, 0, 0, of.st_size, PAGE, 0)
        return 0

    def status_at(self, directory, path, at, flags, *_):
        return self.status(directory, at) if flags & 0x1000 and text(path) == "" else -ENOENT

    def clock(self, clock, at, *_):
        now = time.clock_gettime_ns(time.CLOCK_REALTIME if clock == 0 else time.CLOCK_MONOTONIC)
        words(at, *divmod(now, 10**9))
        return 0

    def random(self, at, size, *_):
        ram[at : at + size] = os.urandom(size)
        return size

    def limits(self, _process, _kind, _new, old, *_):
        if old:
            words(old, 8 << 20, -1)
        return 0

    def processors(self, _process, size, at, *_):
        ram[at : at + 8] = (1).to_bytes(8, "little")
        return 8

    def exit(self, status, *_):
        sys.stdout.flush()
        os._exit(status & 255)


def run(arguments):
    program = Program(arguments[0], PROGRAM)
    loader = Program(program.interpreter, INTERPRETER) if program.interpreter else None
    kernel = Kernel(program.end + (1 << 20))

    def nothing(*_):
        return 0

    def missing(*_):
        return -ENOENT

    calls = {
        0: kernel.read, 1: kernel.write, 3: kernel.close, 5: kernel.status, 9: kernel.map, 11: kernel.unmap, 12: kernel.grow,
        17: kernel.read_at, 20: kernel.write_parts, 60: kernel.exit, 204: kernel.processors, 228: kernel.clock, 231: kernel.exit,
        257: kernel.open, 262: kernel.status_at, 302: kernel.limits, 318: kernel.random,
        # Terminals, files that are looked for.
        # Threads: a test program that gets none runs its tests one after the other.
        56: lambda *_: -EAGAIN, 435: lambda *_: -ENOSYS,
        16: lambda *_: -ENOTTY, 21: missing, 89: missing, 267: missing, 332: lambda *_: -ENOSYS,
        # Protection, signals, advice, waiting, robust lists: of no use with one thread and no other process.
        7: nothing, 10: nothing, 13: nothing, 14: nothing, 24: nothing, 28: nothing, 131: nothing, 202: nothing, 273: nothing,
        39: lambda *_: 1, 186: lambda *_: 1, 218: lambda *_: 1, 334: lambda *_: -ENOSYS,
    }

    def call(session, _processor, _what):
        cpu = session.cpu
        number, values = cpu.rax, (cpu.rdi, cpu.rsi, cpu.rdx, cpu.r10, cpu.r8, cpu.r9)
        # Descriptors may be negative; addresses lie below.
        values = tuple(value - (1 << 32) if value >> 31 == 1 else value for value in values)
        if number == 158:
            if values[0] != 0x1002:
                fail(f"arch_prctl({values[0]:#x})")
            segment = cpu.fs
            segment.base = values[1]
            cpu.fs = segment
            result = 0
        elif number in calls:
            try:
                result = calls[number](*values)
            except OSError as error:
                result = -error.errno
        else:
            fail(f"system call {number} is not there")
        cpu.rax = result & (1 << 64) - 1

    def exception(session, _processor, vector, code):
        cpu = session.cpu
        fail(f"exception {vector} (code {code:#x}) at {cpu.rip:#x}, address {cpu.cr2:#x}, bytes {ram[cpu.rip : cpu.rip + 12].hex()}")

    def missing_page(address):
        address &= -PAGE
        if address >= SIZE:
            fail(f"address {address:#x} is beyond the memory")
        bochscpu.memory.page_insert(address, host + address)

    session = bochscpu.Session()
    session.missing_page_handler = missing_page
    state = bochscpu.State()
    bochscpu.cpu.set_long_mode(state)
    # Pages of 2 MiB, each where it says. System calls end up at a stub that the hook below sees, and go on behind the call.
    words(PML4, PDPT | 7)
    for number in range(SIZE >> 30):
        words(PDPT + 8 * number, DIRECTORIES + PAGE * number | 7)
        words(DIRECTORIES + PAGE * number, *(number << 30 | i << 21 | 0x87 for i in range(512)))
    ram[STUB : STUB + 4] = bytes((0x0F, 0x09, 0xFF, 0xE1))  # wbinvd; jmp rcx
    state.cr0, state.cr3, state.cr4, state.efer = 0x80050033, PML4, 0x406E0, 0x501
    state.xcr0 = 0xE7  # x87, SSE, AVX and the three parts of AVX-512
    state.star, state.lstar, state.sfmask = 8 << 32, STUB, 0
    state.fpcw, state.mxcsr, state.mxcsr_mask, state.rflags = 0x37F, 0x1F80, 0xFFFF, 2

    def segment(selector, attributes):
        made = bochscpu.Segment()
        made.present, made.selector, made.base, made.limit, made.attr = True, selector, 0, 0xFFFFFFFF, attributes
        return made

    state.cs = segment(8, 0xA09B)
    for name in ("ss", "ds", "es", "fs", "gs"):
        setattr(state, name, segment(16, 0xC093))

    at = SIZE - PAGE

    def push(data):
        nonlocal at
        at -= len(data)
        ram[at : at + len(data)] = data
        return at

    random, platform = push(os.urandom(16)), push(b"x86_64\0")
    names = [push(argument.encode() + b"\0") for argument in arguments]
    environment = [push(setting.encode() + b"\0") for setting in ENVIRONMENT]
    auxiliary = {
        3: program.table, 4: program.header_size, 5: program.headers, 6: PAGE, 7: loader.base if loader else 0, 8: 0,
        9: program.entry, 11: 0, 12: 0, 13: 0, 14: 0, 15: platform, 16: 0x178BFBFF, 17: 100, 23: 0, 25: random, 31: names[0], 0: 0,
    }
    stack = [len(names), *names, 0, *environment, 0, *(word for pair in auxiliary.items() for word in pair)]
    at = (at - 8 * len(stack)) & -64
    words(at, *stack)
    state.rip, state.rsp = (loader or program).entry, at
    session.cpu.state = state
    hook = bochscpu.Hook()
    hook.cache_cntrl = call
    hook.exception = exception
    session.run([hook])
    fail(f"the processor stopped at {session.cpu.rip:#x}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    run(sys.argv[1:])
