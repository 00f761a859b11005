/**
 * A Debian with PostgreSQL as its packages have it, whose data lie on a disk of their own. pgbench asks it from within, where it moves along, and from the
 * host, where it remembers what was acknowledged over connections that go on.
 */
import { spawnSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { ImageStore } from "@xenoserver/storage";
import { buildDebian } from "@xenoserver/toolstack/images/index.ts";
import { PGBENCH_BALANCES } from "../pgbench-balances.ts";
import { type CheckedGuest, DOMAIN, type Findings, longestMs } from "./checked-guest.ts";
import { bringImage, importEmpty, judgeDisk } from "./disks.ts";
import { OutsideBench, outcomeOf } from "./pgbench.ts";
import type { CheckServer } from "./servers.ts";

const DATABASE = "bench";
const IMAGE = "pgbench:1";
const ROOT_BYTES = 2 * 2 ** 30;
const DATA_BYTES = 512 << 20;
/** Of the database: branches, each with 100,000 accounts. */
const SCALE = 2;
const CLIENTS_WITHIN = 2;
/** Ended before by its signal. */
const FOREVER_SECONDS = 864_000;

const VARIABLES = `
version=$(ls /usr/lib/postgresql)
bin=/usr/lib/postgresql/$version/bin
data=/var/lib/postgresql/$version/main
psql() { runuser -u postgres -- psql -qtAX -d ${DATABASE} "$@"; }
cd /tmp
`;
const INITIALISE = `${VARIABLES}
systemctl is-system-running --wait > /dev/null || true
pg_dropcluster --stop $version main
mkfs.ext4 -q -E lazy_itable_init=0,lazy_journal_init=0 /dev/xvdb
mount /dev/xvdb /var/lib/postgresql
chown postgres: /var/lib/postgresql
pg_createcluster $version main -- --data-checksums > /dev/null
echo "listen_addresses = '*'" >> /etc/postgresql/$version/main/postgresql.conf
echo "host all all 10.0.2.0/24 trust" >> /etc/postgresql/$version/main/pg_hba.conf
pg_ctlcluster $version main start
runuser -u postgres -- createdb ${DATABASE}
runuser -u postgres -- $bin/pgbench -q -i -s ${SCALE} ${DATABASE} 2> /dev/null
psql -c 'create extension amcheck'
`;
/** Random bytes in memory and on the root disk, of which the sums are told. */
const WITNESSES = `
head -c 64M /dev/urandom > /dev/shm/witness
head -c 32M /dev/urandom > /witness
sync
`;
const SUMS_OF_WITNESSES = `echo 3 > /proc/sys/vm/drop_caches; cat /dev/shm/witness /witness | sha256sum`;
const BEGIN = `${VARIABLES}
systemd-run -q --unit=pgbench --uid=postgres -p StandardOutput=truncate:/run/pgbench.out -p StandardError=truncate:/run/pgbench.err \\
  $bin/pgbench -n -c ${CLIENTS_WITHIN} -T ${FOREVER_SECONDS} ${DATABASE}
`;
/** pgbench takes this signal for the end of its time: each client ends its transaction, and it tells how many there were. */
const END = `
systemctl kill -s ALRM pgbench
while systemctl is-active -q pgbench; do sleep 0.2; done
cat /run/pgbench.out /run/pgbench.err
`;
const BALANCES = `${VARIABLES}
psql -c "${PGBENCH_BALANCES}"
`;
const VERIFY = `${VARIABLES}
runuser -u postgres -- $bin/pg_amcheck --heapallindexed --parent-check -d ${DATABASE} 2>&1
pg_ctlcluster $version main stop
runuser -u postgres -- $bin/pg_checksums --check -D $data | grep -E 'scanned|Bad'
`;
const SUM_OF_DATA = `
umount /var/lib/postgresql
echo 3 > /proc/sys/vm/drop_caches
sha256sum /dev/xvdb | cut -c -64
`;

export class PgbenchGuest implements CheckedGuest {
  readonly memoryMib = 512;
  readonly port = 5432;
  readonly #folder: string;
  readonly #clients: number;
  readonly #image: string | undefined;
  readonly #tell: (line: string) => void;
  #outside: OutsideBench | undefined;
  #transactions: (readonly [beginMs: number, endMs: number])[] | undefined;
  #witnesses = "";

  /**
   * @param folder   for files
   * @param clients  that ask from outside at the same time
   * @param image    of the user's store, a Debian with PostgreSQL; built if absent
   */
  constructor(folder: string, clients: number, image: string | undefined, tell: (line: string) => void) {
    this.#folder = folder;
    this.#clients = clients;
    this.#image = image;
    this.#tell = tell;
  }

  async settings(store: string): Promise<readonly string[]> {
    const image = this.#image ?? IMAGE;
    if (this.#image === undefined) {
      this.#tell("a Debian with PostgreSQL is built, which takes some two minutes");
      const options = { release: "12", packages: ["postgresql", "e2fsprogs"], sizeBytes: ROOT_BYTES };
      await buildDebian(await ImageStore.open(store), { ...options, name: image, progress: () => {} });
    } else await bringImage(image, store, join(this.#folder, "way"));
    const data = await importEmpty(store, DATA_BYTES);
    return [`disk=["${image},image,xvda", "${data},image,xvdb"]`];
  }

  async start(server: CheckServer, hostPort: number): Promise<void> {
    await server.sh(DOMAIN, INITIALISE);
    await server.sh(DOMAIN, WITNESSES);
    this.#witnesses = await server.sh(DOMAIN, SUMS_OF_WITNESSES);
    await server.sh(DOMAIN, BEGIN);
    if (spawnSync("pgbench", ["--version"]).error !== undefined)
      this.#tell("pgbench is not installed on this host: it asks from within the guest only");
    else {
      mkdirSync(this.#folder, { recursive: true });
      this.#outside = OutsideBench.start({
        ...{ folder: this.#folder, port: hostPort, clients: this.#clients },
        ...{ database: DATABASE, seconds: FOREVER_SECONDS },
      });
    }
    await sleep(5000);
  }

  async check(server: CheckServer): Promise<string> {
    this.#outside?.checkAlive();
    return `${await this.#checkData(server)} transactions are in the database, its balances agree, and random bytes in memory and on the disk are as they were`;
  }

  /** @returns how many transactions there are */
  async #checkData(server: CheckServer): Promise<number> {
    if ((await server.sh(DOMAIN, SUMS_OF_WITNESSES)) !== this.#witnesses)
      throw new Error("random bytes in memory and on the disk have another sum than before");
    const told = await server.sh(DOMAIN, BALANCES);
    const [agree, count] = told.split("|");
    if (agree !== "t") throw new Error(`the balances do not agree: ${told}`);
    return Number(count);
  }

  async finish(server: CheckServer): Promise<Findings> {
    const failures: string[] = [];
    const within = outcomeOf("pgbench in the guest", await server.sh(DOMAIN, END));
    const outside = await this.#outside?.end();
    this.#transactions = outside?.transactions;
    for (const outcome of [within, outside]) failures.push(...(outcome?.failures ?? []));
    const acknowledged = within.count + (outside?.count ?? 0);
    const there = await this.#checkData(server);
    if (there !== acknowledged) failures.push(`${acknowledged} transactions were acknowledged, ${there} are there`);
    const found = [
      `${acknowledged} transactions acknowledged, ${within.count} of them in the guest; ${there} are there, and the balances agree`,
      `pg_amcheck and pg_checksums: ${(await server.sh(DOMAIN, VERIFY)).replaceAll(/\s+/g, " ")}`,
    ];
    const sum = await server.sh(DOMAIN, SUM_OF_DATA);
    await server.powerOff(DOMAIN);
    for (const vdev of ["xvda", "xvdb"]) {
      const { sha256, fault } = await judgeDisk(server.store, `${DOMAIN}-${vdev}`, this.#folder);
      if (fault !== undefined) failures.push(`${vdev}: ${fault}`);
      if (vdev === "xvdb" && sha256 !== sum) failures.push(`${vdev} is ${sha256} here, ${sum} in the guest`);
    }
    if (failures.length === 0) found.push("its disks have clean file systems, and the same bytes here as in the guest");
    return { found, failures };
  }

  slowestMs(fromMs: number, toMs: number): number | undefined {
    return this.#transactions && longestMs(this.#transactions, fromMs, toMs);
  }

  close(): void {
    this.#outside?.kill();
  }
}
