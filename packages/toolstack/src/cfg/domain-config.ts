/** From the settings of an xl.cfg to the description of a domain. */
import { randomUUID } from "node:crypto";
import { MAX_MEMORY_MIB, MIN_MEMORY_MIB } from "@xenoserver/xen/builder/index.ts";
import { MAX_VCPUS } from "@xenoserver/xen/domain/index.ts";
import { type DiskSpec, readDisks } from "./disk.ts";
import { complaintAbout, NOT_SUPPORTED_YET } from "./keys.ts";
import { type P9Spec, readP9s } from "./p9.ts";
import { integer, oneOf, readValues, textThat } from "./readers.ts";
import { type CfgSetting, ConfigError } from "./syntax.ts";
import { readVifs, type VifSpec } from "./vif.ts";

/** A domain to be built. */
export interface DomainConfig {
  readonly name: string;
  readonly type: "pvh";
  /** Path of the kernel image. */
  readonly kernel: string;
  /** Path of the ramdisk, handed to the kernel untouched. */
  readonly ramdisk?: string;
  /** The kernel's command line. */
  readonly cmdline: string;
  /** What it has from the start, and how much it can be given while it runs; without the latter, no more. */
  readonly memoryMib: number;
  readonly maxMemoryMib?: number;
  readonly vcpus: number;
  readonly maxVcpus?: number;
  readonly disks?: readonly DiskSpec[];
  readonly vifs?: readonly VifSpec[];
  readonly p9s?: readonly P9Spec[];
  /** Lower case with dashes. */
  readonly uuid: string;
  readonly onPoweroff: Action;
  readonly onReboot: Action;
  readonly onCrash: Action;
}

/** What memory and vcpus can be raised to while the domain runs. */
export const mostMemoryMib = ({ memoryMib, maxMemoryMib }: DomainConfig): number => maxMemoryMib ?? memoryMib;
export const mostVcpus = ({ vcpus, maxVcpus }: DomainConfig): number => maxVcpus ?? vcpus;

/** What follows when a domain shuts down. */
export type Action = "destroy" | "restart";

export const MEMORY_MIB = { min: MIN_MEMORY_MIB, max: MAX_MEMORY_MIB, default: 256 } as const;
export const VCPUS = { min: 1, max: MAX_VCPUS, default: 1 } as const;
/** Linux cuts a longer command line off without a word. */
export const CMDLINE_MAX_BYTES = 2047;

const ACTIONS = ["destroy", "restart"] as const;
const ACTIONS_NOT_YET = ["rename-restart", "preserve", "coredump-destroy", "coredump-restart", "soft-reset"];

const path = textThat((written) => written !== "" && !written.includes("\0"), "is empty, expected the path of a file");
const words = textThat((written) => !/[\0\n]/.test(written), "contains a line break or NUL, expected one line");
const action = oneOf(ACTIONS, ACTIONS_NOT_YET);

const READERS = {
  name: textThat(
    (n) => /^[A-Za-z0-9][\w.+:-]{0,63}$/.test(n),
    "is malformed, expected up to 64 letters, digits or any of _.+:-",
  ),
  type: oneOf(["pvh"], ["pv", "hvm"]),
  kernel: path,
  ramdisk: path,
  cmdline: words,
  root: words,
  extra: words,
  memory: integer(" (MiB)", MEMORY_MIB),
  maxmem: integer(" (MiB)", MEMORY_MIB),
  vcpus: integer("", VCPUS),
  maxvcpus: integer("", VCPUS),
  disk: readDisks,
  vif: readVifs,
  p9: readP9s,
  uuid: textThat(
    (u) => /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(u),
    "is malformed, expected 8-4-4-4-12 hex digits",
  ),
  on_poweroff: action,
  on_reboot: action,
  on_crash: action,
};

/**
 * Checks settings and fills in what they leave open.
 * @param name  what messages call the whole, for keys that are missing
 * @returns     the domain, and remarks for the user that do not prevent it
 * @throws      ConfigError  with one line per mistake
 */
export function domainConfig(
  settings: ReadonlyMap<string, CfgSetting>,
  name: string,
): { config: DomainConfig; warnings: string[] } {
  const mistakes: string[] = [];
  for (const { key, value, origin } of settings.values()) {
    const complaint = complaintAbout(key);
    const isNothing = value.kind === "list" && value.items.length === 0;
    if (complaint === NOT_SUPPORTED_YET && isNothing) continue;
    if (complaint !== undefined) mistakes.push(`${origin}: ${key} ${complaint}`);
  }
  const given = readValues(READERS, settings, mistakes);
  const { kernel } = given;
  // As in xl, all is given from the start if only the most is named; of vcpus, one.
  const memoryMib = given.memory ?? given.maxmem ?? MEMORY_MIB.default;
  const vcpus = given.vcpus ?? VCPUS.default;
  const checkMost = (key: "maxmem" | "maxvcpus", than: string, least: number, unit = ""): void => {
    const most = given[key];
    if (most === undefined || most >= least) return;
    mistakes.push(
      `${settings.get(key)!.origin}: ${key} is ${most}, expected at least ${than}, which is ${least}${unit}`,
    );
  };
  checkMost("maxmem", "memory", memoryMib, " (MiB)");
  checkMost("maxvcpus", "vcpus", vcpus);
  if (kernel === undefined && !settings.has("kernel")) {
    mistakes.push(`${name}: kernel is missing, expected kernel = "PATH"`);
  }
  if (kernel === undefined || mistakes.length > 0) throw new ConfigError(mistakes.join("\n"));

  const warnings = (given.vif ?? []).flatMap(({ ignored }, n) => ignored.map((key) => `vif ${n}: ${key}= is ignored`));
  const cmdline = commandLine(given, warnings);
  const cmdlineBytes = Buffer.byteLength(cmdline);
  if (cmdlineBytes > CMDLINE_MAX_BYTES) {
    throw new ConfigError(
      `${name}: the kernel's command line is ${cmdlineBytes} bytes, expected ≤ ${CMDLINE_MAX_BYTES}`,
    );
  }
  const config: DomainConfig = {
    name: given.name ?? "domain",
    type: "pvh",
    kernel,
    ...(given.ramdisk !== undefined && { ramdisk: given.ramdisk }),
    cmdline,
    memoryMib,
    ...(given.maxmem !== undefined && { maxMemoryMib: given.maxmem }),
    vcpus,
    ...(given.maxvcpus !== undefined && { maxVcpus: given.maxvcpus }),
    ...(given.disk !== undefined && given.disk.length > 0 && { disks: given.disk }),
    ...(given.vif !== undefined && given.vif.length > 0 && { vifs: given.vif }),
    ...(given.p9 !== undefined && given.p9.length > 0 && { p9s: given.p9 }),
    uuid: given.uuid?.toLowerCase() ?? randomUUID(),
    onPoweroff: given.on_poweroff ?? "destroy",
    onReboot: given.on_reboot ?? "restart",
    onCrash: given.on_crash ?? "destroy",
  };
  return { config, warnings };
}

/** As xl: `cmdline` stands alone; without it, `root` and `extra` make one. */
function commandLine(
  given: { cmdline?: string | undefined; root?: string | undefined; extra?: string | undefined },
  warnings: string[],
): string {
  if (given.cmdline !== undefined) {
    for (const key of ["root", "extra"] as const) {
      if (given[key] !== undefined) warnings.push(`${key} is ignored, as cmdline is given`);
    }
    return given.cmdline;
  }
  const parts = [given.root === undefined ? undefined : `root=${given.root}`, given.extra];
  return parts.filter((part) => part !== undefined && part !== "").join(" ");
}
