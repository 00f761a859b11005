/** What is measured: one entry for each row of the table. */
import { IO_WORKLOADS } from "./io.ts";

export interface Workload {
  readonly id: string;
  readonly title: string;
  /** Debian packages that the guest needs; rows with the same packages share a guest. */
  readonly packages: readonly string[];
  /** Shell line run beforehand, not timed. */
  readonly prepare?: string;
  /** Shell line whose time is the result, unless the program measures itself. */
  readonly command: string;
  /** What the output must hold for the result to count. */
  readonly expect: RegExp;
  /** For a program that measures itself: finds a rate, of which more is better. */
  readonly rate?: { readonly pattern: RegExp; readonly unit: string };
  /** Needs an interface, and what runs on the host behind its gateway. */
  readonly network?: boolean;
  /** Needs a disk, /dev/bench, whose bytes are anybody's. */
  readonly disk?: boolean;
  /** It is run so many times more in the same guest, and the last time is a row of its own: warm. */
  readonly warmAfter?: number;
  /** Part of the short suite, whose commands need nothing but busybox. */
  readonly core?: boolean;
}

/** Measured on the host while a guest starts; not a command. */
export const BOOT = { id: "boot", title: "boot to init" } as const;
/** Likewise, of a system on a disk: a guest of its own, which ends there. See `login.ts`. */
export const LOGIN = { id: "login", title: "boot of Debian to its login" } as const;
/** What our process takes when a guest with more vcpus has run the short suite; its times do not count. */
export const MEMORY = { id: "memory", vcpus: 2 } as const;

const KIB = 1024;
const SPEED = "openssl speed -seconds 3 -bytes 8192";
const SPEED_RATE = (name: string) => ({
  pattern: new RegExp(`^${name} .*?([0-9.]+)k\\s*$`, "m"),
  unit: "kB/s",
});
/** Busybox over and over: compressible, not constant, and repeated too far apart for gzip's window to see. */
const someData = (bytes: number): string =>
  `i=0; while [ $i -lt 12 ]; do cat /bin/busybox; i=$((i+1)); done | head -c ${bytes} > /tmp/data`;

export const WORKLOADS: readonly Workload[] = [
  {
    id: "sha256",
    title: "sha256sum of 64 MiB of zeros",
    packages: [],
    command: "dd if=/dev/zero bs=1M count=64 2>/dev/null | sha256sum",
    expect: /^3b6a07d0d404fab4e23b6d34bc6696a6a312dd92821332385e5af7c01c421351/,
    core: true,
  },
  {
    id: "ash",
    title: "20,000 iterations of an ash loop",
    packages: [],
    command: "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo $i",
    expect: /^20000$/m,
    core: true,
  },
  {
    id: "fork",
    title: "200 × fork and exec of /bin/true",
    packages: [],
    command: "i=0; while [ $i -lt 200 ]; do /bin/true; i=$((i+1)); done; echo $i",
    expect: /^200$/m,
    core: true,
  },
  {
    id: "gzip",
    title: "gzip of 16 MiB",
    packages: [],
    prepare: someData(16 * KIB * KIB),
    command: "gzip -c /tmp/data | wc -c",
    expect: /^[1-9]\d{6}$/m,
    core: true,
  },
  {
    id: "openssl-sha256",
    title: "openssl speed sha256",
    packages: ["openssl"],
    command: `${SPEED} sha256`,
    expect: /^sha256 /m,
    rate: SPEED_RATE("sha256"),
  },
  {
    id: "openssl-aes",
    title: "openssl speed aes-128-cbc",
    packages: ["openssl"],
    command: `${SPEED} -evp aes-128-cbc`,
    expect: /^AES-128-CBC /m,
    rate: SPEED_RATE("AES-128-CBC"),
  },
  {
    id: "openssl-rsa",
    title: "openssl speed rsa2048, signing",
    packages: ["openssl"],
    command: "openssl speed -seconds 3 rsa2048",
    expect: /^rsa 2048 bits/m,
    rate: { pattern: /^rsa 2048 bits\s+\S+\s+\S+\s+([0-9.]+)/m, unit: "/s" },
  },
  {
    id: "xz",
    title: "xz of 4 MiB",
    packages: ["xz-utils"],
    prepare: someData(4 * KIB * KIB),
    command: "/usr/bin/xz -T1 -c /tmp/data | wc -c",
    expect: /^[1-9]\d{5}$/m,
  },
  {
    id: "7zz",
    title: "7zz b, one thread",
    packages: ["7zip"],
    command: "7zz b 1 -mmt1 -md18",
    expect: /^Tot:/m,
    rate: { pattern: /^Tot:\s+\d+\s+\d+\s+(\d+)/m, unit: "MIPS" },
  },
  {
    id: "python",
    title: "Python loop",
    packages: ["python3-minimal", "libpython3.11-stdlib"],
    command: "python3 /bench/loop.py 60000",
    expect: /^1080\d{6}$/m,
  },
  {
    id: "sqlite",
    title: "sqlite3, 20,000 inserts and queries",
    packages: ["sqlite3"],
    command: "sqlite3 /tmp/$$.db < /bench/queries.sql",
    expect: /^20000\|/m,
  },
  {
    id: "gcc",
    title: "gcc -O1 of stb_image.h",
    packages: ["gcc", "libc6-dev", "libstb-dev"],
    command: "gcc -O1 -c -o /tmp/image.o /bench/image.c && echo compiled",
    expect: /^compiled$/m,
  },
  {
    id: "perf-pipe",
    title: "perf bench sched pipe",
    packages: ["linux-perf"],
    command: "perf bench sched pipe -l 5000",
    expect: /Total time/,
    rate: { pattern: /(\d+) ops\/sec/, unit: "/s" },
  },
  {
    id: "perf-syscall",
    title: "perf bench syscall basic",
    packages: ["linux-perf"],
    command: "perf bench syscall basic -l 200000",
    expect: /Total time/,
    rate: { pattern: /([0-9,]+) ops\/sec/, unit: "/s" },
  },
  ...IO_WORKLOADS,
];

/** Rows that can be measured in one guest. */
export interface WorkloadSet {
  readonly packages: readonly string[];
  readonly memoryMib: number;
  readonly workloads: readonly Workload[];
  readonly boot: boolean;
  readonly network: boolean;
  readonly disk: boolean;
}

/** What can be asked for: every row, and the memory, which is none. */
export const ALL_ROWS: readonly string[] = [BOOT.id, LOGIN.id, MEMORY.id, ...WORKLOADS.map(({ id }) => id)];

/** Whether what has guests of its own is wanted, which the short suite has too. @param only  as for `chooseWorkloads` */
export const wants = ({ id }: typeof LOGIN | typeof MEMORY, only: readonly string[] | undefined): boolean =>
  only?.includes(id) ?? true;

const PLAIN_MEMORY_MIB = 256;
/** With packages: they lie in memory twice while the kernel unpacks them. */
const PACKAGES_MEMORY_MIB = 1536;

/**
 * Chooses rows and sorts them by guest, the plain one first.
 * @param only  ids; undefined for the short suite
 * @returns without what has guests of its own
 * @throws Error  naming an id that no row has
 */
export function chooseWorkloads(only: readonly string[] | undefined): WorkloadSet[] {
  const unknown = only?.filter((id) => !ALL_ROWS.includes(id)) ?? [];
  if (unknown.length > 0) throw new Error(`no row is called ${unknown.join(", ")}; there are ${ALL_ROWS.join(", ")}`);
  const chosen = WORKLOADS.filter(({ id, core }) => only?.includes(id) ?? core);
  const boot = only?.includes(BOOT.id) ?? true;
  const sets = new Map<string, Workload[]>(boot ? [["", []]] : []);
  for (const workload of chosen) {
    const key = workload.packages.join(" ");
    sets.set(key, [...(sets.get(key) ?? []), workload]);
  }
  return [...sets].map(([key, workloads]) => ({
    packages: key === "" ? [] : key.split(" "),
    memoryMib: key === "" ? PLAIN_MEMORY_MIB : PACKAGES_MEMORY_MIB,
    workloads,
    boot: boot && key === "",
    network: workloads.some(({ network }) => network),
    disk: workloads.some(({ disk }) => disk),
  }));
}
