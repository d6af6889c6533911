"""Every file that the program writes goes through ``atomic_write``: a reader sees the old file or the new one, whole.

The bytes go to a file without a name (Linux ``O_TMPFILE``), are forced to the disk, and only then get a name. If the
process dies before that, the system frees them: there is nothing to clean. Only replacing an existing file needs a
second name for an instant, because a link cannot replace a name; a process killed in that instant leaves one hidden
file, which the next write to the same path removes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from pathlib import Path

from subbyte.errors import SubbyteError

# What systems and file systems without unnamed files answer.
_NO_UNNAMED = {errno.EOPNOTSUPP, errno.EINVAL, errno.EISDIR, errno.ENOENT, errno.ENOSYS, errno.EPERM}


def atomic_write(path: str | os.PathLike[str], data: bytes) -> None:
    """Replace or create a file with ``data``, or leave everything as it was.

    A symbolic link is followed; the permissions of a file that is replaced are kept.

    Args:
        path: of the file; its folder must exist.
        data: the whole content.

    Raises:
        SubbyteError: the file cannot be written; the old one, if any, is untouched.
    """
    target = Path(os.path.realpath(path))
    try:
        mode = _replaceable(target)
        _sweep(target)
        _write(target, data, mode)
    except OSError as error:
        raise SubbyteError(
            f"cannot write {str(path)!r}: {error.strerror or error}",
            "the folder of an output exists, can be written and has room",
            "choose another path, or create the folder",
            f"file {str(path)!r}",
        ) from error


def read_file(path: str | os.PathLike[str]) -> bytes:
    """The content of a regular file, read once (a memory map of a file that shrinks kills the process).

    Raises:
        OSError: it cannot be read, or is a folder, pipe or device.
    """
    with Path(path).open("rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        return file.read()


def _replaceable(target: Path) -> int | None:
    """Permissions of the file at the target; None if there is none."""
    try:
        found = target.stat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "there is something that is no regular file")
    return stat.S_IMODE(found.st_mode)


def _write(target: Path, data: bytes, mode: int | None) -> None:
    temporary = target.with_name(f".{target.name[:100]}.{secrets.token_hex(8)}.tmp")
    descriptor, named = _open_temporary(temporary)
    try:
        _lock(descriptor)
        if mode is not None:
            os.fchmod(descriptor, mode)
        _write_all(descriptor, data)
        os.fsync(descriptor)
        if not named and mode is None and _link(descriptor, target):
            _sync_folder(target.parent)
            return
        if not named:
            named = True
            _link(descriptor, temporary)
        temporary.replace(target)
        named = False
        _sync_folder(target.parent)
    finally:
        if named:
            with contextlib.suppress(OSError):
                temporary.unlink()
        os.close(descriptor)


def _open_temporary(temporary: Path) -> tuple[int, bool]:
    """A descriptor to write to and whether the file has a name already."""
    flags = os.O_WRONLY | getattr(os, "O_CLOEXEC", 0)
    if hasattr(os, "O_TMPFILE") and Path("/proc/self/fd").is_dir():
        try:
            return os.open(temporary.parent, flags | os.O_TMPFILE, 0o666), False
        except OSError as error:
            if error.errno not in _NO_UNNAMED:
                raise
    return os.open(temporary, flags | os.O_CREAT | os.O_EXCL, 0o666), True


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _link(descriptor: int, name: Path) -> bool:
    """Give an unnamed file a name; False if the name was taken meanwhile."""
    # The link is to the file behind the descriptor, which linkat does only if given a folder descriptor to start from.
    folder = os.open("/proc/self/fd", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.link(str(descriptor), name, src_dir_fd=folder, follow_symlinks=True)
    except FileExistsError:
        return False
    finally:
        os.close(folder)
    return True


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # a file system that cannot is no reason to report a written file as failed
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Mark a temporary as owned by a living process; True if nobody else owns it."""
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):
        return False
    return True


def _sweep(target: Path) -> None:
    """Remove temporaries of this target whose writers were killed."""
    prefix = f".{target.name[:100]}."
    for entry in os.scandir(target.parent):
        token = entry.name[len(prefix) : -len(".tmp")]
        ours = entry.name.startswith(prefix) and entry.name.endswith(".tmp") and len(token) == 16
        if not ours or not entry.is_file(follow_symlinks=False):
            continue
        with contextlib.suppress(OSError):
            descriptor = os.open(entry.path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
            try:
                if _lock(descriptor):
                    Path(entry.path).unlink()
            finally:
                os.close(descriptor)
