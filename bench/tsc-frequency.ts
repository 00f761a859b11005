/** The frequency of the host's time-stamp counter, which QEMU's translator lets its guest read as it is. */
import { assemble, HostCpu, makeCase } from "@xenoserver/testkit";

const GAP_MS = 2000;

/**
 * A guest of TCG cannot find it out: the microvm machine has no timer to compare with, and without the counter the guest
 * counts its ticks, of which a busy host loses many.
 * @returns kHz; undefined on a host that is no x86-64 Linux
 */
export async function tscKhz(): Promise<number | undefined> {
  if (!HostCpu.available()) return undefined;
  const host = new HostCpu();
  readTsc(host); // the first start reads the program from disk
  const [from, begin] = readTsc(host);
  await new Promise((resolve) => setTimeout(resolve, GAP_MS));
  const [to, end] = readTsc(host);
  return Math.round((to - from) / (end - begin));
}

/** @returns the counter, and the host's milliseconds halfway through reading it */
function readTsc(host: HostCpu): [counter: number, ms: number] {
  const before = performance.now();
  const [result] = host.run([makeCase({ code: assemble(64, (a) => a.rdtsc()) })]);
  const after = performance.now();
  return [Number(result!.gprs[2]!) * 2 ** 32 + Number(result!.gprs[0]!), (before + after) / 2];
}
