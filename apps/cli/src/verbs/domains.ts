/** The verbs of xl: domains that the agent runs. */
import { resolve } from "node:path";
import type { AgentClient, MigrateDomain } from "@xenoserver/agent/index.ts";
import type { DomainInfo, ShutdownRequest, StoreNode } from "@xenoserver/toolstack/control/protocol.ts";
import type { MigrationReport } from "@xenoserver/toolstack/migrate/index.ts";
import type { SnapshotReport } from "@xenoserver/toolstack/snapshot/index.ts";
import { type Command, InvalidArgumentError } from "commander";
import { ExitError, ExitStatus } from "../exit-status.ts";
import type { ImageRunOptions } from "../image-run.ts";
import { type AddVerb, addImageOptions } from "./verb.ts";

const access = () => import("../agent-access.ts");
const tables = () => import("../domain-listing.ts");
const at = (ref: string, op: string): string => `/v1/domains/${encodeURIComponent(ref)}/${op}`;
const MIB = 2 ** 20;

/** An operation on one domain, whose result `--json` shows. */
async function operate<T>(ref: string, op: string, body: unknown, { json }: { readonly json?: boolean }): Promise<T> {
  const { openAgent, sayJson } = await access();
  const result = await (await openAgent()).post<T>(at(ref, op), body);
  if (json === true) sayJson(result);
  return result;
}

interface JsonOption {
  readonly json?: boolean;
}

function verb(program: Command, name: string, description: string): Command {
  return program.command(name).description(description).option("--json", "print the result as JSON");
}

const wholeNumber = (written: string): number => {
  if (!/^\d+$/.test(written)) throw new InvalidArgumentError("Expected a whole number.");
  return Number(written);
};

/** As xl: MiB, or with k, m, g or t behind the number. */
export function memoryBytes(written: string): number {
  const match = /^(\d+)([kmgt]?)b?$/i.exec(written);
  if (match === null) throw new InvalidArgumentError("Expected a number of MiB, or such as 512m or 1g.");
  return Number(match[1]) * { "": MIB, k: 2 ** 10, m: MIB, g: 2 ** 30, t: 2 ** 40 }[match[2]!.toLowerCase()]!;
}

export const addDomains: AddVerb = (program) => {
  const create = verb(program, "create", "start a domain in the background; -c shows its console")
    .argument("[args...]", "FILE.cfg in xl.cfg syntax, and key=value settings on top of it")
    .option("-c, --attach", "show its console; Ctrl-] leaves it running")
    .option("-p, --paused", "leave it standing before its first instruction")
    .option("--overcommit", "start it even if too little memory is free for it");
  addImageOptions(create).action(async (args: string[], options: CreateOptions) => {
    const { readSpec } = await import("../domain-spec.ts");
    const spec = await readSpec(args, options);
    const { openAgent, sayJson } = await access();
    const agent = await openAgent();
    const { paused, overcommit } = options;
    const info = await agent.post<DomainInfo>("/v1/domains", { spec, paused, overcommit });
    if (options.json === true) sayJson(info);
    if (options.attach !== true) return;
    const { attachConsole } = await import("../attach-console.ts");
    await attachConsole(agent, String(info.domid));
  });
  verb(program, "console", "a domain's console, from what it printed last; Ctrl-] leaves")
    .argument("<domain>", "name or number")
    .action(async (ref: string) => {
      const { openAgent } = await access();
      const { attachConsole } = await import("../attach-console.ts");
      await attachConsole(await openAgent(), ref);
    });
  addListings(program);
  addLifecycle(program);
  addSaving(program);
  addCopies(program);
  addMigration(program);
  addResources(program);
  addDeviceLists(program);
  addStore(program);
};

function addListings(program: Command): void {
  const listing = (name: string, description: string, describe: (domains: DomainInfo[]) => Promise<string[]>): void => {
    verb(program, name, description)
      .argument("[domains...]", "names or numbers; all without")
      .action(async (refs: string[], options: JsonOption) => {
        const { openAgent, say, sayJson } = await access();
        const agent = await openAgent();
        const domains =
          refs.length === 0
            ? (await agent.get<{ domains: DomainInfo[] }>("/v1/domains")).domains
            : await Promise.all(refs.map((ref) => agent.post<DomainInfo>(at(ref, "info"))));
        if (options.json === true) sayJson(domains);
        else for (const line of await describe(domains)) say(line);
      });
  };
  listing("list", "what runs", async (domains) => (await tables()).describeList(domains));
  listing("vcpu-list", "vcpus and what they do", async (domains) => (await tables()).describeVcpus(domains));
  listing("uptime", "since when", async (domains) => (await tables()).describeUptime(domains, Date.now() / 1000));
  verb(program, "usage", "what each domain used and had reserved, those included that have ended").action(
    async (options: JsonOption) => {
      const { openAgent, say, sayJson } = await access();
      const { usage } = await (await openAgent()).get<{ usage: import("@xenoserver/agent").UsageSum[] }>("/v1/usage");
      if (options.json === true) return sayJson(usage);
      const { usageTable } = await import("../usage-table.ts");
      for (const line of usageTable(usage)) say(line);
    },
  );
}

/** Files of saved domains: paths are the caller's, not the agent's. */
function addSaving(program: Command): void {
  verb(program, "save", "write a domain to a file as it stands, and end it")
    .argument("<domain>", "name or number")
    .argument("<file>", "what to write")
    .option("-c, --leave-running", "let it run on")
    .option("-p, --leave-paused", "leave it paused")
    .action(async (ref: string, file: string, options: SaveOptions) => {
      const next = options.leaveRunning === true ? "run" : options.leavePaused === true ? "pause" : "destroy";
      await operate(ref, "save", { path: resolve(file), next }, options);
    });
  verb(program, "restore", "let a domain go on from a file that save wrote")
    .argument("<file>", "what save wrote")
    .option("-n, --name <name>", "as another domain, with a uuid of its own")
    .option("-p, --paused", "leave it standing")
    .option("-c, --console", "show its console; Ctrl-] leaves it running")
    .option("--overcommit", "start it even if too little memory is free for it")
    .action(async (file: string, options: RestoreOptions) => {
      const { openAgent, sayJson } = await access();
      const agent = await openAgent();
      const { name, paused, overcommit } = options;
      const info = await agent.post<DomainInfo>("/v1/domains", { restore: resolve(file), name, paused, overcommit });
      if (options.json === true) sayJson(info);
      if (options.console !== true) return;
      const { attachConsole } = await import("../attach-console.ts");
      await attachConsole(agent, String(info.domid));
    });
}
function addCopies(program: Command): void {
  verb(program, "snapshot", "write a domain to a file as it is at a moment, while it runs on")
    .argument("<domain>", "name or number")
    .argument("<file>", "what to write")
    .action(async (ref: string, file: string, options: JsonOption) => {
      const { openAgent, say, sayJson } = await access();
      const report = await (await openAgent()).post<SnapshotReport>(at(ref, "snapshot"), { path: resolve(file) });
      if (options.json === true) return sayJson(report);
      const { bytes, totalMs, pausedMs } = report;
      say(
        `${file}: ${(bytes / 1e6).toFixed(0)} MB in ${(totalMs / 1000).toFixed(1)} s, of which it stood still for ${Math.round(pausedMs)} ms`,
      );
    });
  verb(program, "fork", "make copies of a running domain, which go on from where it is")
    .argument("<domain>", "name or number")
    .option("-c, --count <number>", "how many", (written) => wholeNumber(written), 1)
    .option("-n, --name <prefix>", "what their names begin with; the domain's own name if absent")
    .option("--overcommit", "make them even if too little memory is free for them")
    .action(async (ref: string, options: JsonOption & { count: number; name?: string; overcommit?: true }) => {
      const { openAgent, say, sayJson } = await access();
      const { count, name, overcommit } = options;
      const copies = await (await openAgent()).post<DomainInfo[]>(at(ref, "fork"), { count, name, overcommit });
      if (options.json === true) return sayJson(copies);
      for (const copy of copies) say(`${copy.name} is domain ${copy.domid}`);
    });
}

function addMigration(program: Command): void {
  verb(program, "migrate", "move a domain to another agent while it runs")
    .argument("<domain>", "name or number")
    .argument(
      "<agent>",
      "HOST[:PORT] of another server's; or the folder of one here, as in XENO_AGENT_HOME, with a / in it",
    )
    .option("--overcommit", "move it even if too little memory is free there")
    .option("--copy-storage", "copy disks that are files or devices; those on images go along by themselves")
    .option("--postcopy", "for a guest that writes faster than can be sent: the rest follows when it runs there")
    .action(async (ref: string, target: string, options: MigrateOptions) => {
      const { openAgent, openAgentOf, say, sayJson } = await access();
      const { agentHome } = await import("@xenoserver/agent/index.ts");
      let to = target;
      if (target.includes("/")) {
        const there = agentHome({ ...process.env, XENO_AGENT_HOME: resolve(target) });
        await openAgentOf(there);
        to = there.socket;
      }
      const { overcommit, copyStorage, postcopy } = options;
      const wishes = { copyStorage: copyStorage === true, postCopy: postcopy === true };
      const body = { to, overcommit: overcommit === true, ...wishes };
      const report = await migrate(await openAgent(), ref, body);
      if (options.json === true) return sayJson(report);
      const { rounds, sentBytes, diskBytes, totalMs, downtimeMs, leftHere, laterFrames, fetchedFrames } = report;
      const took = `${(totalMs / 1000).toFixed(1)} s, of which it stood still for ${Math.round(downtimeMs)} ms`;
      const disks = diskBytes > 0 ? `, ${(diskBytes / 1e6).toFixed(0)} MB of them disks,` : "";
      say(`${ref} is at ${target}: ${(sentBytes / 1e6).toFixed(0)} MB${disks} in ${rounds} rounds took ${took}`);
      if (laterFrames !== undefined) say(`${laterFrames} pages followed, ${fetchedFrames} of which it waited for`);
      for (const sentence of leftHere) say(sentence);
    });
}

interface MigrateOptions extends JsonOption {
  readonly overcommit?: true;
  readonly copyStorage?: true;
  readonly postcopy?: true;
}

/** With its progress on the terminal, if there is one. */
async function migrate(agent: AgentClient, ref: string, body: MigrateDomain): Promise<MigrationReport> {
  if (!process.stderr.isTTY) return agent.post<MigrationReport>(at(ref, "migrate"), body);
  const [{ operate }, { describeMigration, progressLine }] = await Promise.all([
    import("@xenoserver/agent/index.ts"),
    import("../migration-progress.ts"),
  ]);
  const line = progressLine(process.stderr);
  try {
    return await operate<MigrationReport>(agent, at(ref, "migrate"), body, {
      onProgress: (progress) => {
        if (progress.kind === "migrate") line.show(`${ref}: ${describeMigration(progress)}`);
      },
    });
  } finally {
    line.clear();
  }
}

interface CreateOptions extends JsonOption, ImageRunOptions {
  readonly attach?: true;
  readonly paused?: true;
  readonly overcommit?: true;
}
interface SaveOptions extends JsonOption {
  readonly leaveRunning?: true;
  readonly leavePaused?: true;
}
interface RestoreOptions extends JsonOption {
  readonly name?: string;
  readonly paused?: true;
  readonly console?: true;
  readonly overcommit?: true;
}

function addLifecycle(program: Command): void {
  for (const [name, request, description] of [
    ["shutdown", "poweroff", "ask the guest to power off"],
    ["reboot", "reboot", "ask the guest to reboot"],
  ] as [string, ShutdownRequest, string][]) {
    verb(program, name, description)
      .argument("<domain>", "name or number")
      .option("-w, --wait", "wait until it has ended")
      .action(async (ref: string, options: JsonOption & { wait?: true }) => {
        const { openAgent, sayJson } = await access();
        const agent = await openAgent();
        const end = options.wait === true && name === "shutdown" ? agent.get(at(ref, "end")) : Promise.resolve({});
        await Promise.all([agent.post(at(ref, "shutdown"), { request }), end]);
        if (options.json === true) sayJson(await end);
      });
  }
  for (const [name, description] of [
    ["destroy", "end a domain at once"],
    ["pause", "stop its vcpus between two instructions"],
    ["unpause", "let them run on"],
  ] as const) {
    verb(program, name, description)
      .argument("<domain>", "name or number")
      .action(async (ref: string, options: JsonOption) => {
        await operate(ref, name, {}, options);
      });
  }
  verb(program, "rename", "give it another name")
    .argument("<domain>")
    .argument("<name>")
    .action((ref: string, name: string, options: JsonOption) => operate(ref, "rename", { name }, options));
  verb(program, "sysrq", "press a key of the kernel's magic SysRq")
    .argument("<domain>")
    .argument("<letter>")
    .action((ref: string, key: string, options: JsonOption) => operate(ref, "sysrq", { key }, options));
}

function addResources(program: Command): void {
  verb(program, "mem-set", "how much memory the guest is to have, up to maxmem")
    .argument("<domain>")
    .argument("<memory>", "in MiB, or such as 512m or 1g", memoryBytes)
    .action((ref: string, targetBytes: number, options: JsonOption) =>
      operate(ref, "memory-set", { targetBytes }, options),
    );
  verb(program, "vcpu-set", "how many vcpus the guest is to use")
    .argument("<domain>")
    .argument("<count>", "up to what it was created with", wholeNumber)
    .action((ref: string, count: number, options: JsonOption) => operate(ref, "vcpu-set", { count }, options));
  verb(program, "vcpu-pin", "on which of the host's processors a vcpu may run")
    .argument("<domain>")
    .argument("<vcpu>", "its number, or all", (written) => (written === "all" ? written : wholeNumber(written)))
    .argument("<cpus>", "as in xl.cfg: 0-3,^1, or all")
    .action((ref: string, vcpu: number | "all", cpus: string, options: JsonOption) =>
      operate(ref, "vcpu-pin", { vcpu, cpus }, options),
    );
  verb(program, "sched-credit2", "how much processors' time domains get; with -d and -w or -c, set it")
    .option("-d, --domain <domain>", "this one")
    .option("-w, --weight <weight>", "its share where domains want more than there is, 256 by default", wholeNumber)
    .option("-c, --cap <percent>", "of one processor, for its vcpus together; 0 for no cap", wholeNumber)
    .action(schedule);
  verb(program, "block-attach", "plug a disk in")
    .argument("<domain>")
    .argument("<disk>", "as in xl.cfg: disk.img,raw,xvdb")
    .action(async (ref: string, disk: string, options: JsonOption) => {
      const { absoluteDisk } = await import("../domain-spec.ts");
      await operate(ref, "block-attach", { disk: absoluteDisk(disk) }, options);
    });
  verb(program, "block-detach", "take a disk out")
    .argument("<domain>")
    .argument("<disk>", "the guest's name for it: xvdb")
    .action((ref: string, vdev: string, options: JsonOption) => operate(ref, "block-detach", { vdev }, options));
  verb(program, "network-attach", "plug a network interface in")
    .argument("<domain>")
    .argument("[vif]", "as in xl.cfg: bridge=lan", "")
    .action((ref: string, vif: string, options: JsonOption) => operate(ref, "network-attach", { vif }, options));
  verb(program, "network-detach", "take a network interface out")
    .argument("<domain>")
    .argument("<number>", "the first is 0", wholeNumber)
    .action((ref: string, devid: number, options: JsonOption) => operate(ref, "network-detach", { devid }, options));
}

interface ScheduleOptions extends JsonOption {
  readonly domain?: string;
  readonly weight?: number;
  readonly cap?: number;
}

/** Tells domains' weights and caps, or changes one's. */
async function schedule({ domain, weight, cap, json }: ScheduleOptions): Promise<void> {
  const changes: readonly (readonly [what: string, op: string, body: Readonly<Record<string, number>>])[] = [
    ...(weight === undefined ? [] : ([[`weight is ${weight}`, "weight-set", { weight }]] as const)),
    ...(cap === undefined ? [] : ([[`cap is ${cap}`, "cap-set", { percent: cap }]] as const)),
  ];
  if (domain === undefined && changes.length > 0)
    throw new ExitError(ExitStatus.badConfig, `${changes[0]![0]}, of no domain: expected -d DOMAIN beside it`);
  const { openAgent, say, sayJson } = await access();
  for (const [n, [, op, body]] of changes.entries())
    await operate(domain!, op, body, { json: json === true && n === changes.length - 1 });
  if (changes.length > 0) return;
  const agent = await openAgent();
  const path = domain === undefined ? "/v1/domains" : `/v1/domains/${encodeURIComponent(domain)}`;
  const found = await agent.get<DomainInfo | { domains: DomainInfo[] }>(path);
  const all = "domains" in found ? found.domains : [found];
  if (json === true)
    return sayJson(all.map(({ name, domid, weight, capPercent }) => ({ name, domid, weight, capPercent })));
  for (const line of (await tables()).describeShares(all)) say(line);
}

function addDeviceLists(program: Command): void {
  for (const [name, deviceClass, what] of [
    ["block-list", "vbd", "its disks"],
    ["network-list", "vif", "its network interfaces"],
  ] as const) {
    verb(program, name, what)
      .argument("<domain>", "name or number")
      .action(async (ref: string, options: JsonOption) => {
        const { openAgent, say, sayJson } = await access();
        const agent = await openAgent();
        const { devices } = await agent.post<DomainInfo>(at(ref, "info"));
        const kind = deviceClass === "vbd" ? "disk" : "vif";
        if (options.json === true) return sayJson(devices.filter((device) => device.kind === kind));
        // A store is one domain's, which goes on under the number that it had where it was copied or saved.
        const { names } = await agent.post<{ names: string[] }>(at(ref, "xenstore-list"), { path: "/local/domain" });
        const path = `/local/domain/${names.find((name) => name !== "0")}/device/${deviceClass}`;
        const { nodes } = await agent.post<{ nodes: StoreNode[] }>(at(ref, "xenstore-tree"), { path });
        const { describeDisks, describeVifs } = await tables();
        for (const line of deviceClass === "vbd" ? describeDisks(nodes, path) : describeVifs(nodes, path)) say(line);
      });
  }
}

/** Paths name their domain: /local/domain/N. A path of no domain is looked for in the one that is named. */
function addStore(program: Command): void {
  const store = (name: string, description: string): Command =>
    verb(program, name, description)
      .argument("<domain>", "whose xenstore")
      .argument("<path>", "such as /local/domain/1/name");
  store("xenstore-read", "a node's value").action(async (ref: string, path: string, options: JsonOption) => {
    const { value } = await operate<{ value: string | null }>(ref, "xenstore-read", { path }, options);
    const { ExitError, ExitStatus } = await import("../exit-status.ts");
    if (value === null) throw new ExitError(ExitStatus.failed, `xenstore ${path}: no such node`);
    if (options.json !== true) (await access()).say(value);
  });
  store("xenstore-write", "change or make a node")
    .argument("<value>")
    .action((ref: string, path: string, value: string, options: JsonOption) =>
      operate(ref, "xenstore-write", { path, value }, options),
    );
  store("xenstore-rm", "remove a node and all below").action((ref: string, path: string, options: JsonOption) =>
    operate(ref, "xenstore-rm", { path }, options),
  );
  verb(program, "xenstore-ls", "a node and all below")
    .argument("<domain>", "whose xenstore")
    .argument("[path]", "where to begin", "/")
    .action(async (ref: string, path: string, options: JsonOption) => {
      const { nodes } = await operate<{ nodes: StoreNode[] }>(ref, "xenstore-tree", { path }, options);
      if (options.json === true) return;
      const { say } = await access();
      const base = path === "/" ? 0 : path.split("/").length - 1;
      for (const node of nodes.slice(1)) {
        const depth = node.path.split("/").length - 2 - base;
        say(`${" ".repeat(depth)}${node.path.split("/").at(-1)} = "${node.value}"`);
      }
    });
}
