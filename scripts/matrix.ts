/**
 * Boots one stock kernel of each Debian release to a shell, uses the shell, and powers the guest off; then Debian's
 * GRUB to its prompt.
 *
 *   npm run matrix                          all of them
 *   npm run matrix -- trixie/cloud …        these
 *   npm run matrix -- --vcpus 2 --memory 512
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { domainConfig, parseCfg } from "@xenoserver/toolstack/cfg/index.ts";
import { findInDeb } from "@xenoserver/toolstack/deb/deb.ts";
import { cacheDir, writeWhole } from "@xenoserver/toolstack/guest/cache.ts";
import {
  buildInitramfs,
  fetchKernel,
  type KernelFlavour,
  openPackageSource,
} from "@xenoserver/toolstack/guest/index.ts";
import { ConsoleSession, GuestShell } from "@xenoserver/toolstack/testing/guest-shell.ts";

const KERNELS = [
  "bullseye/cloud",
  "bullseye/generic",
  "bookworm/cloud",
  "bookworm/generic",
  "trixie/cloud",
  "trixie/generic",
  "sid/cloud",
  "grub",
];

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    vcpus: { type: "string", default: "1" },
    memory: { type: "string", default: "512" },
    mirror: { type: "string" },
    log: { type: "boolean", default: false },
  },
});

interface Row {
  readonly kernel: string;
  readonly release: string;
  readonly bootSeconds: number;
}

const openSource = (suite?: string) =>
  openPackageSource({ ...(suite && { suite }), ...(values.mirror !== undefined && { mirror: values.mirror }) });

/** GRUB's prompt, a command typed at it, and its way out. */
async function tryGrub(name: string): Promise<Row> {
  const source = await openSource();
  const record = await source.find("grub-xen-host");
  const file = findInDeb(readFileSync(await source.download(record)), record.name, /\/grub-i386-xen_pvh\.bin$/);
  const path = join(cacheDir(), "kernels", `grub-i386-xen_pvh_${record.version}`);
  writeWhole(path, file!.data);
  const { config } = domainConfig(parseCfg(`kernel="${path}"; memory=128`, "matrix"), "matrix");
  const begin = performance.now();
  const grub = await ConsoleSession.start(config);
  try {
    await grub.until(/grub> /);
    const bootSeconds = (performance.now() - begin) / 1000;
    await grub.type("echo he''llo\r");
    await grub.until(/\n\r?hello/);
    await grub.type("halt\r");
    const { reason } = await grub.exited;
    if (reason !== "poweroff") throw new Error(`GRUB ended with ${reason}, expected poweroff`);
    return { kernel: name, release: record.version, bootSeconds };
  } finally {
    await grub.destroy();
  }
}

async function tryKernel(name: string): Promise<Row> {
  const [suite, flavour] = name.split("/") as [string, KernelFlavour];
  const quiet = (): void => {};
  const source = await openSource(suite);
  const kernel = await fetchKernel(source, flavour, quiet);
  const ramdisk = await buildInitramfs(source, {}, quiet);
  const cfg = `kernel="${kernel.path}"; ramdisk="${ramdisk}"; memory=${values.memory}; vcpus=${values.vcpus}; cmdline="console=hvc0"`;
  const shell = await GuestShell.boot(domainConfig(parseCfg(cfg, "matrix"), "matrix").config);
  if (values.log) console.log(shell.bootLog);
  const expect = async (command: string, expected: RegExp): Promise<void> => {
    const { output, status } = await shell.run(command);
    if (status !== 0 || !expected.test(output))
      throw new Error(`${command} gave status ${status} and ${JSON.stringify(output)}`);
  };
  try {
    await expect("uname -r", new RegExp(`^${kernel.release.replaceAll(/[.+]/g, "\\$&")}$`));
    await expect("grep -c ^processor /proc/cpuinfo", new RegExp(`^${values.vcpus}$`));
    await expect("cat /sys/hypervisor/type", /^xen$/);
    await expect("sleep 1; echo slept", /^slept$/);
    await expect(
      "dd if=/dev/zero bs=64k count=16 2>/dev/null | sha256sum",
      /^30e14955ebf1352266dc2ff8067e68104607e750abb9d3b36582b8af909fcb58 /,
    );
    const { reason } = await shell.powerOff();
    if (reason !== "poweroff") throw new Error(`the guest ended with ${reason}, expected poweroff`);
  } finally {
    await shell.destroy();
  }
  return { kernel: name, release: kernel.release, bootSeconds: shell.bootSeconds };
}

let failures = 0;
for (const name of positionals.length > 0 ? positionals : KERNELS) {
  try {
    const { release, bootSeconds } = await (name === "grub" ? tryGrub(name) : tryKernel(name));
    console.log(`ok     ${name.padEnd(18)} ${release.padEnd(28)} up after ${bootSeconds.toFixed(1)} s`);
  } catch (error) {
    failures++;
    console.log(`FAILED ${name.padEnd(18)} ${error instanceof Error ? error.message : error}`);
  }
}
process.exitCode = failures === 0 ? 0 : 1;
