/** The nodes that the toolstack writes for a new PVH domain, as `xl create` does. */
import { domainPath } from "../store/path.ts";
import type { LocalClient, StoreAccess } from "./local-client.ts";

export interface DomainNodes {
  readonly domid: number;
  /** 8-4-4-4-12 hexadecimal digits. */
  readonly uuid: string;
  readonly name: string;
  /** What it has at first, and what that can be raised to. */
  readonly memoryKiB: number;
  readonly maxMemoryKiB: number;
  readonly nrVcpus: number;
  /** The first so many of them are to run; the guest takes the others down. All if absent. */
  readonly nrOnline?: number;
  readonly xenstorePort: number;
  readonly xenstoreGfn: number;
  readonly consolePort: number;
  readonly consoleGfn: number;
  /** Seconds since the Unix epoch. */
  readonly startTime: number;
}

/** Directories that the guest may only read. */
const READ_ONLY = ["cpu", "memory", "device", "control", "console", "store"];
/** Nodes that the guest may write. */
const WRITABLE = [
  "control/shutdown",
  "control/feature-poweroff",
  "control/feature-reboot",
  "control/feature-suspend",
  "control/sysrq",
  "device/suspend/event-channel",
  "data",
  "drivers",
  "feature",
  "attr",
  "error",
];

/** Writes the nodes in one transaction; what was under the domain's path before is removed. */
export function populateDomain(client: LocalClient, nodes: DomainNodes): void {
  client.transaction((access) => populate(access, nodes));
}

function populate(access: StoreAccess, nodes: DomainNodes): void {
  const { domid } = nodes;
  const home = domainPath(domid);
  const vm = `/vm/${nodes.uuid}`;
  const readOnly = ["n0", `r${domid}`];
  const writable = [`n${domid}`];
  const put = (path: string, value: string, permissions = readOnly): void => {
    access.write(path, value);
    access.setPermissions(path, permissions);
  };

  access.rm(home);
  access.rm(vm);
  put(home, "");
  put(vm, "");
  put(`${vm}/name`, nodes.name);
  put(`${vm}/uuid`, nodes.uuid);
  put(`${vm}/start_time`, String(nodes.startTime));
  put(`${home}/vm`, vm);
  put(`${home}/name`, nodes.name);
  put(`${home}/domid`, String(domid));
  for (const name of READ_ONLY) put(`${home}/${name}`, "");
  const { nrVcpus, nrOnline = nrVcpus } = nodes;
  for (let cpu = 0; cpu < nrVcpus; cpu++) put(`${home}/cpu/${cpu}/availability`, cpu < nrOnline ? "online" : "offline");
  put(`${home}/memory/static-max`, String(nodes.maxMemoryKiB));
  put(`${home}/memory/target`, String(nodes.memoryKiB));
  put(`${home}/memory/videoram`, "0");
  for (const name of WRITABLE) put(`${home}/${name}`, "", writable);
  put(`${home}/control/platform-feature-multiprocessor-suspend`, "1");
  put(`${home}/control/platform-feature-xs_reset_watches`, "1");
  put(`${home}/store/port`, String(nodes.xenstorePort));
  put(`${home}/store/ring-ref`, String(nodes.xenstoreGfn));
  put(`${home}/console/type`, "xenconsoled");
  put(`${home}/console/limit`, "1048576");
  put(`${home}/console/output`, "pty");
  put(`${home}/console/port`, String(nodes.consolePort));
  put(`${home}/console/ring-ref`, String(nodes.consoleGfn));
}

/** Gives a domain that goes on from a copy its own name and uuid, in one transaction; nothing changes if it has them. */
export function identifyDomain(
  client: LocalClient,
  domid: number,
  { uuid, name }: Pick<DomainNodes, "uuid" | "name">,
): void {
  client.transaction((access) => {
    const home = domainPath(domid);
    const [old, vm] = [access.read(`${home}/vm`), `/vm/${uuid}`];
    const set = (path: string, value: string): void => {
      if (access.read(path) !== value) access.write(path, value);
    };
    if (old !== undefined && old !== vm) {
      access.write(vm, "");
      access.setPermissions(vm, ["n0", `r${domid}`]);
      for (const node of access.list(old) ?? []) {
        access.write(`${vm}/${node}`, access.read(`${old}/${node}`) ?? "");
        access.setPermissions(`${vm}/${node}`, ["n0", `r${domid}`]);
      }
      access.rm(old);
      set(`${home}/vm`, vm);
    }
    set(`${vm}/uuid`, uuid);
    set(`${vm}/name`, name);
    set(`${home}/name`, name);
  });
}

/** Removes a domain's nodes, as when it is destroyed. */
export function depopulateDomain(client: LocalClient, domid: number, uuid: string): void {
  client.transaction((access) => {
    access.rm(domainPath(domid));
    access.rm(`/vm/${uuid}`);
  });
}
