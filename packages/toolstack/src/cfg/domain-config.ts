/** From the settings of an xl.cfg to the description of a domain. */
import { randomUUID } from "node:crypto";
import { globSync } from "node:fs";
import { MAX_MEMORY_MIB, MIN_MEMORY_MIB } from "@xenoserver/xen/builder/index.ts";
import { MAX_VCPUS } from "@xenoserver/xen/domain/index.ts";
import { ALL_CPUS, readCpus } from "./cpus.ts";
import { type DiskSpec, readDisks } from "./disk.ts";
import { complaintAbout, NOT_SUPPORTED_YET } from "./keys.ts";
import { type P9Spec, readP9s } from "./p9.ts";
import { integer, oneOf, readValues, textThat } from "./readers.ts";
import { type CfgSetting, ConfigError } from "./syntax.ts";
import { readVifs, type VifSpec } from "./vif.ts";

/** A domain to be built. */
export interface DomainConfig {
  readonly name: string;
  /** pv: a paravirtual kernel, which Xen's shim runs within a PVH domain. */
  readonly type: "pvh" | "pv";
  /** Path of the kernel image. */
  readonly kernel: string;
  /** Of a paravirtual guest. */
  readonly shim?: ShimSpec;
  /** Path of the ramdisk, handed to the kernel untouched. */
  readonly ramdisk?: string;
  /** The kernel's command line. */
  readonly cmdline: string;
  /** As much as it can ever have: `maxmem`. */
  readonly memoryMib: number;
  /** What it has at first, if not all: `memory`. */
  readonly memoryAtStartMib?: number;
  /** As many as it can ever have: `maxvcpus`. */
  readonly vcpus: number;
  /** How many of them are online from the start, if not all: `vcpus`. */
  readonly vcpusAtStart?: number;
  /** How much its vcpus may take together, in percent of one processor; no more than there is, if absent. */
  readonly cap?: number;
  /** Its share where domains want more than there is, beside theirs; `WEIGHT.default`, if absent. */
  readonly weight?: number;
  /** By vcpu: the host's processors that it may run on, as `parseCpuList` gives them; every vcpu on all, if absent. */
  readonly cpus?: readonly string[];
  readonly disks?: readonly DiskSpec[];
  readonly vifs?: readonly VifSpec[];
  readonly p9s?: readonly P9Spec[];
  /** Lower case with dashes. */
  readonly uuid: string;
  readonly onPoweroff: Action;
  readonly onReboot: Action;
  readonly onCrash: Action;
}

/** Xen as a PVH kernel that runs one paravirtual guest. */
export interface ShimSpec {
  readonly path: string;
  /** Its own command line. */
  readonly cmdline: string;
}

/** What a domain has at first; it may be raised to what its configuration says, and it may be less. */
export const memoryAtStartMib = ({ memoryMib, memoryAtStartMib }: DomainConfig): number =>
  memoryAtStartMib ?? memoryMib;
export const vcpusAtStart = ({ vcpus, vcpusAtStart }: DomainConfig): number => vcpusAtStart ?? vcpus;

/** What follows when a domain shuts down. */
export type Action = "destroy" | "restart";

export const MEMORY_MIB = { min: MIN_MEMORY_MIB, max: MAX_MEMORY_MIB, default: 256 } as const;
export const VCPUS = { min: 1, max: MAX_VCPUS, default: 1 } as const;
/** As Xen's credit2 has it. */
export const WEIGHT = { min: 1, max: 65535, default: 256 } as const;
/** In percent of one processor; 0 for none. */
export const CAP = { min: 0, max: 100 * MAX_VCPUS } as const;
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
  type: oneOf(["pvh", "pv"], ["hvm"]),
  pvshim: integer("", { min: 0, max: 1 }),
  pvshim_path: path,
  pvshim_cmdline: words,
  pvshim_extra: words,
  kernel: path,
  ramdisk: path,
  cmdline: words,
  root: words,
  extra: words,
  memory: integer(" (MiB)", MEMORY_MIB),
  maxmem: integer(" (MiB)", MEMORY_MIB),
  vcpus: integer("", VCPUS),
  maxvcpus: integer("", VCPUS),
  cap: integer(" (percent of a processor)", CAP),
  cpu_weight: integer("", WEIGHT),
  cpus: readCpus,
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
  const isParavirtual = given.type === "pv" || given.pvshim === 1;
  // The shim would take all that its map shows.
  if (isParavirtual && given.maxmem !== undefined && given.maxmem !== given.memory)
    throw new ConfigError(`${name}: maxmem is not supported yet with type "pv", expected memory alone`);
  const shim = isParavirtual ? shimOf(given) : undefined;
  const config: DomainConfig = {
    name: given.name ?? "domain",
    type: isParavirtual ? "pv" : "pvh",
    kernel,
    ...(shim !== undefined && { shim }),
    ...(given.ramdisk !== undefined && { ramdisk: given.ramdisk }),
    cmdline,
    ...memoryOf(given, name),
    ...vcpusOf(given, name),
    ...(given.cap !== undefined && given.cap !== 0 && { cap: given.cap }),
    ...weighed(given.cpu_weight),
    ...pinsOf(given),
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

/** As in xl, a domain has all from the start if only the most is named. @throws ConfigError  it is to have more than it can */
function memoryOf(
  { memory, maxmem }: { memory?: number | undefined; maxmem?: number | undefined },
  name: string,
): Pick<DomainConfig, "memoryMib" | "memoryAtStartMib"> {
  const most = maxmem ?? memory ?? MEMORY_MIB.default;
  const first = memory ?? most;
  if (first > most) throw new ConfigError(`${name}: memory is ${first}, expected at most maxmem, ${most} (MiB)`);
  return { memoryMib: most, ...(first < most && { memoryAtStartMib: first }) };
}

/** As in xl, one is online unless `vcpus` says more. @throws ConfigError  more are to be online than there can be */
function vcpusOf(
  { vcpus, maxvcpus }: { vcpus?: number | undefined; maxvcpus?: number | undefined },
  name: string,
): Pick<DomainConfig, "vcpus" | "vcpusAtStart"> {
  const most = maxvcpus ?? vcpus ?? VCPUS.default;
  const online = vcpus ?? VCPUS.default;
  if (online > most) throw new ConfigError(`${name}: vcpus is ${online}, expected at most maxvcpus, ${most}`);
  return { vcpus: most, ...(online < most && { vcpusAtStart: online }) };
}

/** As in xl, vcpus beyond a list run anywhere, and what a list has for others is ignored. */
function pinsOf(given: {
  cpus?: string | string[] | undefined;
  vcpus?: number | undefined;
  maxvcpus?: number | undefined;
}): Pick<DomainConfig, "cpus"> {
  const { cpus = ALL_CPUS, maxvcpus, vcpus } = given;
  const nrVcpus = maxvcpus ?? vcpus ?? VCPUS.default;
  return pinned(Array.from({ length: nrVcpus }, (_, id) => (typeof cpus === "string" ? cpus : (cpus[id] ?? ALL_CPUS))));
}

/** @param weight  the default one, if absent */
export const weighed = (weight: number = WEIGHT.default): Pick<DomainConfig, "weight"> =>
  weight === WEIGHT.default ? {} : { weight };

/** @param cpus  for each vcpu */
export const pinned = (cpus: readonly string[]): Pick<DomainConfig, "cpus"> =>
  cpus.every((list) => list === ALL_CPUS) ? {} : { cpus };

/**
 * As libxl starts it, and without what guards against leaks of processors that run ahead: an engine does not run ahead, and would pay for
 * it at every entry. Free memory is not scrubbed, so that the host does not have to give what the guest never touches.
 */
export const SHIM_CMDLINE = "pv-shim console=xen,pv spec-ctrl=no bootscrub=no";

/** @throws ConfigError  there is none where Debian's package puts it, and none is named */
function shimOf(given: { [Key in "pvshim_path" | "pvshim_cmdline" | "pvshim_extra"]?: string | undefined }): ShimSpec {
  const { pvshim_path: path = installedShim(), pvshim_cmdline: cmdline = SHIM_CMDLINE, pvshim_extra: extra } = given;
  if (path === undefined)
    throw new ConfigError(
      "a paravirtual guest needs Xen's shim: pvshim_path is missing, and there is no /usr/lib/xen-*/boot/xen-shim as the package xen-utils has it; xeno try --pv fetches one",
    );
  return { path, cmdline: [cmdline, extra].filter((part) => part !== undefined && part !== "").join(" ") };
}

/** As Debian's packages xen-utils-4.x install it; the newest. */
function installedShim(): string | undefined {
  return globSync("/usr/lib/xen-*/boot/xen-shim").sort().at(-1);
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
