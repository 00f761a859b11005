/** Builds a PVH domain: memory, kernel, ramdisk, start record, ACPI tables, special pages, ports and grants. */
import { type Frame, type Gfn, type Gpa, type GuestMemory, gfnOf, PAGE_BYTES, type VcpuStart } from "@xenoserver/cpu";
import { GNTTAB_RESERVED_CONSOLE, GNTTAB_RESERVED_XENSTORE } from "../abi/grant-table.ts";
import { HvmParam } from "../abi/hvm.ts";
import { ShutdownReason } from "../abi/sched.ts";
import { MemmapType } from "../abi/start-info.ts";
import { DOMID_BACKEND, DOMID_SELF } from "../abi/xen.ts";
import { XENSTORE_SERVER_FEATURE_ERROR, XENSTORE_SERVER_FEATURE_RECONNECTION, XsRing } from "../abi/xs-wire.ts";
import { Domain, type DomainConfig } from "../domain/domain.ts";
import { E820_WORDS, Field } from "../domain/layout.ts";
import { allocUnbound } from "../evtchn/bind.ts";
import { presetGrant } from "../grant/table.ts";
import { preferHugePages } from "../host/huge-pages.ts";
import { HostClock, startClock } from "../time/clock.ts";
import { publishVcpuTime } from "../time/pvclock.ts";
import { publishWallClock } from "../time/wallclock.ts";
import { resetVcpu } from "../vcpu/reset.ts";
import { acpiTables } from "./acpi.ts";
import { BuildError } from "./errors.ts";
import type { ImageBytes } from "./image/index.ts";
import {
  ACPI_PAGES,
  ACPI_START,
  BIOS_PAGES,
  BIOS_START,
  CONSOLE_GFN,
  checkMemorySize,
  type MemoryRange,
  maxGfn,
  memoryMap,
  ramPages,
  XENSTORE_GFN,
} from "./memory-map.ts";
import { type PlacedKernel, placeImages } from "./placement.ts";
import { encodeStartInfo, startInfoBytes } from "./start-info.ts";

/** Linux takes 2047 characters; more would be cut without a word. */
const MAX_CMDLINE_BYTES = 2047;

export interface BuildConfig extends DomainConfig {
  /** All that the guest may ever own: as under Xen, its map shows that from the start, and its balloon gives back what it shall not have. */
  readonly memoryMiB: number;
  /** How many vcpus are enabled in its tables, the first ones; all, if absent. */
  readonly vcpusOnline?: number;
  readonly kernel: PlacedKernel;
  /** In the order in which the kernel finds them. */
  readonly modules?: readonly BootModule[];
  readonly cmdline?: string;
}

export interface BootModule {
  /** What messages call it, "ramdisk" or "kernel". */
  readonly name: string;
  readonly content: ImageBytes;
  readonly cmdline?: string;
}

export interface BuiltDomain {
  readonly domain: Domain;
  /** How vcpu 0 starts; the others wait for a startup IPI. */
  readonly start: VcpuStart;
  readonly xenstorePort: number;
  readonly consolePort: number;
  readonly xenstoreGfn: Gfn;
  readonly consoleGfn: Gfn;
}

/**
 * Builds a domain in fresh guest memory and starts its clock.
 * @param memory  at least `framesNeeded(memoryMiB)` frames, none in use
 * @throws BuildError  with a code and one sentence, before anything runs
 */
export function buildDomain(config: BuildConfig, memory: GuestMemory): BuiltDomain {
  const { memoryMiB, kernel, modules = [] } = config;
  checkMemorySize(memoryMiB);
  const cmdline = encodeCmdline(config.cmdline ?? "");
  const map = memoryMap(memoryMiB);
  const described = modules.map(describeModule);
  const startInfoLength = startInfoBytes({ memoryMap: map, cmdline, modules: described });
  const place = placeImages(memoryMiB, kernel, startInfoLength, described);

  const domain = Domain.create(config, memory);
  for (const record of domain.vcpus) resetVcpu(record);
  populateRam(domain, map, memoryMiB);
  for (const { gpa, offset, fileSizeBytes } of kernel.segments)
    putPart(memory, gpa, kernel.content, { offset, sizeBytes: fileSizeBytes });
  modules.forEach(({ content }, n) => {
    putPart(memory, place.modules[n]!, content, { offset: 0, sizeBytes: content.length });
  });
  makeBiosArea(domain);
  putAcpi(domain, config.vcpusOnline ?? config.nrVcpus);
  const startInfo = {
    cmdline,
    rsdp: ACPI_START,
    memoryMap: map,
    modules: described.map((module, n) => ({ ...module, at: place.modules[n]! })),
  };
  put(memory, place.startInfo, encodeStartInfo(place.startInfo, startInfo));
  const ports = makeSpecialPages(domain);

  startClock(domain);
  publishWallClock(domain, new HostClock(domain));
  for (const record of domain.vcpus) publishVcpuTime(domain, record);
  return {
    domain,
    start: { mode: "protected", entry: kernel.entry, rbx: place.startInfo },
    ...ports,
    xenstoreGfn: XENSTORE_GFN,
    consoleGfn: CONSOLE_GFN,
  };
}

const describeModule = ({ name, content, cmdline }: BootModule) => ({
  ...{ name, sizeBytes: content.length },
  ...(cmdline !== undefined && { cmdline: encodeCmdline(cmdline) }),
});

function encodeCmdline(cmdline: string): Uint8Array {
  const bytes = new TextEncoder().encode(cmdline);
  if (bytes.includes(0)) throw new BuildError("cmdline-invalid", "command line: has a zero byte, expected text");
  if (bytes.length > MAX_CMDLINE_BYTES) {
    throw new BuildError(
      "cmdline-too-long",
      `command line: ${bytes.length} bytes, expected at most ${MAX_CMDLINE_BYTES}`,
    );
  }
  return bytes;
}

function put(memory: GuestMemory, at: Gpa, bytes: Uint8Array): void {
  freshBytes(memory, at, bytes.length);
  if (!memory.write(at, bytes)) throw new BuildError("kernel-placement", `nothing is mapped at 0x${at.toString(16)}`);
}

/** Puts what may be in a file where it belongs, with nothing between. */
function putPart(
  memory: GuestMemory,
  at: Gpa,
  content: ImageBytes,
  { offset, sizeBytes }: { readonly offset: number; readonly sizeBytes: number },
): void {
  const place = freshBytes(memory, at, sizeBytes);
  if (place === undefined) return put(memory, at, content.read(offset, sizeBytes));
  content.copyTo(place, offset);
  const first = memory.frameAt(gfnOf(at));
  for (let n = 0; n < pagesOf(at, sizeBytes); n++) memory.markWritten((first + n) as Frame);
}

/** @returns where a part of memory lies, in large pages of the host, if that is in one piece, as in fresh memory */
function freshBytes(memory: GuestMemory, at: Gpa, sizeBytes: number): Uint8Array | undefined {
  const first = memory.frameAt(gfnOf(at));
  const pages = pagesOf(at, sizeBytes);
  if (pages === 0 || first < 0) return undefined;
  for (let n = 1; n < pages; n++) if (memory.frameAt((gfnOf(at) + n) as Gfn) !== first + n) return undefined;
  const { buffer, byteOffset } = memory.frameBytes(first as Frame);
  const begins = byteOffset + (at % PAGE_BYTES);
  preferHugePages(buffer, begins, sizeBytes);
  return new Uint8Array(buffer, begins, sizeBytes);
}

const pagesOf = (at: Gpa, sizeBytes: number): number =>
  sizeBytes === 0 ? 0 : gfnOf((at + sizeBytes - 1) as Gpa) - gfnOf(at) + 1;

function populateRam(domain: Domain, map: readonly MemoryRange[], memoryMiB: number): void {
  const { memory } = domain;
  for (const range of map.filter(({ type }) => type === MemmapType.ram)) {
    memory.mapFresh(gfnOf(range.start), range.sizeBytes / PAGE_BYTES);
  }
  const pages = ramPages(memoryMiB);
  domain.set(Field.currentPages, pages);
  domain.set(Field.maxPages, pages);
  domain.set(Field.maxGfn, maxGfn(memoryMiB));
  domain.set(Field.e820Count, map.length);
  map.forEach(({ start, sizeBytes, type }, n) => {
    const at = Field.e820 + n * E820_WORDS;
    domain.set(at, start | 0);
    domain.set(at + 1, Math.floor(start / 2 ** 32));
    domain.set(at + 2, sizeBytes | 0);
    domain.set(at + 3, Math.floor(sizeBytes / 2 ** 32));
    domain.set(at + 4, type);
  });
}

function makeBiosArea(domain: Domain): void {
  const { memory } = domain;
  for (let n = 0; n < BIOS_PAGES; n++) {
    const frame = memory.allocateFrame();
    memory.mapFrame((gfnOf(BIOS_START) + n) as Gfn, frame);
    domain.addSpecialFrame(frame);
  }
}

function putAcpi(domain: Domain, vcpusOnline: number): void {
  const { memory } = domain;
  for (let n = 0; n < ACPI_PAGES; n++) memory.mapFrame((gfnOf(ACPI_START) + n) as Gfn, memory.allocateFrame());
  put(memory, ACPI_START, acpiTables(ACPI_START, domain.vcpus.length, vcpusOnline));
}

function makeSpecialPages(domain: Domain): { xenstorePort: number; consolePort: number } {
  const { memory } = domain;
  for (const gfn of [XENSTORE_GFN, CONSOLE_GFN]) {
    const frame = memory.allocateFrame();
    memory.mapFrame(gfn, frame);
    domain.addSpecialFrame(frame);
  }
  const store = memory.frameBytes(memory.frameAt(XENSTORE_GFN) as never);
  store[XsRing.server_features] = XENSTORE_SERVER_FEATURE_RECONNECTION | XENSTORE_SERVER_FEATURE_ERROR;
  const xenstorePort = allocUnbound(domain, DOMID_SELF, DOMID_BACKEND);
  const consolePort = allocUnbound(domain, DOMID_SELF, DOMID_BACKEND);
  domain.setHvmParam(HvmParam.STORE_PFN, XENSTORE_GFN, 0);
  domain.setHvmParam(HvmParam.STORE_EVTCHN, xenstorePort, 0);
  domain.setHvmParam(HvmParam.CONSOLE_PFN, CONSOLE_GFN, 0);
  domain.setHvmParam(HvmParam.CONSOLE_EVTCHN, consolePort, 0);
  domain.setHvmParam(HvmParam.TRIPLE_FAULT_REASON, ShutdownReason.reboot, 0);
  presetGrant(domain, GNTTAB_RESERVED_CONSOLE, DOMID_BACKEND, CONSOLE_GFN);
  presetGrant(domain, GNTTAB_RESERVED_XENSTORE, DOMID_BACKEND, XENSTORE_GFN);
  return { xenstorePort, consolePort };
}
