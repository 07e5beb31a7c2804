"""The system calls that model-written code may make, as a seccomp program in classic BPF.

A list of what is allowed, not of what is forbidden: a call that nobody thought of fails with ``EPERM``.  Missing on
purpose: sockets, new processes (``fork``, ``execve``; threads are allowed), ``ptrace`` and its relatives, namespaces
and mounts, shared memory that no limit counts (``memfd_create``, System V), keys, tracing, io_uring.  Since no process
can be made, a fork bomb cannot begin, whoever the user is.

    program("x86_64")    # bytes for PR_SET_SECCOMP, eight a step
"""

import platform
import struct

from herd.foundation.errors import HerdError

_X86_64 = """
    access=21 alarm=37 arch_prctl=158 brk=12 chdir=80 clock_getres=229 clock_gettime=228 clock_nanosleep=230
    close=3 close_range=436 creat=85 dup=32 dup2=33 dup3=292 epoll_create=213 epoll_create1=291 epoll_ctl=233
    epoll_pwait=281 epoll_wait=232 eventfd2=290 exit=60 exit_group=231 faccessat=269 faccessat2=439 fadvise64=221
    fchdir=81 fcntl=72 fdatasync=75 flock=73 fstat=5 fstatfs=138 fsync=74 ftruncate=77 futex=202
    get_robust_list=274 getcpu=309 getcwd=79 getdents64=217 getegid=108 geteuid=107 getgid=104 getgroups=115
    getitimer=36 getpgid=121 getpgrp=111 getpid=39 getppid=110 getpriority=140 getrandom=318 getresgid=120
    getresuid=118 getrlimit=97 getrusage=98 getsid=124 gettid=186 gettimeofday=96 getuid=102 kill=62 lseek=8
    lstat=6 madvise=28 membarrier=324 mincore=27 mkdir=83 mkdirat=258 mmap=9 mprotect=10 mremap=25 msync=26
    munmap=11 nanosleep=35 newfstatat=262 open=2 openat=257 openat2=437 pause=34 pipe=22 pipe2=293 poll=7
    ppoll=271 pread64=17 preadv=295 pselect6=270 pwrite64=18 pwritev=296 read=0 readlink=89 readlinkat=267
    readv=19 rename=82 renameat=264 renameat2=316 restart_syscall=219 rmdir=84 rseq=334 rt_sigaction=13
    rt_sigpending=127 rt_sigprocmask=14 rt_sigreturn=15 rt_sigsuspend=130 rt_sigtimedwait=128
    sched_get_priority_max=146 sched_get_priority_min=147 sched_getaffinity=204 sched_getparam=143
    sched_getscheduler=145 sched_yield=24 select=23 set_robust_list=273 set_tid_address=218 setitimer=38
    setrlimit=160 sigaltstack=131 stat=4 statfs=137 statx=332 sysinfo=99 tgkill=234 time=201 times=100 tkill=200
    truncate=76 umask=95 uname=63 unlink=87 unlinkat=263 utimensat=280 wait4=61 waitid=247 write=1 writev=20
"""
_AARCH64 = """
    brk=214 chdir=49 clock_getres=114 clock_gettime=113 clock_nanosleep=115 close=57 close_range=436 dup=23
    dup3=24 epoll_create1=20 epoll_ctl=21 epoll_pwait=22 eventfd2=19 exit=93 exit_group=94 faccessat=48
    faccessat2=439 fadvise64=223 fchdir=50 fcntl=25 fdatasync=83 flock=32 fstat=80 fstatfs=44 fsync=82
    ftruncate=46 futex=98 get_robust_list=100 getcpu=168 getcwd=17 getdents64=61 getegid=177 geteuid=175
    getgid=176 getgroups=158 getitimer=102 getpgid=155 getpid=172 getppid=173 getpriority=141 getrandom=278
    getresgid=150 getresuid=148 getrlimit=163 getrusage=165 getsid=156 gettid=178 gettimeofday=169 getuid=174
    kill=129 lseek=62 madvise=233 membarrier=283 mincore=232 mkdirat=34 mmap=222 mprotect=226 mremap=216 msync=227
    munmap=215 nanosleep=101 newfstatat=79 openat=56 openat2=437 pipe2=59 ppoll=73 pread64=67 preadv=69
    pselect6=72 pwrite64=68 pwritev=70 read=63 readlinkat=78 readv=65 renameat=38 renameat2=276
    restart_syscall=128 rseq=293 rt_sigaction=134 rt_sigpending=136 rt_sigprocmask=135 rt_sigreturn=139
    rt_sigsuspend=133 rt_sigtimedwait=137 sched_get_priority_max=125 sched_get_priority_min=126
    sched_getaffinity=123 sched_getparam=121 sched_getscheduler=120 sched_yield=124 set_robust_list=99
    set_tid_address=96 setitimer=103 setrlimit=164 sigaltstack=132 statfs=43 statx=291 sysinfo=179 tgkill=131
    times=153 tkill=130 truncate=45 umask=166 uname=160 unlinkat=35 utimensat=88 wait4=260 waitid=95 write=64
    writev=66
"""

# Audit architecture, allowed calls, and the calls that are judged by an argument.
_MACHINES = {
    "x86_64": (0xC000003E, _X86_64, {"clone": 56, "clone3": 435, "ioctl": 16, "prctl": 157, "prlimit64": 302}),
    "aarch64": (0xC00000B7, _AARCH64, {"clone": 220, "clone3": 435, "ioctl": 29, "prctl": 167, "prlimit64": 261}),
}

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT, _SECOND_ARGUMENT = 0, 4, 16, 24
_KILL, _ALLOW = 0x80000000, 0x7FFF0000
_NOT_PERMITTED, _NO_SUCH_CALL = 0x00050001, 0x00050026
_X32_CALLS = 0x40000000
_CLONE_THREAD = 0x00010000
_CLONE_NAMESPACES = 0x7E020080
_PR_SET_NAME = 15
# What a file object asks of its descriptor: is it a terminal, how wide, how much waits, close on exec, non-blocking.
_IOCTLS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)

Step = tuple[int, int, int, int]


def supported() -> bool:
    """Whether there is a program for this machine."""
    return platform.machine() in _MACHINES


def program(machine: str) -> bytes:
    """The filter for one machine architecture; ``HerdError`` where there is none."""
    if machine not in _MACHINES:
        raise HerdError(f"there is no list of system calls for the machine {machine}")
    architecture, names, judged = _MACHINES[machine]
    steps = [
        _step(_LOAD, _ARCHITECTURE),
        _step(_EQUAL, architecture, 1, 0),
        _step(_RETURN, _KILL),
        _step(_LOAD, _NUMBER),
        _step(_AT_LEAST, _X32_CALLS, 0, 1),
        _step(_RETURN, _NOT_PERMITTED),
        *_when(judged["clone3"], [_step(_RETURN, _NO_SUCH_CALL)]),
        *_when(judged["clone"], _only_threads()),
        *_when(judged["ioctl"], _only_values(_SECOND_ARGUMENT, _IOCTLS)),
        *_when(judged["prctl"], _only_values(_FIRST_ARGUMENT, (_PR_SET_NAME,))),
        *_when(judged["prlimit64"], _only_values(_FIRST_ARGUMENT, (0,))),
    ]
    for number in _numbers(names):
        steps += _when(number, [_step(_RETURN, _ALLOW)])
    steps.append(_step(_RETURN, _NOT_PERMITTED))
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def _numbers(names: str) -> list[int]:
    return sorted(int(entry.partition("=")[2]) for entry in names.split())


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> Step:
    return (code, if_true, if_false, value)


def _when(number: int, steps: list[Step]) -> list[Step]:
    """``steps``, which must end in a return, for one call; the others jump over them."""
    return [_step(_EQUAL, number, 0, len(steps)), *steps]


def _only_threads() -> list[Step]:
    return [
        _step(_LOAD, _FIRST_ARGUMENT),
        _step(_ANY_BIT, _CLONE_NAMESPACES, 2, 0),
        _step(_ANY_BIT, _CLONE_THREAD, 0, 1),
        _step(_RETURN, _ALLOW),
        _step(_RETURN, _NOT_PERMITTED),
    ]


def _only_values(argument: int, values: tuple[int, ...]) -> list[Step]:
    tests = [_step(_EQUAL, value, len(values) - place, 0) for place, value in enumerate(values)]
    return [_step(_LOAD, argument), *tests, _step(_RETURN, _NOT_PERMITTED), _step(_RETURN, _ALLOW)]
