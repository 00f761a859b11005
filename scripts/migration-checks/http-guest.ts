/** A guest that serves files by HTTP, and writes to a database on its disk, one transaction after the other. */
import { createHash, randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { DebianGuest } from "@xenoserver/toolstack/testing/debian-guest.ts";
import type { CheckedGuest, Findings } from "./checked-guest.ts";
import { importEmpty } from "./disks.ts";
import { Load } from "./load.ts";

const FILE_BYTES = 64 << 10;
const DISK_BYTES = 256 << 20;

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

export const sumOf = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

export class HttpGuest implements CheckedGuest {
  readonly memoryMib = 512;
  readonly port = 80;
  readonly #file = randomBytes(FILE_BYTES);
  readonly #clients: number;
  readonly #patienceMs: number;
  #load!: Load;

  /**
   * @param clients     that ask at the same time
   * @param patienceMs  that they have with a request
   */
  constructor(clients: number, patienceMs: number) {
    this.#clients = clients;
    this.#patienceMs = patienceMs;
  }

  async settings(store: string): Promise<readonly string[]> {
    const debian = await DebianGuest.open();
    if (typeof debian === "string") throw new Error(debian);
    const { kernel, ramdisk } = await debian.config({
      packages: ["e2fsprogs", "sqlite3"],
      modules: ["xen-blkfront", "ext4", "xen-netfront"],
      customise: (tree) => {
        tree.file("file", this.#file);
        tree.file("writer", WRITER, 0o755);
        tree.file("www/cgi-bin/check", CHECK, 0o755);
      },
      script: `#!/bin/sh\n${START}\nexec sh -l\n`,
    });
    const disk = await importEmpty(store, DISK_BYTES);
    const words = { kernel, ramdisk: ramdisk!, cmdline: "console=hvc0 quiet" };
    return [...Object.entries(words).map(([key, value]) => `${key}="${value}"`), `disk=["${disk},image,xvda"]`];
  }

  async start(_server: unknown, hostPort: number): Promise<void> {
    const load = (this.#load = new Load(`http://127.0.0.1:${hostPort}`, sumOf(this.#file), this.#patienceMs));
    while ((await load.get("ready", 2000).catch(() => undefined)) === undefined) await sleep(1500);
    while (Number((await load.get("committed").catch(() => "0")).toString()) < 10) await sleep(500);
    load.start(this.#clients);
    await sleep(2000);
  }

  async check(): Promise<string> {
    return `the database has ${await this.#load.checkDatabase()} rows, and is whole`;
  }

  async finish(): Promise<Findings> {
    const rows = await this.#load.checkDatabase();
    await this.#load.stop();
    const { requests, failures } = this.#load;
    return {
      found: [`${requests} requests, ${failures.length} failed; ${rows} rows committed, none missing`],
      failures,
    };
  }

  slowestMs(fromMs: number, toMs: number): number {
    return this.#load.slowestMs(fromMs, toMs);
  }

  close(): void {}
}
