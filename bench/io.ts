/**
 * Rows of disks and networks: `npm run bench -- --io`. Each is measured cold, as the first of its kind in its guest, and warm, when what
 * it executes was translated long ago, as in a server that runs for days.
 */
import type { Workload } from "./workloads.ts";

/** The gateway of both machines' networks, behind which is the host. */
const HOST = "10.0.2.2";
const NETWORK_PACKAGES = ["iperf3", "iputils-ping", "python3-minimal", "libpython3.11-stdlib"];
const NETWORK_UP = "for n in $(seq 100); do ip route | grep -q default && break; sleep 0.2; done";

/** One line of numbers: how many requests, how long they took together in nanoseconds, and more. */
const IOPING_4000 = /^(?:3999|4000) /m;

/** Without, fio asks what kind of disk the shell's folder is on. */
const FIO =
  "fio --minimal --name=row --filename=/dev/bench --direct=1 --ioengine=libaio --time_based --runtime=5 --size=512M";
const SEQUENTIAL = "--bs=128k --iodepth=4";
const RANDOM = "--bs=4k --iodepth=16 --randrepeat=1";

/** One line with a semicolon between its fields; version 3 of that format begins by its number. */
const fioField = (number: number): RegExp => new RegExp(`^3;(?:[^;]*;){${number - 2}}(\\d+);`, "m");
const READ = { bandwidth: fioField(7), operations: fioField(8) };
const WRITE = { bandwidth: fioField(48), operations: fioField(49) };

const fio = (id: string, title: string, options: string, rate: NonNullable<Workload["rate"]>): Workload => ({
  ...{ id, title, rate, packages: ["fio"], disk: true },
  command: `${FIO} ${options}`,
  expect: /^3;fio-/m,
});
const bandwidth = (pattern: RegExp) => ({ pattern, unit: "KiB/s" });
const operations = (pattern: RegExp) => ({ pattern, unit: "/s" });

/** Runs until nothing becomes faster any more, as was seen. */
const WARM_AFTER = 5;

const ROWS: readonly Workload[] = [
  {
    id: "net-send",
    title: "iperf3, guest to host",
    packages: NETWORK_PACKAGES,
    network: true,
    prepare: NETWORK_UP,
    command: `iperf3 -f m -t 5 -c ${HOST}`,
    expect: /receiver/,
    rate: { pattern: /([0-9.]+) Mbits\/sec +receiver/, unit: "Mbit/s" },
  },
  {
    id: "net-receive",
    title: "iperf3, host to guest",
    packages: NETWORK_PACKAGES,
    network: true,
    prepare: NETWORK_UP,
    command: `iperf3 -f m -t 5 -R -c ${HOST}`,
    expect: /receiver/,
    rate: { pattern: /([0-9.]+) Mbits\/sec +receiver/, unit: "Mbit/s" },
  },
  {
    id: "net-ping",
    title: "1,000 echoes of the gateway",
    packages: NETWORK_PACKAGES,
    network: true,
    prepare: NETWORK_UP,
    command: `ping -q -A -c 1000 ${HOST}`,
    expect: / 0% packet loss/,
  },
  {
    id: "net-rr",
    title: "requests over one TCP connection",
    packages: NETWORK_PACKAGES,
    network: true,
    prepare: NETWORK_UP,
    command: `python3 /bench/requests.py ${HOST} 7007 4000`,
    expect: /^4000 of 4000/m,
    rate: { pattern: /([0-9.]+) requests\/s/, unit: "/s" },
  },
  {
    id: "disk-read",
    title: "256 MiB from the disk, 1 MiB at a time",
    packages: ["ioping"],
    disk: true,
    command: "dd if=/dev/bench of=/dev/null bs=1M count=256 iflag=direct 2>&1",
    expect: /^256\+0 records out/m,
  },
  {
    id: "disk-write",
    title: "256 MiB to the disk, 1 MiB at a time",
    packages: ["ioping"],
    disk: true,
    command: "dd if=/dev/zero of=/dev/bench bs=1M count=256 oflag=direct conv=fsync 2>&1",
    expect: /^256\+0 records out/m,
  },
  {
    id: "disk-random-read",
    title: "4,000 reads of 4 KiB anywhere on the disk",
    packages: ["ioping"],
    disk: true,
    command: "ioping -q -D -B -i 0 -c 4000 -w 600 /dev/bench",
    expect: IOPING_4000,
  },
  {
    id: "disk-random-write",
    title: "4,000 writes of 4 KiB anywhere, each flushed",
    packages: ["ioping"],
    disk: true,
    command: "ioping -q -D -B -WWW -i 0 -c 4000 -w 600 /dev/bench",
    expect: IOPING_4000,
  },
  {
    id: "disk-random-read-8",
    title: "8 × 1,000 reads of 4 KiB at the same time",
    packages: ["ioping"],
    disk: true,
    command:
      "for n in 1 2 3 4 5 6 7 8; do ioping -q -D -B -i 0 -c 1000 -w 600 /dev/bench & done > /tmp/each; wait; wc -l < /tmp/each",
    expect: /^8$/m,
  },
  fio("fio-read", "fio, reads in order, 128 KiB", `--rw=read ${SEQUENTIAL}`, bandwidth(READ.bandwidth)),
  fio("fio-write", "fio, writes in order, 128 KiB", `--rw=write ${SEQUENTIAL}`, bandwidth(WRITE.bandwidth)),
  fio("fio-random-read", "fio, 16 reads of 4 KiB at a time", `--rw=randread ${RANDOM}`, operations(READ.operations)),
  fio(
    "fio-random-write",
    "fio, 16 writes of 4 KiB at a time",
    `--rw=randwrite ${RANDOM}`,
    operations(WRITE.operations),
  ),
];

export const IO_WORKLOADS: readonly Workload[] = ROWS.map((row) => ({ ...row, warmAfter: WARM_AFTER }));

/** What `--io` measures. */
export const IO_ROWS: readonly string[] = IO_WORKLOADS.map(({ id }) => id);
