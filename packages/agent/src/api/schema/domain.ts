/** Domains, as the agent tells of them. */
import type {
  DomainEnd as ToolstackEnd,
  DomainInfo as ToolstackInfo,
  StoreNode as ToolstackNode,
  SaveOutcome as ToolstackSaveOutcome,
  DomainSpec as ToolstackSpec,
} from "@xenoserver/toolstack/control/index.ts";
import type { MigrationReport as ToolstackMigration } from "@xenoserver/toolstack/migrate/index.ts";
import type { SnapshotReport as ToolstackSnapshot } from "@xenoserver/toolstack/snapshot/index.ts";
import { z } from "zod";
import { answer, anyNumber, flag, listOf, oneOf, optional, text, wholeNumber } from "./fields.ts";
import type { Same } from "./same.ts";
import { UsageTotals } from "./usage.ts";

export const DomainSpec = z
  .record(
    z.string(),
    z.union([z.string(), z.number(), z.array(z.string())], { error: "a string, a number or a list of strings" }),
    { error: "keys of xl.cfg" },
  )
  .describe("A configuration: the keys of xl.cfg, paths from the root on.");
export type DomainSpec = z.infer<typeof DomainSpec>;
true satisfies Same<DomainSpec, ToolstackSpec>;

export const Vcpu = answer({
  id: wholeNumber(),
  state: oneOf(["running", "runnable", "blocked", "offline"]),
  ranNs: wholeNumber().describe("Time in which it ran."),
});

const DISK = { kind: z.literal("disk"), vdev: text(), devid: wholeNumber() };
export const Disk = answer({
  ...DISK,
  sizeBytes: wholeNumber().describe("As the guest sees it; may grow."),
  storedBytes: wholeNumber().describe("What its file takes of the host; may shrink."),
  reads: wholeNumber(),
  writes: wholeNumber(),
  flushes: wholeNumber(),
  discards: wholeNumber(),
  readBytes: wholeNumber(),
  writtenBytes: wholeNumber(),
});

const VIF = { kind: z.literal("vif"), devid: wholeNumber(), mac: text() };
export const Vif = answer({
  ...VIF,
  txPackets: wholeNumber(),
  txBytes: wholeNumber(),
  txErrors: wholeNumber(),
  rxPackets: wholeNumber(),
  rxBytes: wholeNumber(),
  rxDropped: wholeNumber(),
}).describe("An interface with its counters, as the guest sees it: what it sent is tx.");

/** What changes only when somebody or the guest changes it. */
const SETTINGS = {
  runId: text().describe("Names this run of the domain, on this server; also in its usage records."),
  domid: wholeNumber(),
  name: text(),
  uuid: text(),
  state: oneOf(["running", "paused", "ended"]),
  startedAt: wholeNumber().describe("Seconds since the Unix epoch."),
  restarts: wholeNumber().describe("How often the guest started anew in this process."),
  memoryTargetBytes: wholeNumber(),
  memoryMaxBytes: wholeNumber(),
  vcpusWanted: wholeNumber().describe("Vcpus that the guest is to have online."),
  weight: wholeNumber().describe("Its share where domains want more than there is, beside theirs; 256 by default."),
  capPercent: wholeNumber().describe("What its vcpus may take together, in percent of one processor; 0 for no cap."),
  affinity: listOf(text()).describe(
    'By vcpu: the host\'s processors that it may run on, as xl writes them: "0,2-3", or "all".',
  ),
};

export const DomainInfo = answer({
  ...SETTINGS,
  pid: wholeNumber(),
  memoryBytes: wholeNumber().describe("What the guest owns now."),
  vcpus: listOf(Vcpu),
  devices: listOf(z.discriminatedUnion("kind", [Disk, Vif])),
  usage: UsageTotals,
  consoleBytes: wholeNumber().describe("Bytes that the console has printed."),
}).describe("All that there is to know of a domain, at one moment.");
export type DomainInfo = z.infer<typeof DomainInfo>;
true satisfies Same<DomainInfo, ToolstackInfo>;

export const DomainSettings = answer({
  ...SETTINGS,
  devices: listOf(z.discriminatedUnion("kind", [answer(DISK), answer(VIF)])),
}).describe(
  "A domain without its counters: the same until somebody, or its guest, changes it. Its ETag is for If-Match.",
);
export type DomainSettings = z.infer<typeof DomainSettings>;

/** A domain without what counts by itself. */
export function settingsOf(info: ToolstackInfo): DomainSettings {
  const { runId, domid, name, uuid, state, startedAt, restarts } = info;
  const { memoryTargetBytes, memoryMaxBytes, vcpusWanted, weight, capPercent, affinity } = info;
  const devices = info.devices.map((device) =>
    device.kind === "disk"
      ? { kind: device.kind, vdev: device.vdev, devid: device.devid }
      : { kind: device.kind, devid: device.devid, mac: device.mac },
  );
  return {
    ...{ runId, domid, name, uuid, state, startedAt, restarts },
    ...{ memoryTargetBytes, memoryMaxBytes, vcpusWanted, weight, capPercent, affinity: [...affinity] },
    devices,
  };
}

export const Domain = z.union([DomainInfo, DomainSettings]);
export const DomainList = answer({ domains: listOf(Domain) });

export const MigrationReport = answer({
  rounds: wholeNumber(),
  sentBytes: wholeNumber().describe("Of everything."),
  diskBytes: wholeNumber(),
  totalMs: anyNumber().describe("From the first byte to the other side's word that the domain runs."),
  downtimeMs: anyNumber().describe(
    "From the moment the vcpus were asked to stand still until they ran there, as far as that word tells.",
  ),
  downtime: answer({
    haltMs: anyNumber().describe("Until the vcpus stand still and devices have nothing in flight."),
    writeMs: anyNumber().describe("Until the rest is written."),
    readyMs: anyNumber().describe("Until the other side has loaded that."),
    releaseMs: anyNumber().describe("Until disks are closed and ports let go here."),
    startMs: anyNumber().describe("Until the domain runs there."),
  }),
  leftHere: listOf(text()).describe("Sentences on what went along and could not be removed here."),
  laterFrames: optional(wholeNumber()).describe("With post-copy: pages that followed when the domain ran there."),
  fetchedFrames: optional(wholeNumber()).describe("Those of them that it had to wait for."),
});
export type MigrationReport = z.infer<typeof MigrationReport>;
true satisfies Same<MigrationReport, ToolstackMigration>;

export const AfterSave = oneOf(["destroy", "run", "pause"]);
const SAVE = {
  token: text().describe("The number of the operation, or of the request."),
  path: text(),
  next: AfterSave,
};
export const SaveOutcome = z.union([
  answer({ ...SAVE, bytes: wholeNumber().describe("Before compression.") }),
  answer({ ...SAVE, error: text().describe("Why there is no file of it.") }),
]);
true satisfies Same<z.infer<typeof SaveOutcome>, ToolstackSaveOutcome>;

export const DomainEnd = answer({
  reason: oneOf(["poweroff", "reboot", "suspend", "crash", "watchdog", "soft-reset", "destroyed"]),
  detail: optional(text()).describe("Unless it was wanted: what happened."),
  runMs: anyNumber(),
  instructions: wholeNumber(),
  exits: z.record(z.string(), z.number()),
  restarts: wholeNumber(),
  endedAt: wholeNumber().describe("Seconds since the Unix epoch."),
  moved: optional(MigrationReport).describe("It went to another server, and what came of that."),
  saves: optional(listOf(SaveOutcome)).describe("What came of the last times that it was saved."),
});
true satisfies Same<z.infer<typeof DomainEnd>, ToolstackEnd>;
/** Of a domain whose process could not tell it. */
export const LostDomain = answer({
  reason: oneOf(["killed", "failed"]),
  detail: optional(text()),
  endedAt: wholeNumber(),
});
export const DomainEnded = z.union([DomainEnd, LostDomain]).describe("How a domain ended for good.");

export const StoreNode = answer({
  path: text(),
  value: text(),
  permissions: listOf(text()).describe('As in the store\'s protocol: "n0", "r3".'),
});
true satisfies Same<z.infer<typeof StoreNode>, ToolstackNode>;

export const SnapshotReport = answer({
  bytes: wholeNumber(),
  rounds: wholeNumber(),
  totalMs: anyNumber(),
  pausedMs: anyNumber().describe("How long the vcpus stood still."),
});
export type SnapshotReport = z.infer<typeof SnapshotReport>;
true satisfies Same<SnapshotReport, ToolstackSnapshot>;

export const AwaitedDomain = answer({
  domid: wholeNumber(),
  socket: text().describe("Of use on its own machine only."),
}).describe("A place for a domain that another agent will send.");

export const Agreed = answer({ agreed: flag().describe("Whether the guest let go by itself.") });
export const Nothing = answer({});
