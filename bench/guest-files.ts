/** The kernel and the root file systems that both machines boot. */
import { existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { writeWhole } from "@xenoserver/toolstack/guest/cache.ts";
import {
  buildInitramfs,
  cacheDir,
  type FetchedKernel,
  fetchKernel,
  openPackageSource,
  type Progress,
  type RootTree,
  unpackModules,
} from "@xenoserver/toolstack/guest/index.ts";
import { bzImagePayload } from "@xenoserver/xen/builder/image/bzimage.ts";
import { decompress, detectCompression } from "@xenoserver/xen/builder/image/payload.ts";

export interface Kernel {
  readonly release: string;
  /** As Debian ships it. */
  readonly bzImage: string;
  /** What is in it: an ELF file, which QEMU enters by the same PVH note as we do. */
  readonly vmlinux: string;
}

export interface GuestNeeds {
  readonly network: boolean;
  readonly disk: boolean;
}

export interface GuestSource {
  /** Code name of Debian's release. */
  readonly suite: string;
  readonly kernel: Kernel;
  /** @returns the folder with the kernel's modules */
  modules(): Promise<string>;
  /**
   * Path of an initramfs with these packages and a shell that takes commands from `GuestConsole`.
   * @param needs  it is to have both machines' drivers of these; with a network it asks for an address
   */
  initramfs(packages: readonly string[], needs: GuestNeeds): Promise<string>;
}

export async function openGuestSource(suite: string | undefined, progress: Progress): Promise<GuestSource> {
  const source = await openPackageSource({ progress, ...(suite !== undefined && { suite }) });
  const fetched = await fetchKernel(source, "cloud", progress);
  return {
    suite: source.suite,
    kernel: openKernel(fetched),
    modules: () => unpackModules(source, fetched, progress),
    initramfs: (packages, { network, disk }) => {
      const names = [...(network ? NETWORK_MODULES : []), ...(disk ? DISK_MODULES : [])];
      const modules = names.length > 0 ? { modules: { kernel: fetched, names } } : {};
      const options = { packages, script: AGENT, hostname: "bench", customise: addFiles, ...modules };
      return buildInitramfs(source, options, progress);
    },
  };
}

const NETWORK_MODULES = ["xen-netfront", "virtio_mmio", "virtio_net"];
const DISK_MODULES = ["xen-blkfront", "virtio_mmio", "virtio_blk"];
const DISK_BYTES = 512 << 20;

/** A disk whose blocks are all there, so that neither machine has to find them. */
export function benchDisk(): string {
  const path = join(cacheDir(), "bench", "disk.img");
  if (statSync(path, { throwIfNoEntry: false })?.size !== DISK_BYTES) {
    writeWhole(path, Buffer.alloc(DISK_BYTES, "bench"));
  }
  return path;
}

export function openKernel({ release, version, path }: FetchedKernel): Kernel {
  const vmlinux = join(cacheDir(), "kernels", `vmlinux-${release}_${version}`);
  if (!existsSync(vmlinux)) writeWhole(vmlinux, unpackKernel(readFileSync(path), path));
  return { release, bzImage: path, vmlinux };
}

function unpackKernel(bzImage: Uint8Array, name: string): Uint8Array {
  const payload = bzImagePayload(bzImage, name);
  // All formats but gzip are followed by the unpacked size.
  const { bytes } = decompress(detectCompression(payload) === "gzip" ? payload : payload.subarray(0, -4), name);
  return bytes.read(0, bytes.length);
}

/**
 * Reads one command a line and says when it begins and ends, by the guest's clock. Not an interactive shell: that would
 * redraw what is typed and ask the terminal questions.
 */
const AGENT = `#!/bin/sh
stty -echo -onlcr
for disk in /dev/xvda /dev/vda; do [ -b $disk ] && ln -s $disk /dev/bench; done
echo "bench: ready"
while read -r line; do
  echo "bench: begin"
  begin=$EPOCHREALTIME
  eval "$line" </dev/null
  status=$?
  end=$EPOCHREALTIME
  echo "bench: end $status $begin $end"
done
`;

function addFiles(tree: RootTree): void {
  tree.file("bench/loop.py", LOOP_PY);
  tree.file("bench/requests.py", REQUESTS_PY);
  tree.file("bench/queries.sql", QUERIES_SQL);
  tree.file("bench/image.c", IMAGE_C);
}

/** Objects, attributes, strings, lists and dictionaries, as programs use them. */
const LOOP_PY = `import sys

class Record:
    def __init__(self, key, text):
        self.key = key
        self.text = text
        self.next = None

    def weight(self):
        return self.key % 7 + len(self.text)

def run(count):
    total = 0
    seen = {}
    last = None
    for i in range(count):
        record = Record(i, "item %d" % (i % 100))
        record.next = last
        last = record if i % 10 else None
        seen[i % 1000] = record
        total += record.weight() * (i % 3 + 1)
        parts = [c for c in record.text if c != " "]
        total += len(parts) + sum(x * x for x in range(i % 5))
    return 1080000000 + (total + len(seen)) % 1000000

print(run(int(sys.argv[1])))
`;

/** Sends a small request, waits for its answer, and again. */
const REQUESTS_PY = `import socket, sys, time

peer = socket.create_connection((sys.argv[1], int(sys.argv[2])))
peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
count = int(sys.argv[3])
done = 0
begin = time.time()
for i in range(count):
    peer.sendall(b"request %08d" % i)
    if peer.recv(64) == b"request %08d" % i:
        done += 1
print("%d of %d, %.1f requests/s" % (done, count, count / (time.time() - begin)))
`;

const QUERIES_SQL = `PRAGMA journal_mode = MEMORY;
CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, price INTEGER, kind INTEGER);
BEGIN;
INSERT INTO item (name, price, kind)
  WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
  SELECT 'item ' || i, (i * 7919) % 1000, i % 17 FROM n;
COMMIT;
CREATE INDEX item_by_kind ON item (kind, price);
SELECT count(*), sum(price), max(name) FROM item;
SELECT kind, count(*), avg(price) FROM item GROUP BY kind ORDER BY 3 DESC LIMIT 3;
SELECT count(*) FROM item a JOIN item b ON a.kind = b.kind AND b.price = a.price + 1 WHERE a.id % 10 = 0;
SELECT name FROM item WHERE name LIKE '%99%' ORDER BY price, name LIMIT 2;
UPDATE item SET price = price + 1 WHERE kind = 3;
SELECT sum(price) FROM item;
`;

const IMAGE_C = `#define STB_IMAGE_IMPLEMENTATION
#include <stb/stb_image.h>
`;
