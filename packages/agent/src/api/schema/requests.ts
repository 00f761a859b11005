/** Bodies and queries of requests. */
import { z } from "zod";
import { AfterSave, DomainSpec } from "./domain.ts";
import {
  absolutePath,
  flag,
  listOf,
  matching,
  oneOf,
  optional,
  request,
  text,
  wholeNumber,
  writtenWholeNumber,
} from "./fields.ts";

const overcommit = optional(flag()).describe("Do it even if the host seems to have too little memory free.");
const paused = optional(flag()).describe("Leave it standing.");
const NAME = /^[A-Za-z0-9][\w.+:-]{0,63}$/;
const name = () => matching(NAME, "up to 64 letters, digits or any of _.+:-, a letter or digit first");

export const CreateDomain = request({ spec: DomainSpec, paused, overcommit });
export type CreateDomain = z.infer<typeof CreateDomain>;
export const RestoreDomain = request({
  restore: absolutePath().describe("A file that save or snapshot wrote."),
  name: optional(name()).describe("Makes it another domain, with a uuid of its own."),
  paused,
  overcommit,
});
export type RestoreDomain = z.infer<typeof RestoreDomain>;
export const AwaitDomain = request({ awaits: DomainSpec, overcommit });
export const MakeDomain = z.union([CreateDomain, RestoreDomain, AwaitDomain], { error: "an object" });
export type MakeDomain = z.infer<typeof MakeDomain>;

const MAX_COPIES = 256;
export const ForkDomain = request({
  count: wholeNumber(1, MAX_COPIES).default(1),
  name: optional(name()).describe("What the copies' names begin with; its own if absent."),
  overcommit,
});
export type ForkDomain = z.input<typeof ForkDomain>;
export const MigrateDomain = request({
  to: matching(/./, "HOST[:PORT] of another agent, or the path of its socket"),
  overcommit,
  copyStorage: optional(flag()).describe("Copy disks that are files or devices; those on images go along anyway."),
  postCopy: optional(flag()).describe(
    "Send memory once, and what the guest writes meanwhile when it runs there: for guests that write faster than can be sent. If the line is cut then, the domain is lost.",
  ),
});
export type MigrateDomain = z.infer<typeof MigrateDomain>;

export const SaveDomain = request({ path: absolutePath(), next: AfterSave });
export const SnapshotDomain = request({ path: absolutePath() });
export const ShutdownDomain = request({
  request: oneOf(["poweroff", "reboot", "halt", "suspend"]),
  wait: optional(flag()).describe("Answer when the domain has ended, with its end. A guest need not obey."),
});
export const PressSysrq = request({ key: matching(/^[0-9a-zA-Z]$/, "one letter or digit") });
export const RenameDomain = request({ name: name() });
export const SetMemory = request({ targetBytes: wholeNumber() });
export const SetVcpus = request({ count: wholeNumber() });
export const PinVcpus = request({
  vcpu: z.union([wholeNumber(), z.literal("all")], { error: "a vcpu's number, or all" }),
  cpus: text('processors such as "0-3,^1", or "all"').describe("Of the host, as in xl.cfg."),
});
export const SetWeight = request({ weight: wholeNumber() });
export const SetCap = request({ percent: wholeNumber() });
export const AttachDisk = request({ disk: text("a disk as in xl.cfg") });
export const DetachDisk = request({ vdev: text("the guest's name of a disk, such as xvdb") });
export const AttachVif = request({ vif: text("an interface as in xl.cfg") });
export const DetachVif = request({ devid: wholeNumber() });
export const WriteConsole = request({
  base64: matching(/^[A-Za-z0-9+/]*={0,2}$/, "bytes in base64"),
});

const path = text("a path in xenstore");
export const StorePath = request({ path });
export const WriteStore = request({ path, value: text() });
export const ChangeStorePermissions = request({
  path,
  permissions: listOf(text()).min(1, { error: 'a list such as ["n0","r1"]' }),
});
export const NoBody = request({});

export const ViewQuery = request({
  view: oneOf(["full", "settings"])
    .default("full")
    .describe("`settings` leaves counters out: it, and its ETag, stay the same until something is changed."),
});
export const WatchQuery = request({ path: text("a path in xenstore") });

const MAX_WAIT_SECONDS = 600;
export const WaitQuery = request({ timeoutSeconds: optional(writtenWholeNumber(0, MAX_WAIT_SECONDS)) });
