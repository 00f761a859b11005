/** The guests of the isolation checks: one that is measured, and those that take what they can get. One initramfs, told by its command line which it is. */
import type { DebianGuest } from "@xenoserver/toolstack/testing/debian-guest.ts";

/** What a guest may be told to be, beside the one that is measured. */
export const HOGS = {
  disk: "writes and reads its disk as fast as it can",
  fork: "starts processes without end",
  memory: "goes over its memory again and again",
  cpu: "computes on all vcpus",
  boot: "boots again and again",
} as const;
export type Hog = keyof typeof HOGS;

/** What is asked of the measured guest, by what the rate is called. */
export const LOADS = {
  "sums/s": "cgi-bin/sum",
  "commits/s": "cgi-bin/commit",
  "requests/s": "file",
} as const;
export type Load = keyof typeof LOADS;
/** How many of what the rate counts one request is. */
export const PER_REQUEST: Readonly<Record<Load, number>> = { "sums/s": 1, "commits/s": 20, "requests/s": 1 };

export const READY = "isolation: ready";
const FILE_BYTES = 16 << 10;

const HEADER = `printf "Content-Type: text/plain\\r\\n\\r\\n"`;
const SUM = `#!/bin/sh
${HEADER}
dd if=/dev/zero bs=64k count=160 2>/dev/null | sha256sum
`;
/** Each row a transaction of its own, which is on the disk before the next. */
const COMMIT = `#!/bin/sh
${HEADER}
n=0; while [ $n -lt ${PER_REQUEST["commits/s"]} ]; do echo "INSERT INTO t(x) VALUES (hex(randomblob(200)));"; n=$((n+1)); done |
  sqlite3 -cmd "PRAGMA synchronous=FULL" /mnt/db 2>&1 && echo done
`;

const ROLES = `#!/bin/sh
victim() {
  n=0; until ip addr show eth0 | grep -q "inet " || [ $n = 100 ]; do n=$((n+1)); sleep 0.2; done
  mkfs.ext4 -q /dev/xvda && mount /dev/xvda /mnt
  sqlite3 /mnt/db "PRAGMA journal_mode=WAL; CREATE TABLE t (n INTEGER PRIMARY KEY, x TEXT)" > /dev/null
  ping -c 1 10.0.2.2 > /dev/null
  httpd -p 80 -h /www
}
disk() {
  while :; do dd if=/dev/zero of=/dev/xvda bs=1M count=200 conv=fsync; done > /dev/null 2>&1 &
  while :; do echo 3 > /proc/sys/vm/drop_caches; dd if=/dev/xvda of=/dev/null bs=1M; done > /dev/null 2>&1 &
}
bomb() { while :; do bomb & done; }
fork() {
  # The bomb goes first when memory ends, and this shell stays.
  echo -1000 > /proc/self/oom_score_adj
  (echo 1000 > /proc/self/oom_score_adj; bomb) > /dev/null 2>&1 &
}
memory() {
  mount -t tmpfs -o size=90% tmpfs /mnt
  dd if=/dev/zero of=/mnt/x bs=1M count=150 2>/dev/null
  for job in 1 2; do while :; do dd if=/mnt/x of=/mnt/x bs=1M conv=notrunc; done > /dev/null 2>&1 & done
}
cpu() {
  for job in $(seq $(nproc)); do while :; do :; done & done
}
boot() {
  echo "${READY}"
  sleep 1
  reboot -f
}
$(sed 's/.*role=\\([a-z]*\\).*/\\1/' /proc/cmdline)
echo "${READY}"
exec sleep 1000000
`;

/** @returns the kernel and the initramfs of all guests */
export async function buildGuests(guest: DebianGuest): Promise<{ readonly kernel: string; readonly ramdisk: string }> {
  const { kernel, ramdisk } = await guest.config({
    packages: ["e2fsprogs", "sqlite3"],
    modules: ["xen-blkfront", "ext4", "xen-netfront"],
    customise: (tree) => {
      tree.file("www/file", Buffer.alloc(FILE_BYTES, "x"));
      tree.file("www/cgi-bin/sum", SUM, 0o755);
      tree.file("www/cgi-bin/commit", COMMIT, 0o755);
    },
    script: ROLES,
  });
  return { kernel, ramdisk: ramdisk! };
}
