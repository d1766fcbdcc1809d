"""A run's folder in S3: a local folder in which the run works, and of which every file is copied there.

A run reads and writes its folder in many places: files that are replaced, renamed, pruned. All of that stays as it is,
in a folder in the cache, and after each save what has changed is copied: the checkpoint when all else is there,
results.json at the very end, and what is gone is deleted last. S3 shows an object once it is whole, so what is there is
at any time a run's folder, of now or of the last save. Nothing local is needed to go on, on whichever machine.
"""
import contextlib
import errno
import fcntl
import os
import secrets
import shutil
import socket
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from vit.checkpoints import naming
from vit.errors import UserError, printable
from vit.files.atomic import write_whole
from vit.remote import cache, transfer
from vit.remote.address import Address, is_address, parse
from vit.remote.found import Found
from vit.training.options import RunOptions
from vit.training.report.folder import LOCK

_STATE = tuple[int, int]  # of a local file: its size, and when it was written


@dataclass(slots=True)  # without a __dict__, into which FastEstimator would look
class Mirror:
    """A run's folder in S3, and the local one of which it is a copy.

    Args:
        address: The one in S3.
        folder: The local one.
        there: What was read from S3.
        sent: The state of each local file that is in S3.
        owner: What this run has written into the lock; None while it has none.
        lost: Whether another run has taken the lock.
    """
    address: Address
    folder: Path
    there: dict[str, Found] = field(default_factory=dict)
    sent: dict[str, _STATE] = field(default_factory=dict)
    owner: str | None = None
    lost: bool = False

    def __str__(self) -> str:
        return str(self.address)

    def shown(self, text: object) -> str:
        """Put the address into a text in the place of the local folder."""
        return str(text).replace(str(self.folder), str(self.address))

    def pull(self) -> None:
        """Read all files from S3, if a run lies there: else there may be anything.

        Raises:
            OSError: One cannot be read.
        """
        self.there = self._names()
        for name, found in self.there.items() if _traces(self.there) else ():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            transfer.get(self.address / name, path)
            if path.stat().st_size != found.size:
                raise OSError(errno.EIO, f"has {found.size:,} bytes, and others came", str(self.address / name))
        self.sent = self._local()

    def push(self) -> None:
        """Copy what has changed to S3.

        Raises:
            OSError: It cannot be; the next time that is tried again.
            UserError: Another run has taken the folder over.
        """
        local = self._local()
        changed = [name for name in sorted(local, key=_turn) if self.sent.get(name) != local[name]]
        gone = sorted(set(self.sent) - set(local))
        if not changed and not gone:
            return
        owner = self._owner()
        if owner not in (self.owner, ""):
            self.lost = True
            raise UserError(f"{self.address}: another run has taken it over ({owner}); this one ends")
        for name in changed:
            transfer.put(self.folder / name, self.address / name)
            self.sent[name] = local[name]
        for name in gone:
            transfer.remove(self.address / name)
            del self.sent[name]

    @contextlib.contextmanager
    def owned(self, resuming: bool, overwrite: bool) -> Iterator[None]:
        """Keep other runs out of the folder in S3 while the block runs, as far as that can be; then copy all there.

        Args:
            resuming: Whether the run goes on with the one that is there.
            overwrite: Whether one that is there is moved aside.

        Raises:
            UserError: Another run is writing there, or one lies there; or what the block has left cannot be copied.
        """
        with transfer.told():
            self._lock(resuming)
        try:
            with transfer.told():
                if resuming and self._names() != self.there:
                    raise UserError(f"{self.address}: has changed since it was read: another run is writing there")
                if not resuming:
                    self._make_room(overwrite)
            yield
        finally:
            self._end(sys.exc_info()[1])

    def _end(self, ending: BaseException | None) -> None:
        """Copy what is left, and give the lock back."""
        if self.lost:
            return
        try:
            self.push()
        except (OSError, UserError) as error:
            fault = error if isinstance(error, UserError) else f"{error.filename}: {error.strerror}"
            kept = self.folder.with_name(f"kept-{self.folder.name}")
            self.folder.rename(kept)
            line = f"{fault}; what is not there is in {kept}"
            if ending is None:
                raise UserError(line) from None
            print(printable(f"warning: {line}"), file=sys.stderr, flush=True)
            return
        try:
            transfer.remove(self.address / LOCK)
        except OSError as error:
            print(printable(f"warning: {error.filename}: {error.strerror}; it was to be deleted, and tells others that "
                            "this run goes on"), file=sys.stderr, flush=True)

    def _names(self) -> dict[str, Found]:
        return {name: found for name, found in transfer.names(self.address).items()
                if not name.rpartition("/")[2].startswith(".")}

    def _local(self) -> dict[str, _STATE]:
        """The local files, but for the lock and what is not whole yet."""
        found = {}
        for path in self.folder.rglob("*"):
            if path.is_file() and not path.name.startswith("."):
                status = path.stat()
                found[path.relative_to(self.folder).as_posix()] = status.st_size, status.st_mtime_ns
        return found

    def _lock(self, resuming: bool) -> None:
        """Write the lock, where there is none, or one of a run that has ended, or where that run is to go on."""
        mine = f"process {os.getpid()} on {socket.gethostname()}, {secrets.token_hex(4)}"
        file = self.folder / f".{secrets.token_hex(4)}"
        write_whole(file, mine.encode())
        try:
            with contextlib.suppress(FileExistsError):
                if not self._owner():
                    transfer.put(file, self.address / LOCK, new=True)
            owner = self._owner()
            if owner != mine:
                self._check_owner(owner, resuming)
                transfer.put(file, self.address / LOCK)
        finally:
            file.unlink()
        self.owner = mine

    def _check_owner(self, owner: str, resuming: bool) -> None:
        words = owner.replace(",", "").split()  # process PID on HOST TOKEN
        here = len(words) == 5 and words[3] == socket.gethostname()
        alive = here and words[1].isdecimal() and words[1] != str(os.getpid()) and Path(f"/proc/{words[1]}").exists()
        if alive or not (here or resuming):
            raise UserError(f"{self.address}: another run is writing there ({printable(owner)}): wait for its end, or "
                            "name another --model_dir" + ("" if alive else "; if it is gone, go on with it (--resume "
                                                          f"auto), or delete {self.address / LOCK}"))
        print(printable(f"note: the lock of {self.address} was of {owner}, and is taken over"), file=sys.stderr,
              flush=True)

    def _owner(self) -> str:
        """What the lock says; "" where there is none."""
        file = self.folder / f".{secrets.token_hex(4)}"
        try:
            transfer.get(self.address / LOCK, file)
            return file.read_bytes()[:200].decode(errors="replace").strip()
        except FileNotFoundError:
            return ""
        finally:
            file.unlink(missing_ok=True)

    def _make_room(self, overwrite: bool) -> None:
        """Refuse a folder in which a run lies, or move what is in it aside: copy all of it, then delete all of it."""
        names = self._names()
        if not (traces := _traces(names)):
            return
        if not overwrite:
            raise UserError(f"{self.address}: holds {traces[0]}, of another run: go on with that run (--resume auto), "
                            "name another --model_dir, or pass --overwrite, which moves it aside")
        number, old = 1, replace(self.address, path=f"{self.address.path}.old")
        while transfer.names(old):
            number += 1
            old = replace(self.address, path=f"{self.address.path}.old{number}")
        for name in names:
            transfer.copy(self.address / name, old / name)
        for name in names:
            transfer.remove(self.address / name)
        print(f"note: what was in {self.address} is now in {old}", flush=True)


@contextlib.contextmanager
def staged(options: RunOptions) -> Iterator[tuple[RunOptions, Mirror | None]]:
    """Let a run whose folder is in S3 work in a local one.

    Args:
        options: What is asked for.

    Yields:
        The options with the local folder in the place of the address, and the mirror; or the same, and None.

    Raises:
        UserError: The address is none of S3, or cannot be read.
    """
    address, options = _address(options)
    if address is None:
        yield options, None
        return
    with _folder(address) as folder:
        mirror = Mirror(address, folder)
        try:
            if options.resume is not None:
                with transfer.told():
                    mirror.pull()
            resume = options.resume
            if is_address(resume):
                resume = str(folder / naming.FOLDER / parse(resume).name)
            yield replace(options, model_dir=str(folder), resume=resume), mirror
        except UserError as error:
            error.args = (mirror.shown(error),)
            raise


@contextlib.contextmanager
def read(text: str) -> Iterator[Path]:
    """Give a local copy of a folder in S3 for as long as the block runs; what is refused in it names the address.

    Raises:
        UserError: It cannot be read.
    """
    with staged(RunOptions(model_dir=text, resume="auto")) as (options, _):
        yield Path(options.model_dir)


def _address(options: RunOptions) -> tuple[Address | None, RunOptions]:
    """The address of a run's folder, if it has one."""
    given = options.model_dir
    if is_address(options.resume):
        last = parse(options.resume)
        if last.parent.name != naming.FOLDER:
            raise UserError(f"{last}: lies in no folder called {naming.FOLDER}, so its run is not known")
        if given is not None and not (is_address(given) and parse(given) == last.parent.parent):
            raise UserError(f"{last}: goes on in its own folder, {last.parent.parent}: leave --model_dir out")
        given = str(last.parent.parent)
    if not is_address(given):
        return None, options
    address = parse(given)
    if address.scheme != "s3":
        raise UserError(f"{address}: can be read, and not written; --model_dir is a folder or s3://BUCKET/KEY")
    if not address.path:
        raise UserError(f"{address}: is a whole bucket; name a folder in it: {address}/NAME")
    return address, options


@contextlib.contextmanager
def _folder(address: Address) -> Iterator[Path]:
    """A new local folder, which is deleted in the end; one that a process has left that was killed is deleted, too."""
    room = cache.folder().parent / "runs"
    folder = room / f"{address.name[:40]}-{secrets.token_hex(4)}"
    try:
        room.mkdir(parents=True, exist_ok=True)
        for path in room.glob("*.lock"):
            with _held(path) as free:
                if free:
                    shutil.rmtree(path.with_suffix(""), ignore_errors=True)
        with _held(folder.with_name(f"{folder.name}.lock")):
            folder.mkdir()
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        if not str(error.filename).startswith(str(room)):
            raise
        raise UserError(f"{room}: cannot be written ({error.strerror}); set VIT_CACHE to a folder that can be, and "
                        "has room") from None


@contextlib.contextmanager
def _held(path: Path) -> Iterator[bool]:
    """A block in which this process holds a file's lock, unless another one does; in the end the file is gone."""
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        try:
            yield True
        finally:
            path.unlink(missing_ok=True)


def _traces(names: Iterable[str]) -> list[str]:
    """Those of the names of files that a run has left."""
    return [name for name in names if name in ("results.json", "recipe.yaml")
            or name.startswith((f"{naming.FOLDER}/", f"{naming.FOLDER}.old/"))
            or ("/" not in name and name.endswith(naming.SUFFIX))]


def _turn(name: str) -> tuple[bool, bool, str]:
    """What is copied when: checkpoints behind what they name, and results.json, which means a whole run, at the end."""
    return name == "results.json", name.startswith(f"{naming.FOLDER}/"), name
