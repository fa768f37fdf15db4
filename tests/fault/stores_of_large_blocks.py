# SPDX-License-Identifier: Apache-2.0
"""NBD stores that take only whole blocks: moves between them work or are refused by name, and no store ends the
daemon, also not one that is another after a restart."""
import os

import moves
from moves import daemon
from state_folder import StateFolder

SIZE = 16 * moves.MIB
EXTENTS = 'echo "$4 1049000 hole,zero"'  # however much it is asked for


class Store:
    """An image behind nbdkit, with a minimum block."""

    def __init__(self, folder, name, block):
        self.folder = folder
        self.name = name
        self.image = os.path.join(folder, name + ".img")
        self.come(block)

    def come(self, block, *plugin):
        self.server = daemon.nbdkit(self.folder, "--filter=blocksize-policy", *(plugin or ("file", self.image)),
                                    f"blocksize-minimum={block}", "blocksize-preferred=65536",
                                    "blocksize-maximum=32M", "blocksize-error-policy=error", name=self.name)

    @property
    def uri(self):
        return f"nbd+unix:///?socket={self.server.socket_path}"

    def leave(self):
        self.server.kill()
        os.unlink(self.server.socket_path)


class Scene(StateFolder):
    """A folder for stores, and a daemon that has served one of them."""

    def __init__(self, folder):
        super().__init__(os.path.join(folder, "state"))
        self.folder = folder
        self.start()

    def store(self, name, block, holes=False):
        path = os.path.join(self.folder, name + ".img")
        with open(path, "wb") as f:
            f.truncate(SIZE)
            for at in range(0, 0 if holes else SIZE, 65536):
                f.seek(at + 4096)
                f.write(b"\x5a" * 4096)
        return Store(self.folder, name, block)

    def refuses(self, why, *words):
        result = self.cli("migrate", "vm1", *words)
        assert result.returncode != 0 and why in result.stderr, result
        assert self.alive() and self.shown("ls", "disks")["disks"][0]["epoch"] == 1
        self.guest("write -P 1 64k 64k")

    def guest(self, *commands):
        words = [word for command in commands for word in ("-c", command)]
        daemon.ok("qemu-io", "-f", "raw", *words, self.uri())

    def said(self):
        return self.process.log()


def data_in_parts_of_blocks(scene):
    source = scene.store("source", 16384)
    target = scene.store("target", 16384, holes=True)
    scene.ok("serve", "vm1", "--source", source.uri)
    scene.ok("migrate", "vm1", "--to", target.uri)
    assert daemon.same(source.image, target.image)


def chunks_smaller_than_blocks(scene):
    source = scene.store("source", 65536)
    file = os.path.join(scene.folder, "file.img")
    scene.ok("serve", "vm1", "--source", source.uri)
    scene.refuses("--granularity 64KiB", "--to", file, "--mode", "dbt", "--granularity", "4KiB")
    scene.ok("migrate", "vm1", "--to", file, "--mode", "dbt")
    assert daemon.same(source.image, file)


def blocks_larger_than_promised(scene):
    image = daemon.make_image(os.path.join(scene.folder, "image.img"), SIZE)
    scene.ok("serve", "vm1", "--source", image)
    scene.refuses("were promised 1", "--to", scene.store("target", 4096, holes=True).uri)


def a_recorded_move_meets_larger_blocks(scene):
    source = scene.store("source", 4096)
    scene.ok("serve", "vm1", "--source", source.uri)
    scene.ok("migrate", "vm1", "--to", os.path.join(scene.folder, "file.img"), "--mode", "dbt", "--detach",
             "--granularity", "4KiB", "--bwlimit", "256KiB/s", "--checkpoint-interval", "100ms")
    daemon.until(lambda: scene.shown("status", "vm1")["checkpoints"] >= 2, "a record")
    scene.kill()
    source.leave()
    source.come(65536)
    scene.start()
    daemon.until(lambda: scene.shown("status", "vm1")["state"] == "failed", "the move to fail")
    scene.guest("write -P 1 64k 64k")


def a_base_after_a_restart(scene):
    source = scene.store("source", 4096)
    scene.ok("serve", "vm1", "--source", source.uri)
    scene.ok("migrate", "vm1", "--to", os.path.join(scene.folder, "file.img"), "--mode", "postcopy", "--detach",
             "--granularity", "16KiB", "--bwlimit", "256KiB/s")
    daemon.until(lambda: scene.shown("status", "vm1")["phase"] == "hydrating", "the switchover")
    scene.kill()
    scene.start()
    assert "block_size_minimum: 4096" in daemon.ok("nbdinfo", scene.uri())
    scene.guest("write -P 2 12M 512", "read -P 2 12M 512", "read -P 0x5a 12587008 4096")
    scene.kill()
    source.leave()
    source.come(65536)
    scene.start()
    daemon.until(lambda: "takes whole blocks of 64 KiB" in scene.said(), "the base to be refused")
    assert scene.alive()


def extents_within_blocks(scene):
    source = scene.store("source", 4096, holes=True)
    source.leave()
    source.come(4096, "eval", f"get_size=echo {SIZE}", "can_write=exit 0", "pwrite=cat > /dev/null",
                "pread=head -c $3 /dev/zero", "can_extents=exit 0", "can_flush=exit 0", "flush=exit 0",
                "extents=" + EXTENTS)
    scene.ok("serve", "vm1", "--source", source.uri)
    scene.ok("migrate", "vm1", "--to", os.path.join(scene.folder, "file.img"), "--mode", "dbt")


daemon.need("nbdkit", "nbdinfo", "qemu-io")
for case in (data_in_parts_of_blocks, chunks_smaller_than_blocks, blocks_larger_than_promised,
             a_recorded_move_meets_larger_blocks, a_base_after_a_restart, extents_within_blocks):
    with daemon.scratch() as here, Scene(here) as one:
        case(one)
        assert one.alive() and "check failed" not in one.said(), case.__name__
