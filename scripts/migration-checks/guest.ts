/** The guest that moves: it serves files by HTTP, and writes to a database on its disk, one transaction after the other. */
import { createHash, randomBytes } from "node:crypto";
import type { DebianGuest } from "@xenoserver/toolstack/testing/debian-guest.ts";

export const FILE_BYTES = 64 << 10;

/** Numbers rows; what is said to be committed is on the disk. The file is replaced whole, since a server that reads it may be asked at any moment. */
const WRITER = `#!/bin/sh
n=1
while :; do
  echo "INSERT INTO t VALUES ($n, hex(randomblob(200)));"
  echo ".once /www/next"
  echo "SELECT max(n) FROM t;"
  echo ".shell mv /www/next /www/committed"
  n=$((n+1))
done | sqlite3 /mnt/db
`;
const START = `
n=0; until ip addr show eth0 | grep -q "inet " || [ $n = 50 ]; do n=$((n+1)); sleep 0.2; done
mkdir -p /mnt /www; mv /file /www/file
mkfs.ext4 -q /dev/xvda && mount /dev/xvda /mnt
sqlite3 /mnt/db "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE t (n INTEGER PRIMARY KEY, x TEXT)"
ping -c 1 10.0.2.2 > /dev/null
httpd -p 80 -h /www
/writer > /dev/null 2>&1 < /dev/null &
echo ready > /www/ready
`;
/** Asked for by HTTP: reads the database from the disk. */
const CHECK = `#!/bin/sh
printf "Content-Type: text/plain\\r\\n\\r\\n"
echo 3 > /proc/sys/vm/drop_caches
sqlite3 -readonly /mnt/db "PRAGMA integrity_check; SELECT count(*), max(n) FROM t" 2>&1
`;

export interface CheckGuest {
  readonly kernel: string;
  readonly ramdisk: string;
  readonly fileSum: string;
}

export const sumOf = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

export async function buildGuest(guest: DebianGuest): Promise<CheckGuest> {
  const file = randomBytes(FILE_BYTES);
  const { kernel, ramdisk } = await guest.config({
    packages: ["e2fsprogs", "sqlite3"],
    modules: ["xen-blkfront", "ext4", "xen-netfront"],
    customise: (tree) => {
      tree.file("file", file);
      tree.file("writer", WRITER, 0o755);
      tree.file("www/cgi-bin/check", CHECK, 0o755);
    },
    script: `#!/bin/sh\n${START}\nexec sh -l\n`,
  });
  return { kernel, ramdisk: ramdisk!, fileSum: sumOf(file) };
}
