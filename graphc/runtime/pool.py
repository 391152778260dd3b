"""Threads that wait in native code for work, and the native function that hands it to them.

They are threads of Python, so that its locks can wake them, but hold the interpreter lock only to start. One
job runs at a time: a call that finds another one running does all its work itself, and so does a child that
was forked, until it compiles a function of its own for several threads.
"""

from __future__ import annotations

import ctypes
import os
import platform
import threading
from functools import cache
from typing import Any

from llvmlite import binding

__all__ = ["LAUNCH", "MOST_THREADS", "prepare"]

LAUNCH = "graphc_launch"
"""The symbol by which machine code finds `launch`: addresses differ from process to process."""

MOST_THREADS = 256

_PAUSE = {"x86_64": "pause", "AMD64": "pause", "aarch64": "isb", "arm64": "isb"}

# void launch(int32_t kernel(void *data, int64_t chunk, int64_t thread), void *data, int64_t count,
#             int64_t threads): calls the kernel for every chunk, until one returns nonzero.
#
# `inside` counts the threads at work, besides the caller, and is negative while there is no job to enter.
# The caller closes the job when no chunk is left, and waits for those inside: never for a thread that has not
# come.
_CODE = """
@busy = global i32 0
@inside = global i64 {closed}
@jobs = internal global i64 0
@kernel = internal global ptr null
@data = internal global ptr null
@count = internal global i64 0
@helpers = internal global i64 0
@next = internal global i64 0, align 64
@workers = global i64 0, align 64
@wake = global [{most} x ptr] zeroinitializer
@asleep = internal global [{most} x i32] zeroinitializer

declare i32 @PyThread_acquire_lock(ptr, i32)
declare i32 @PyThread_acquire_lock_timed(ptr, i64, i32)
declare void @PyThread_release_lock(ptr)
declare i64 @llvm.smin.i64(i64, i64)

define void @launch(ptr %kernel, ptr %data, i64 %count, i64 %threads) {{
  %others = sub i64 %threads, 1
  %chunks = sub i64 %count, 1
  %workers = load atomic i64, ptr @workers acquire, align 8
  %few = call i64 @llvm.smin.i64(i64 %others, i64 %chunks)
  %helpers = call i64 @llvm.smin.i64(i64 %few, i64 %workers)
  %alone = icmp slt i64 %helpers, 1
  br i1 %alone, label %serial, label %try
try:
  %taken = atomicrmw xchg ptr @busy, i32 1 acquire
  %free = icmp eq i32 %taken, 0
  br i1 %free, label %open, label %serial
open:
  store ptr %kernel, ptr @kernel
  store ptr %data, ptr @data
  store i64 %count, ptr @count
  store i64 %helpers, ptr @helpers
  store atomic i64 0, ptr @next monotonic, align 8
  store atomic i64 0, ptr @inside release, align 8
  %job = atomicrmw add ptr @jobs, i64 1 seq_cst
  br label %call
call:
  %w = phi i64 [1, %open], [%w2, %called]
  %flag = getelementptr i32, ptr @asleep, i64 %w
  %sleeps = atomicrmw xchg ptr %flag, i32 0 seq_cst
  %wakes = icmp eq i32 %sleeps, 1
  br i1 %wakes, label %rouse, label %called
rouse:
  %bell = getelementptr ptr, ptr @wake, i64 %w
  %lock = load ptr, ptr %bell
  call void @PyThread_release_lock(ptr %lock)
  br label %called
called:
  %w2 = add i64 %w, 1
  %more = icmp sle i64 %w2, %helpers
  br i1 %more, label %call, label %join
join:
  call void @work(i64 0)
  %left = atomicrmw or ptr @inside, i64 {closed} acq_rel
  br label %wait
wait:
  %spins = phi i64 [0, %join], [%spins2, %pause], [%spins, %nap]
  %s = load atomic i64, ptr @inside acquire, align 8
  %over = icmp eq i64 %s, {closed}
  br i1 %over, label %done, label %still
still:
  %patient = icmp slt i64 %spins, {spins}
  br i1 %patient, label %pause, label %nap
pause:
  call void asm sideeffect "{pause}", ""()
  %spins2 = add i64 %spins, 1
  br label %wait
nap:
  %never = load ptr, ptr @wake
  %timeout = call i32 @PyThread_acquire_lock_timed(ptr %never, i64 50, i32 0)
  br label %wait
done:
  store atomic i32 0, ptr @busy release, align 4
  ret void
serial:
  %k = phi i64 [0, %0], [0, %try], [%k2, %run]
  %any = icmp slt i64 %k, %count
  br i1 %any, label %run, label %end
run:
  %status = call i32 %kernel(ptr %data, i64 %k, i64 0)
  %k2 = add i64 %k, 1
  %good = icmp eq i32 %status, 0
  br i1 %good, label %serial, label %end
end:
  ret void
}}

define internal void @work(i64 %thread) {{
  %kernel = load ptr, ptr @kernel
  %data = load ptr, ptr @data
  %count = load i64, ptr @count
  br label %take
take:
  %k = atomicrmw add ptr @next, i64 1 monotonic
  %any = icmp slt i64 %k, %count
  br i1 %any, label %run, label %end
run:
  %status = call i32 %kernel(ptr %data, i64 %k, i64 %thread)
  %good = icmp eq i32 %status, 0
  br i1 %good, label %take, label %stop
stop:
  store atomic i64 %count, ptr @next monotonic, align 8
  br label %end
end:
  ret void
}}

define void @worker(i64 %thread) {{
  %flag = getelementptr i32, ptr @asleep, i64 %thread
  %bell = getelementptr ptr, ptr @wake, i64 %thread
  %lock = load ptr, ptr %bell
  br label %idle
idle:
  %seen = phi i64 [0, %0], [%now, %enter], [%now, %leave]
  br label %look
look:
  %spins = phi i64 [0, %idle], [%spins2, %pause], [{spins}, %block]
  %jobs = load atomic i64, ptr @jobs seq_cst, align 8
  %new = icmp ne i64 %jobs, %seen
  br i1 %new, label %serve, label %still
still:
  %patient = icmp slt i64 %spins, {spins}
  br i1 %patient, label %pause, label %drowse
pause:
  call void asm sideeffect "{pause}", ""()
  %spins2 = add i64 %spins, 1
  br label %look
drowse:
  %was = atomicrmw xchg ptr %flag, i32 1 seq_cst
  %jobs2 = load atomic i64, ptr @jobs seq_cst, align 8
  %late = icmp ne i64 %jobs2, %seen
  br i1 %late, label %serve, label %block
block:
  %got = call i32 @PyThread_acquire_lock(ptr %lock, i32 1)
  br label %look
serve:
  %awake = atomicrmw xchg ptr %flag, i32 0 seq_cst
  %now = load atomic i64, ptr @jobs seq_cst, align 8
  br label %enter
enter:
  %s = load atomic i64, ptr @inside acquire, align 8
  %closed = icmp slt i64 %s, 0
  br i1 %closed, label %idle, label %push
push:
  %s2 = add i64 %s, 1
  %pair = cmpxchg ptr @inside, i64 %s, i64 %s2 acq_rel acquire
  %entered = extractvalue {{i64, i1}} %pair, 1
  br i1 %entered, label %check, label %enter
check:
  %helpers = load i64, ptr @helpers
  %wanted = icmp sle i64 %thread, %helpers
  br i1 %wanted, label %help, label %leave
help:
  call void @work(i64 %thread)
  br label %leave
leave:
  %out = atomicrmw sub ptr @inside, i64 1 release
  br label %idle
}}
"""

_CLOSED = -(1 << 63)

_SPINS = 3000
"""How often a thread looks for work, or the end of it, before it sleeps: some tens of microseconds. Measured,
see docs/decisions.md."""


class _Pool:
    """The native code and the threads of this process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        python = ctypes.pythonapi
        for name in ("acquire_lock", "acquire_lock_timed", "release_lock"):
            function = getattr(python, f"PyThread_{name}")
            address = ctypes.cast(function, ctypes.c_void_p).value
            binding.add_symbol(f"PyThread_{name}", address)
        self.allocate = ctypes.PYFUNCTYPE(ctypes.c_void_p)(("PyThread_allocate_lock", python))
        self.acquire = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int)(
            ("PyThread_acquire_lock", python)
        )
        text = _CODE.format(
            closed=_CLOSED,
            most=MOST_THREADS,
            spins=_SPINS,
            pause=_PAUSE.get(platform.machine(), ""),
        )
        binding.initialize_native_target()
        binding.initialize_native_asmprinter()
        binding.initialize_native_asmparser()
        machine = binding.Target.from_default_triple().create_target_machine(opt=2)
        self.engine = binding.create_mcjit_compiler(binding.parse_assembly(text), machine)
        self.engine.finalize_object()
        address = self.engine.get_function_address
        binding.add_symbol(LAUNCH, address("launch"))
        self.worker = ctypes.CFUNCTYPE(None, ctypes.c_int64)(address("worker"))
        self.workers = self._global("workers", ctypes.c_int64)
        self.busy = self._global("busy", ctypes.c_int32)
        self.inside = self._global("inside", ctypes.c_int64)
        self.wake = self._global("wake", ctypes.c_void_p * MOST_THREADS)
        self.wake[0] = self._held()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def _global(self, name: str, kind: Any) -> Any:
        return kind.from_address(self.engine.get_global_value_address(name))

    def _held(self) -> int:
        """A lock that is taken: who wants it waits until it is released, or for some time."""
        lock = self.allocate()
        self.acquire(lock, 1)
        return int(lock)

    def grow(self, threads: int) -> None:
        """Starts what is missing of so many threads, without the one that calls."""
        with self.lock:
            for thread in range(self.workers.value + 1, threads):
                self.wake[thread] = self._held()
                name = f"graphc-{thread}"
                threading.Thread(target=self.worker, args=(thread,), name=name, daemon=True).start()
                self.workers.value = thread

    def _forget(self) -> None:
        """A forked child has none of the threads, and whatever job ran is none of its own."""
        self.lock = threading.Lock()
        self.workers.value, self.busy.value, self.inside.value = 0, 0, _CLOSED
        self.wake[0] = self._held()


@cache
def _pool() -> _Pool:
    return _Pool()


def prepare(threads: int) -> None:
    """Make machine code that launches chunks loadable, and start what is missing of so many threads.

    >>> prepare(1)
    """
    _pool().grow(threads)
