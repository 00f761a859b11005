import { DomainMemory, PAGE_BYTES } from "@xenoserver/cpu";
import { buildDomain, framesNeeded, loadControl, ShutdownReason, specialPages } from "@xenoserver/xen";
import { HvmParam } from "@xenoserver/xen/abi/hvm.ts";
import { Field } from "@xenoserver/xen/domain/layout.ts";
import { setCap } from "@xenoserver/xen/vcpu/cap.ts";
import { ConfigError, type DomainConfig, memoryAtStartMib, renewedVifs, vcpusAtStart } from "../cfg/index.ts";
import { type SavedParts, SaveError } from "../save/index.ts";
import { affinityOf, pinOtherThreads } from "./affinity.ts";
import { checkDevices, closeDevices, prepareDevices } from "./devices.ts";
import { DomainThreads } from "./domain-threads.ts";
import { HANDOVER_MS } from "./handover-store.ts";
import { LocalDomain, type ReadyDomain } from "./local-domain.ts";
import { asConfigError, type DomainPlan, freePlan, planDomain } from "./plan.ts";
import { type DomainListener, FIRST_DOMID, type LaunchOptions, type RunningDomain } from "./running-domain.ts";

const MIB = 2 ** 20;

/**
 * Builds a domain and starts it.
 * @param options  how the vcpus execute, and under which number; the defaults are the engine's own and 1
 * @throws ConfigError  it cannot be built, e.g. a file is not what its key says or the host has not enough memory
 */
export async function launchDomain(
  config: DomainConfig,
  listener: DomainListener,
  options: LaunchOptions = {},
): Promise<RunningDomain> {
  if (config.cpus !== undefined) {
    const affinity = affinityOf(config.cpus);
    // First of all: reading and unpacking a kernel is work, too. The vcpus' threads are told apart once they have said their numbers.
    if (options.ownsProcess === true) await pinOtherThreads([], affinity);
  }
  const memory = reserveMemory(config);
  const { from } = options;
  const domid = from?.header.domid ?? options.domid ?? FIRST_DOMID;
  const threads = new DomainThreads(memory, config, { ...options, domid });
  try {
    if (config.weight !== undefined) await threads.weigh(config.weight);
    // Where it comes from it stands still as long as this takes: what can be refused is refused before.
    const saved = await from?.load(memory, checkDevices);
    const plan = saved === undefined ? planDomain(config) : undefined;
    const built = plan === undefined ? restore(saved!, memory, config) : build(plan, memory, domid);
    setCap(built.domain, config.cap ?? 0);
    if (config.cpus !== undefined) await threads.pin(config.cpus);
    await from?.commit();
    const devices = await prepareDevices(config, {
      patienceMs: from === undefined ? 0 : HANDOVER_MS,
      ...(from !== undefined && {
        disks: from.isCopy ? "new" : "known",
        diskOf: (vdev) => from.diskOf(vdev),
        renewed: renewedVifs(from.config, config),
      }),
    });
    let domain: LocalDomain;
    try {
      domain = new LocalDomain(config, memory, built, listener, options, devices, threads);
    } catch (error) {
      await closeDevices(devices);
      throw error;
    }
    await from?.started();
    return domain;
  } catch (error) {
    from?.closeFrames();
    await threads.discard();
    throw asConfigError(error);
  }
}

/** @throws SaveError */
function restore(
  { header, control, vcpus, backends }: SavedParts,
  memory: DomainMemory,
  { uuid }: DomainConfig,
): ReadyDomain {
  // For its guest no time but this has passed; a clock that was set back must not take time from it.
  const away = Math.max(0, Date.now() - header.savedAtMs) * 1e6;
  try {
    const domain = loadControl(control, memory, header.systemNs + away);
    domain.setUuid(uuidBytes(uuid));
    return { domain, ...specialPages(domain), from: vcpus, mostPages: header.mostPages, backends };
  } catch (cause) {
    throw new SaveError(`saved domain: ${(cause as Error).message}`, { cause });
  }
}

/** The plan is used up: its files' bytes are given back. */
function build(plan: DomainPlan, memory: DomainMemory, domid: number): ReadyDomain {
  const { config, kernel, cmdline, modules } = plan;
  const description = {
    domid,
    nrVcpus: config.vcpus,
    // The shim starts all vcpus by itself, and gives its own guest those that it shall have.
    ...(config.shim === undefined && { vcpusOnline: vcpusAtStart(config) }),
    uuid: uuidBytes(config.uuid),
    memoryMiB: config.memoryMib,
    ...{ cmdline, kernel, modules },
  };
  const built = buildDomain(description, memory);
  freePlan(plan);
  // Xen reboots a domain after a triple fault; unless the kernel asks for that, it hides a broken guest in a loop.
  built.domain.setHvmParam(HvmParam.TRIPLE_FAULT_REASON, ShutdownReason.crash, 0);
  const { start, ...ready } = built;
  const mostPages = built.domain.get(Field.maxPages);
  built.domain.set(Field.maxPages, mostPages - ((config.memoryMib - memoryAtStartMib(config)) * MIB) / PAGE_BYTES);
  return { ...ready, from: start, mostPages };
}

const uuidBytes = (uuid: string): Uint8Array => Buffer.from(uuid.replaceAll("-", ""), "hex");

function reserveMemory({ vcpus, memoryMib, memoryAtStartMib }: DomainConfig): DomainMemory {
  try {
    return DomainMemory.create(vcpus, framesNeeded(memoryMib));
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause;
    throw new ConfigError(
      `${memoryAtStartMib === undefined ? "memory" : "maxmem"} is ${memoryMib} MiB, which this machine cannot reserve, expected less`,
      { cause },
    );
  }
}
