/**
 * Disks under what people put on them: a database from Debian's archive, fio's own verification, and file systems whose domain is
 * killed while it writes. Part of `npm run image-checks`.
 */
import { execFile } from "node:child_process";
import { randomInt } from "node:crypto";
import { truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { openDefaultStore } from "@xenoserver/storage/index.ts";
import { buildDebian } from "@xenoserver/toolstack/images/index.ts";
import { PGBENCH_BALANCES } from "./pgbench-balances.ts";

const XENO = fileURLToPath(new URL("../apps/cli/bin/xeno.mjs", import.meta.url));
const IMAGE = "disk-checks";
const NAME = "disk-checks";
const DISK_BYTES = 1 << 30;
const READY_SECONDS = 900;
const WRITING_SECONDS = 8;
/** Of fio on the disk, each ended by a kill of its domain at some moment. */
const FIO_KILLS = 4;
/** An hour of a disk that does 200 a second. */
const HOUR_WRITES = 720_000;
const HOUR_LOOPS = 6;
const FIO =
  "fio --name=kills --filename=/dev/xvdb --direct=1 --ioengine=libaio --iodepth=16 --bs=4k --size=128m --verify=crc32c --minimal";

export type Tell = (ok: boolean, what: string) => void;

interface Result {
  readonly status: number;
  readonly output: string;
  readonly seconds: number;
}

/** A way into each file system, and a judge that changes nothing. */
const FILE_SYSTEMS = [
  { name: "ext4", make: "mkfs.ext4 -qF", check: "e2fsck -fn" },
  { name: "btrfs", make: "mkfs.btrfs -qf", check: "btrfs check --readonly" },
  { name: "xfs", make: "mkfs.xfs -qf", check: "xfs_repair -n" },
] as const;

/** Writes over and over, some of it flushed, until its domain is gone. */
const WRITER = `(n=0; while :; do n=$((n+1)); dd if=/dev/urandom of=/mnt/file$((n%40)) bs=64k count=8 2>/dev/null
[ $((n%9)) = 0 ] && sync; [ $((n%5)) = 0 ] && rm -f /mnt/file$(((n+7)%40)); echo $n > /mnt/count; done) > /dev/null 2>&1 &`;

const APT = "apt-get -qq -o Dpkg::Use-Pty=0";
const AS_POSTGRES = "cd /tmp; runuser -u postgres --";
/** One domain under an agent of its own, in `folder`. */
class Machine {
  readonly #disk: string;
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
    this.#disk = join(folder, "disk.img");
    writeFileSync(this.#disk, "");
    truncateSync(this.#disk, DISK_BYTES);
  }

  #xeno(...args: string[]): Promise<Result> {
    const begin = performance.now();
    const env = { ...process.env, XENO_AGENT_HOME: join(this.#folder, "agent") };
    return new Promise((resolve) => {
      const child = execFile(
        process.execPath,
        [XENO, ...args],
        { env, maxBuffer: 64 << 20 },
        (error, stdout, stderr) => {
          const status = error === null ? 0 : Number(error.code ?? 1);
          resolve({ status, output: `${stdout}${stderr}`.trim(), seconds: (performance.now() - begin) / 1000 });
        },
      );
      child.stdin?.end();
    });
  }

  /** @throws Error  it does not come up */
  async start(): Promise<number> {
    const disks = `disk=["${IMAGE},image,xvda", "${this.#disk},raw,xvdb"]`;
    const created = await this.#xeno(
      "create",
      `name=${NAME}`,
      "memory=1024",
      "vcpus=1",
      disks,
      'vif=[""]',
      "--overcommit",
    );
    if (created.status !== 0) throw new Error(created.output);
    const up = await this.sh("true");
    if (up.status !== 0) throw new Error(up.output);
    return up.seconds;
  }

  sh(script: string): Promise<Result> {
    return this.#xeno("exec", NAME, "--wait", String(READY_SECONDS), "--", "sh", "-c", script);
  }

  /** As a power cut would, for the guest; the host's system keeps what was written to it. */
  async kill(): Promise<void> {
    const [domain] = JSON.parse((await this.#xeno("list", "--json")).output) as { pid: number }[];
    process.kill(domain!.pid, "SIGKILL");
    while ((await this.#xeno("list", "--json")).output !== "[]");
  }

  async end(): Promise<void> {
    await this.#xeno("destroy", NAME);
    await this.#xeno("agent", "stop");
  }
}

/** @param interrupted  rejects when all is to end */
export async function checkDisks(folder: string, tell: Tell, interrupted: Promise<never>): Promise<void> {
  const store = await openDefaultStore();
  const packages = ["fio", "btrfs-progs", "xfsprogs"];
  const options = { release: "12", name: IMAGE, packages, sizeBytes: 4 * 2 ** 30, progress: () => {} };
  await Promise.race([interrupted, buildDebian(store, options)]);
  const machine = new Machine(folder);
  try {
    await Promise.race([interrupted, checks(machine, tell)]);
  } finally {
    await machine.end();
    await store.removeOverlay(`${NAME}-xvda`).catch(() => {});
  }
}

async function checks(machine: Machine, tell: Tell): Promise<void> {
  tell(true, `a domain with two disks answers after ${(await machine.start()).toFixed(1)} s`);
  await database(machine, tell);
  await verified(machine, "--bsrange=4k-128k --size=256m", "what it wrote, 4 to 128 KiB at a time", tell);
  const size = `${(HOUR_WRITES / HOUR_LOOPS) * 4}k`;
  const hour = `what ${HOUR_WRITES.toLocaleString("en")} writes of 4 KiB left, in ${HOUR_LOOPS} passes`;
  await verified(machine, `--bs=4k --size=${size} --loops=${HOUR_LOOPS}`, hour, tell);
  await killedUnderFio(machine, tell);
  for (const fileSystem of FILE_SYSTEMS) await killed(machine, fileSystem, tell);
  // Commands are taken long before systemd has started everything, and the database goes through its journal first.
  const sums = await machine.sh(
    `systemctl is-system-running --wait > /dev/null; ${AS_POSTGRES} psql -qtA bench -c "${PGBENCH_BALANCES}" 2>&1`,
  );
  tell(
    /^t\|(\d+)$/m.test(sums.output),
    `the database is whole after ${FIO_KILLS + FILE_SYSTEMS.length} kills: ${sums.output.slice(-200)}`,
  );
}

/** fio writes all blocks anywhere on the disk in another order, and reads what is there then; over again for each pass. */
async function verified(machine: Machine, extent: string, what: string, tell: Tell): Promise<void> {
  const { status, output, seconds } = await machine.sh(
    `fio --name=verify --filename=/dev/xvdb --direct=1 --ioengine=libaio --iodepth=16 --rw=randwrite --randrepeat=0 ${extent} --verify=crc32c --verify_fatal=1 --do_verify=1 --minimal`,
  );
  tell(status === 0, `fio finds ${what} (${seconds.toFixed(1)} s)${status === 0 ? "" : `: ${output.slice(-400)}`}`);
}

/** Every block holds what fio wrote last or before that, whole, and what was flushed before its number was told is there. */
async function killedUnderFio(machine: Machine, tell: Tell): Promise<void> {
  const filled = await machine.sh(`${FIO} --rw=write --do_verify=0 > /dev/null && sync`);
  if (filled.status !== 0) return tell(false, `fio: ${filled.output.slice(-400)}`);
  for (let kill = 1; kill <= FIO_KILLS; kill++) {
    const afterMs = randomInt(500, 8000);
    const writers = machine.sh(
      `${FIO} --rw=randwrite --do_verify=0 --time_based --runtime=600 --randrepeat=0 > /dev/null &
       n=0; while :; do n=$((n+1)); printf %08d $n | dd of=/dev/xvdb bs=4096 seek=65536 conv=notrunc,fsync 2>/dev/null && echo $n; done`,
    );
    await sleep(afterMs);
    await machine.kill();
    const told = Number((await writers).output.match(/^\d+$/gm)?.at(-1) ?? 0);
    await machine.start();
    const found = await machine.sh("dd if=/dev/xvdb bs=4096 skip=65536 count=1 2>/dev/null | head -c 8");
    const seen = await machine.sh(`${FIO} --rw=read --verify_fatal=1`);
    const ok = seen.status === 0 && told > 0 && Number(found.output) >= told;
    tell(
      ok,
      `fio's blocks are whole after kill ${kill}, ${(afterMs / 1000).toFixed(1)} s into it; ${told} flushes were told, ${Number(found.output)} are there${ok ? "" : `: ${seen.output.slice(-400)}`}`,
    );
  }
}

async function database(machine: Machine, tell: Tell): Promise<void> {
  const installed = await machine.sh(
    `export DEBIAN_FRONTEND=noninteractive; ${APT} update && ${APT} install -y --no-install-recommends postgresql`,
  );
  tell(
    installed.status === 0,
    `apt installs PostgreSQL in ${installed.seconds.toFixed(0)} s${installed.status === 0 ? "" : `: ${installed.output.slice(-400)}`}`,
  );
  const steps = [
    "createdb bench",
    "pgbench -q -i -s 2 bench",
    "pgbench -c 4 -t 250 bench",
    `psql -qtA bench -c "${PGBENCH_BALANCES}"`,
  ];
  for (const step of steps) {
    const { status, output, seconds } = await machine.sh(`${AS_POSTGRES} ${step} 2>&1`);
    const right = status === 0 && (!step.startsWith("psql") || /^t\|1000$/m.test(output));
    const tps = /^tps = [\d.]+/m.exec(output)?.[0] ?? "";
    tell(right, `${step.split(" -c ")[0]} (${seconds.toFixed(1)} s) ${tps}${right ? "" : output.slice(-400)}`);
  }
}

async function killed(
  machine: Machine,
  { name, make, check }: (typeof FILE_SYSTEMS)[number],
  tell: Tell,
): Promise<void> {
  const prepared = await machine.sh(
    `${make} /dev/xvdb && mount -t ${name} /dev/xvdb /mnt && head -c 3000000 /dev/urandom > /mnt/kept && sync &&
     sha256sum < /mnt/kept && { ${WRITER}
     sleep ${WRITING_SECONDS}; cat /mnt/count; }`,
  );
  const digest = /^[0-9a-f]{64}/m.exec(prepared.output)?.[0];
  if (prepared.status !== 0 || digest === undefined) return tell(false, `${name}: ${prepared.output.slice(-400)}`);
  await machine.kill();
  await machine.start();
  const seen = await machine.sh(
    `mount -t ${name} /dev/xvdb /mnt && sha256sum < /mnt/kept && umount /mnt && ${check} /dev/xvdb 2>&1`,
  );
  tell(
    seen.status === 0 && seen.output.includes(digest),
    `${name} is whole after its domain was killed while it wrote${seen.status === 0 ? "" : `: ${seen.output.slice(-600)}`}`,
  );
}
