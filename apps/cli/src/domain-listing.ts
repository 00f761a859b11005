/** Tables as xl prints them. */
import type { DomainInfo, StoreNode } from "@xenoserver/toolstack/control/index.ts";

const MIB = 2 ** 20;
const seconds = (ns: number): string => (ns / 1e9).toFixed(1);
const ranNs = ({ vcpus }: DomainInfo): number => vcpus.reduce((sum, vcpu) => sum + vcpu.ranNs, 0);

/** xl's six letters: running, blocked, paused, shut down, crashed, dying. */
export function stateLetters({ state, vcpus }: DomainInfo): string {
  if (state === "ended") return "---s--";
  if (state === "paused") return "--p---";
  const running = vcpus.some((vcpu) => vcpu.state === "running" || vcpu.state === "runnable");
  return running ? "r-----" : "-b----";
}

export function describeList(domains: readonly DomainInfo[]): string[] {
  const head = "Name                                        ID   Mem VCPUs\tState\tTime(s)";
  const rows = domains.map((domain) => {
    const { name, domid, memoryBytes, vcpus } = domain;
    const online = vcpus.filter(({ state }) => state !== "offline").length;
    const memory = String(Math.round(memoryBytes / MIB)).padStart(5);
    const numbers = `${String(domid).padStart(5)} ${memory} ${String(online).padStart(5)}`;
    return `${name.padEnd(40)} ${numbers}     ${stateLetters(domain)}  ${seconds(ranNs(domain)).padStart(8)}`;
  });
  return [head, ...rows];
}

export function describeVcpus(domains: readonly DomainInfo[]): string[] {
  const head = `${"Name".padEnd(32)} ${["ID", "VCPU", "CPU", "State"].map((word) => word.padStart(5)).join(" ")} ${"Time(s)".padStart(9)} Affinity (Hard / Soft)`;
  const rows = domains.flatMap(({ name, domid, vcpus, affinity }) =>
    vcpus.map(({ id, state, ranNs: time }) => {
      const numbers = `${name.padEnd(32)} ${String(domid).padStart(5)} ${String(id).padStart(5)}`;
      const where =
        state === "offline"
          ? `${"-".padStart(5)} ${"-".padStart(3)}-p`
          : `${"-".padStart(6)} ${(state === "blocked" ? "-b-" : "r--").padStart(3)} `;
      return `${numbers} ${where} ${seconds(time).padStart(9)}  ${affinity[id]} / all`;
    }),
  );
  return [head, ...rows];
}

/** As xl sched-credit2 shows it. */
export function describeShares(domains: readonly DomainInfo[]): string[] {
  const row = (name: string, domid: string, weight: string, cap: string): string =>
    `${name.padEnd(33)} ${domid.padStart(4)} ${weight.padStart(6)} ${cap.padStart(4)}`;
  const rows = domains.map((d) => row(d.name, String(d.domid), String(d.weight), String(d.capPercent)));
  return [row("Name", "ID", "Weight", "Cap"), ...rows];
}

export function describeUptime(domains: readonly DomainInfo[], nowSeconds: number): string[] {
  const rows = domains.map(({ name, domid, startedAt }) => {
    const up = Math.max(0, Math.floor(nowSeconds - startedAt));
    const two = (n: number): string => String(n).padStart(2, "0");
    const clock = `${String(Math.floor((up % 86400) / 3600)).padStart(2)}:${two(Math.floor((up % 3600) / 60))}:${two(up % 60)}`;
    const days = Math.floor(up / 86400);
    return `${name.padEnd(33)} ${String(domid).padStart(4)} ${days === 0 ? "" : `${days} day${days === 1 ? "" : "s"}, `}${clock}`;
  });
  return [`${"Name".padEnd(33)} ${"ID".padStart(4)} Uptime`, ...rows];
}

/** Keys of a device's directory, as the guest wrote them; −1 for what it did not, as xl shows it. */
function keysOf(nodes: readonly StoreNode[], folder: string): (key: string) => string {
  const values = new Map(nodes.map(({ path, value }) => [path, value]));
  return (key) => values.get(`${folder}/${key}`) ?? values.get(`${folder}/queue-0/${key}`) ?? "-1";
}

/** Directories of the devices of a class, in the order of their numbers. */
function foldersOf(nodes: readonly StoreNode[], top: string): string[] {
  const depth = top.split("/").length + 1;
  const folders = nodes.map(({ path }) => path).filter((path) => path.split("/").length === depth);
  return folders.sort((a, b) => numberOf(a) - numberOf(b));
}

const numberOf = (folder: string): number => Number(folder.split("/").at(-1));
const columns = (values: readonly string[], widths: readonly number[]): string =>
  values.map((value, n) => value.padEnd(widths[n] ?? 0)).join(" ");

/** @param nodes  of /local/domain/N/device/vbd */
export function describeDisks(nodes: readonly StoreNode[], top: string): string[] {
  const widths = [5, 3, 6, 5, 6, 8, 30];
  const rows = foldersOf(nodes, top).map((folder) => {
    const key = keysOf(nodes, folder);
    const [number, ring] = [String(numberOf(folder)), key("ring-ref") === "-1" ? key("ring-ref0") : key("ring-ref")];
    return columns(
      [number, key("backend-id"), number, key("state"), key("event-channel"), ring, key("backend")],
      widths,
    );
  });
  return [columns(["Vdev", "BE", "handle", "state", "evt-ch", "ring-ref", "BE-path"], widths), ...rows];
}

/** @param nodes  of /local/domain/N/device/vif */
export function describeVifs(nodes: readonly StoreNode[], top: string): string[] {
  const widths = [3, 2, 17, 6, 5, 6, 17, 30];
  const rows = foldersOf(nodes, top).map((folder) => {
    const key = keysOf(nodes, folder);
    const channel = key("event-channel") === "-1" ? key("event-channel-tx") : key("event-channel");
    const rings = `${key("tx-ring-ref").padStart(5)}/${key("rx-ring-ref")}`;
    const number = String(numberOf(folder));
    return columns(
      [number, key("backend-id"), key("mac"), number, key("state"), channel, rings, key("backend")],
      widths,
    );
  });
  return [
    columns(["Idx", "BE", "Mac Addr.", "handle", "state", "evt-ch", "  tx-/rx-ring-ref", "BE-path"], widths),
    ...rows,
  ];
}

interface Look {
  readonly domains: readonly DomainInfo[];
  readonly atMs: number;
}

/** Columns of xentop; without a look before, no share of time. */
export function describeTop({ domains, atMs }: Look, before?: Look): string[] {
  const columns = ["STATE", "CPU(sec)", "CPU(%)", "MEM(k)", "VCPUS", "NETTX(k)", "NETRX(k)", "VBD_RD", "VBD_WR"];
  const head = `${"NAME".padEnd(20)} ${columns.map((word) => word.padStart(9)).join(" ")}`;
  const rows = domains.map((domain) => {
    const { name, runId, memoryBytes, vcpus, devices } = domain;
    const earlier = before?.domains.find((other) => other.runId === runId);
    const share =
      before === undefined || earlier === undefined
        ? "-"
        : ((ranNs(domain) - ranNs(earlier)) / 1e4 / (atMs - before.atMs)).toFixed(1);
    const sum = (value: (device: DomainInfo["devices"][number]) => number): number =>
      devices.reduce((all, device) => all + value(device), 0);
    const kilobytes = (bytes: number): string => String(Math.round(bytes / 1024));
    const cells = [
      stateLetters(domain),
      seconds(ranNs(domain)),
      share,
      kilobytes(memoryBytes),
      String(vcpus.filter(({ state }) => state !== "offline").length),
      kilobytes(sum((device) => (device.kind === "vif" ? device.txBytes : 0))),
      kilobytes(sum((device) => (device.kind === "vif" ? device.rxBytes : 0))),
      String(sum((device) => (device.kind === "disk" ? device.reads : 0))),
      String(sum((device) => (device.kind === "disk" ? device.writes : 0))),
    ];
    return `${name.padEnd(20)} ${cells.map((cell) => cell.padStart(9)).join(" ")}`;
  });
  return [head, ...rows];
}
