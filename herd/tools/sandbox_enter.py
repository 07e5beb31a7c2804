"""The way into the sandbox without bubblewrap: namespaces, a root of bind mounts, then the interpreter in it.

Handed over as text and started by ``sandbox`` in a process of its own, with a plan in JSON: which files to show where,
which symbolic links to make, which directories to leave empty, and the command to run.  Everything goes through the C
library, so that nothing is compiled.  A step that fails ends the process with one sentence: there is no half a sandbox.
"""

import ctypes
import json
import os
import sys
from pathlib import Path
from typing import Any

NEW_NAMESPACES = 0x00020000 | 0x20000000 | 0x40000000 | 0x08000000 | 0x04000000 | 0x02000000
NEW_USER = 0x10000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
# Flags of a mount that a user namespace may not take away when it mounts the same again: no execution, access times.
KEPT_FLAGS = 2 | 4 | 8 | 1024 | 2048
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
MNT_DETACH = 2
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
BASE = "/proc"

libc = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> None:
    """Ends the process with a sentence where a call of the C library failed."""
    if result != 0:
        raise SystemExit(f"{what}: {os.strerror(ctypes.get_errno())}")


def mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    """``mount(2)``."""
    names = [text.encode() if text is not None else None for text in (source, target, kind, options)]
    check(libc.mount(names[0], names[1], names[2], ctypes.c_ulong(flags), names[3]), f"mounting {target}")


def enter_user_namespace() -> None:
    """A user namespace in which this user has another number, and the rights to mount."""
    uid, gid = os.geteuid(), os.getegid()
    check(libc.unshare(NEW_USER | NEW_NAMESPACES), "making user namespaces")
    for name, text in (("setgroups", "deny"), ("uid_map", f"65534 {uid} 1"), ("gid_map", f"65534 {gid} 1")):
        Path(f"/proc/self/{name}").write_text(text)


def build_root(plan: dict[str, Any]) -> None:
    """A read-only root that holds what the plan names and nothing else."""
    mount(None, "/", None, MS_REC | MS_PRIVATE)
    mount("tmpfs", BASE, "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,mode=755")
    for target, destination in plan["links"]:
        link = Path(BASE + destination)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)
    for source, destination in plan["binds"]:
        bind(Path(source), Path(BASE + destination))
    for directory in plan["empty"]:
        mount("tmpfs", BASE + directory, "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV, "size=4k,mode=755")
    os.chdir(BASE)
    check(libc.syscall(ctypes.c_long(PIVOT_ROOT[os.uname().machine]), b".", b"."), "changing the root")
    check(libc.umount2(b".", MNT_DETACH), "leaving the old root")
    os.chdir("/")
    mount(None, "/", None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV)


def bind(source: Path, target: Path) -> None:
    """Shows a file or directory of the host, read-only."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        target.mkdir(exist_ok=True)
    else:
        target.touch()
    mount(str(source), str(target), None, MS_BIND)
    kept = os.statvfs(target).f_flag & KEPT_FLAGS
    mount(None, str(target), None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | kept)


def main(plan: dict[str, Any]) -> None:
    """Enters the namespaces, then forks: the child is process 1 in them and becomes the command."""
    os.umask(0o022)
    if plan["user_namespace"]:
        enter_user_namespace()
    else:
        check(libc.unshare(NEW_NAMESPACES), "making namespaces")
    child = os.fork()
    if child:
        os.close(0)
        os.close(1)
        _, status = os.waitpid(child, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 255)
    libc.prctl(PR_SET_PDEATHSIG, 9, 0, 0, 0)
    build_root(plan)
    check(libc.sethostname(b"sandbox", 7), "naming the host")
    check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "giving up new privileges")
    os.execve(plan["command"][0], plan["command"], plan["environment"])


if __name__ == "__main__":
    try:
        main(json.loads(sys.argv[1]))
    except OSError as error:
        raise SystemExit(f"{error.filename or 'the kernel'}: {error.strerror}") from None
