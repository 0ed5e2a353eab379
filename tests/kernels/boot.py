"""A kernel with all it takes to boot it, and one run of it under emulation.

In: a line of the registry; a folder and a command. Out: `Guest`, whose folder holds what the command printed (out.txt),
its exit status (status) and the kernel's console (console.txt).
"""

from __future__ import annotations

import lzma
import shutil
import stat
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from debian import STABLE, Missing, Suite, install, run
from kernels import ARCHITECTURES, CACHE, Architecture, Kernel
from userland import Userland

HERE = Path(__file__).resolve().parent
# in the order in which their dependencies allow; what a kernel has built in is not found, and not missed
MODULES = ("virtio_pci", "virtio_mmio", "virtio_blk", "crc32c_generic", "crc32c_cryptoapi", "ext4", "overlay", "9p")
MODULES += ("9pnet_virtio", "veth")
MEMORY = "3G"
COMPILED = "compiled"  # below a run's folder: the agent's cache, kept between runs as on any machine
DIRECTORIES = ("bin", "dev", "hot", "lower", "modules", "new", "proc", "sys", "upper")


@dataclass(frozen=True)
class Fetched:
    """Files of a kernel."""

    kernel: Kernel
    release: str
    image: Path
    modules: Sequence[Path]
    busybox: Path

    @property
    def architecture(self) -> Architecture:
        return ARCHITECTURES[self.kernel.machine]


def fetch(kernel: Kernel) -> Fetched:
    """From Debian, or from what was fetched before."""
    architecture = ARCHITECTURES[kernel.machine]
    install({"depmod": "kmod", "mke2fs": "e2fsprogs", architecture.emulator: architecture.package})
    suite = Suite(kernel.suite, architecture.debian)
    package = suite.newest(kernel.package)
    folder = CACHE / "kernels" / package
    if not (folder / "release").exists():
        shutil.rmtree(folder, ignore_errors=True)
        pick(suite.unpack(suite.parts(package), folder / "unpacked"), folder)
    modules = sorted((folder / "modules").iterdir())
    return Fetched(kernel, (folder / "release").read_text(), folder / "vmlinuz", modules, busybox(architecture))


def pick(unpacked: Path, folder: Path) -> None:
    """Keep of a kernel's packages what is needed to boot."""
    if (unpacked / "usr/lib/modules").is_dir() and not (unpacked / "lib").exists():
        (unpacked / "lib").symlink_to("usr/lib")
    release = next((unpacked / "lib/modules").iterdir()).name
    images = [unpacked / "boot" / f"vmlinuz-{release}", unpacked / "lib/modules" / release / "vmlinuz"]
    shutil.copy(next(path for path in images if path.exists()), folder / "vmlinuz")
    run("depmod", "-b", unpacked, release)
    (folder / "modules").mkdir()
    wanted: dict[str, None] = {}
    for name in MODULES:
        asked = ["modprobe", "-d", str(unpacked), "-S", release, "--show-depends", name]
        lines = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.splitlines()
        wanted |= dict.fromkeys(line.split()[1] for line in lines if line.startswith("insmod"))
    for number, path in enumerate(map(Path, wanted)):
        code = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
        (folder / "modules" / f"{number:02}-{path.name.removesuffix('.xz')}").write_bytes(code)
    shutil.rmtree(unpacked)
    (folder / "release").write_text(release)


def busybox(architecture: Architecture) -> Path:
    path = CACHE / f"busybox-{architecture.debian}"
    if not path.exists():
        suite = Suite(STABLE, architecture.debian)
        unpacked = suite.unpack(["busybox-static"], CACHE / f"busybox-{architecture.debian}.unpacked")
        found = next(one for one in unpacked.rglob("bin/busybox"))
        found.rename(path)
        shutil.rmtree(unpacked)
    return path


def archive(files: Mapping[str, tuple[int, bytes]]) -> bytes:
    """An initrd: cpio of the form `newc` (Documentation/driver-api/early-userspace/buffer-format.rst)."""
    made = bytearray()
    for number, (name, (mode, content)) in enumerate([*files.items(), ("TRAILER!!!", (0, b""))], 1):
        fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
        made += b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
        made += bytes(-len(made) % 4) + content
        made += bytes(-len(made) % 4)
    return bytes(made)


def initrd(fetched: Fetched, settings: Mapping[str, str]) -> bytes:
    program = stat.S_IFREG | 0o755
    files = dict.fromkeys(DIRECTORIES, (stat.S_IFDIR | 0o755, b""))
    files["bin/busybox"] = (program, fetched.busybox.read_bytes())
    files["init"] = (program, (HERE / "init.sh").read_bytes())
    files["settings"] = (program, "".join(f"{name}='{value}'\n" for name, value in settings.items()).encode())
    files |= {f"modules/{path.name}": (program, path.read_bytes()) for path in fetched.modules}
    return archive(files)


@dataclass
class Guest:
    fetched: Fetched
    folder: Path
    process: subprocess.Popen[bytes]

    def status(self) -> int | None:
        """Of the command; None: it did not come to its end."""
        path = self.folder / "status"
        return int(path.read_text()) if path.exists() and path.read_text().strip() else None


def boot(fetched: Fetched, userland: Userland, folder: Path, command: str) -> Guest:
    """Start it. The command runs as root in the folder, which is the only place whose changes are kept."""
    architecture = fetched.architecture
    settings = {
        "ROOT": "/dev/vdb" if userland.root else "host",
        "HOT": " ".join(map(str, userland.folders)),
        "WORK": str(folder),
        "COMPILED": str(folder / COMPILED),
        "COMMAND": command,
    }
    (folder / "initrd").write_bytes(initrd(fetched, settings))
    shares = [f"local,id=work,path={folder},security_model=none"]
    shares += [] if userland.root else ["local,id=root,path=/,security_model=none,multidevs=remap,readonly=on"]
    # mitigations would flush the emulated TLB at each system call
    arguments = (
        f"console={architecture.console} panic=-1 loglevel=4 mitigations=off no_timer_check {fetched.kernel.boot}"
    )
    line = [architecture.emulator, *architecture.options, "-smp", "2", "-m", MEMORY, "-nodefaults", "-no-reboot"]
    line += ["-display", "none", "-serial", f"file:{folder}/console.txt"]
    line += ["-kernel", str(fetched.image), "-initrd", str(folder / "initrd"), "-append", arguments]
    for share in shares:
        name = share.split(",")[1].removeprefix("id=")
        line += ["-fsdev", share, "-device", f"virtio-9p-pci,fsdev={name},mount_tag={name}"]
    for image in (userland.image, userland.root):
        line += ["-drive", f"file={image},format=raw,if=virtio,readonly=on"] if image else []
    try:
        process = subprocess.Popen(["nice", "-n", "5", *line], stdin=subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        raise Missing(f"{architecture.emulator}: {error.strerror}") from error
    return Guest(fetched, folder, process)


def end(guest: Guest) -> None:
    guest.process.kill()
    guest.process.wait()
