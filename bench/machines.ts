/** The two machines that are compared. Each is a process with the guest's console on its standard input and output. */
import { spawn, spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { parseDisk } from "@xenoserver/toolstack/cfg/index.ts";
import type { DomainProcessOptions } from "./domain-process.ts";
import type { MachineProcess } from "./guest-console.ts";
import type { Kernel } from "./guest-files.ts";
import { tied } from "./tied-process.ts";
import { tscKhz } from "./tsc-frequency.ts";

export interface GuestSpec {
  readonly kernel: Kernel;
  /** With the machine's own drivers, where it has any. */
  readonly initramfs: string;
  readonly memoryMib: number;
  readonly vcpus?: number;
  /** It has an interface, whose gateway 10.0.2.2 is the host. */
  readonly network: boolean;
  /** Path of a raw disk. */
  readonly disk?: string;
  /** The disk is the root file system, of a system that has its login on Linux' hvc0. */
  readonly diskIsRoot?: boolean;
}

export interface Machine {
  readonly id: "tcg" | "ours";
  readonly title: string;
  start(guest: GuestSpec): MachineProcess;
}

const QEMU = "qemu-system-x86_64";
export const QEMU_HELP = `${QEMU} is not installed; on Debian: apt-get install qemu-system-x86`;
/** Neither machine speculates along the guest's code, so neither should pay for guarding against that. */
const CMDLINE = "quiet loglevel=3 mitigations=off";
const rootOf = (device: string, { diskIsRoot = false }: GuestSpec): string =>
  diskIsRoot ? `root=/dev/${device} ro ` : "";

/**
 * QEMU's translator, with the machine that has the least to emulate and the same way into the kernel.
 * @param cpu  a model of QEMU's; the default has the instruction sets that our guests are offered
 * @returns undefined if QEMU is not installed
 */
export async function tcgMachine(cpu = TCG_CPU): Promise<Machine | undefined> {
  const { stdout, error } = spawnSync(QEMU, ["--version"], { encoding: "utf8" });
  if (error !== undefined) return undefined;
  const khz = await tscKhz();
  const clock = khz === undefined ? "" : `tsc_early_khz=${khz} tsc=reliable`;
  const version = /version (\S+)/.exec(stdout)?.[1] ?? "?";
  return {
    id: "tcg",
    title: `QEMU ${version} TCG, -M microvm -cpu ${cpu}`,
    start: (guest) => spawn(...tied(QEMU, qemuArgs(guest, cpu, clock)), { stdio: "pipe" }),
  };
}

/** @param clock  further words of the kernel's command line */
export function qemuArgs(guest: GuestSpec, cpu: string, clock: string): string[] {
  const { kernel, initramfs, memoryMib, vcpus = 1, network, disk, diskIsRoot = false } = guest;
  // Debian's kernel finds virtio devices of this machine by ACPI only; without devices it boots faster without.
  const fixed = `-M microvm,acpi=${network || disk !== undefined ? "on" : "off"},rtc=on ${NOTHING_ELSE}`;
  const args = [
    "-accel",
    "tcg",
    "-cpu",
    cpu,
    "-m",
    String(memoryMib),
    "-smp",
    String(vcpus),
    "-kernel",
    kernel.vmlinux,
  ];
  const [terminal, console] = diskIsRoot ? ["hvc0", VIRTIO_CONSOLE] : ["ttyS0", SERIAL];
  const append = `console=${terminal} ${rootOf("vda", guest)}${CMDLINE} ${clock}`;
  const nic = network ? ["-netdev", "user,id=net", "-device", "virtio-net-device,netdev=net"] : [];
  const drive = disk === undefined ? [] : ["-drive", `if=none,id=disk,format=raw,file=${disk}`];
  const blk = disk === undefined ? [] : ["-device", "virtio-blk-device,drive=disk"];
  const devices = [...console.split(" "), ...nic, ...drive, ...blk];
  return [...fixed.split(" "), ...args, ...devices, "-initrd", initramfs, "-append", append];
}

const NOTHING_ELSE = "-nodefaults -no-user-config -display none -no-reboot";
const SERIAL = "-serial stdio";
/** Linux calls it hvc0, as it does ours. */
const VIRTIO_CONSOLE = "-chardev stdio,id=console -device virtio-serial-device -device virtconsole,chardev=console";
export const FIXED_ARGS = `${NOTHING_ELSE} ${SERIAL}`;
/**
 * A model with what our guests are offered. RDRAND among it matters most: without it a kernel has no random numbers for its first seconds, and
 * the first program that asks for some waits.
 */
export const TCG_CPU = "Westmere,+rdrand,+erms,+fsgsbase,+xsave,+smep,+smap,+rdtscp";

/**
 * Our engine in a process of its own, started as this one was.
 * @param translations  folder with those of earlier runs, which later ones find; undefined if each is to begin with none
 */
export function ourMachine(engine: DomainProcessOptions["engine"], translations?: string): Machine {
  const script = fileURLToPath(new URL("./domain-process.ts", import.meta.url));
  return {
    id: "ours",
    title: `XenoServer, ${engine.translate === "never" ? "interpreter alone" : "translator"}${translations === undefined ? "" : ", with translations of earlier runs"}`,
    start: (guest) => {
      const options: DomainProcessOptions = { ...domainOf(guest), engine };
      const args = [...process.execArgv, script, JSON.stringify(options)];
      const env = { ...process.env, XENO_TRANSLATIONS: translations ?? "0" };
      return spawn(...tied(process.execPath, args), { stdio: "pipe", env });
    },
  };
}

/** What we are given of a guest. */
export function domainOf(guest: GuestSpec): Omit<DomainProcessOptions, "engine"> {
  const { kernel, initramfs, memoryMib, vcpus = 1, network, disk } = guest;
  const cmdline = `console=hvc0 ${rootOf("xvda", guest)}${CMDLINE}`;
  const disks = disk === undefined ? {} : { disks: [parseDisk(`${disk},raw,xvda`)] };
  return { kernel: kernel.bzImage, ramdisk: initramfs, memoryMib, vcpus, cmdline, network, ...disks };
}
