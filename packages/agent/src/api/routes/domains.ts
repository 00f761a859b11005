/** Domains: what there is, and how one comes, is copied, moves and ends. */
import type { DomainInfo as ToolstackInfo } from "@xenoserver/toolstack/control/index.ts";
import { z } from "zod";
import { get, post, type Route } from "../route.ts";
import { answer, listOf, wholeNumber } from "../schema/fields.ts";
import {
  AwaitedDomain,
  Domain,
  DomainEnded,
  DomainInfo,
  DomainList,
  ForkDomain,
  Log,
  MakeDomain,
  MigrateDomain,
  MigrationReport,
  NoBody,
  Nothing,
  SaveDomain,
  ShutdownDomain,
  SnapshotDomain,
  SnapshotReport,
  settingsOf,
  ViewQuery,
} from "../schema/index.ts";

const seenAs = (view: "full" | "settings") => (info: ToolstackInfo) => (view === "full" ? info : settingsOf(info));
const CANCELLABLE = { canCancel: true } as const;

export const DOMAIN_ROUTES: readonly Route[] = [
  get({
    id: "listDomains",
    path: "/v1/domains",
    summary: "What runs",
    query: ViewQuery,
    result: DomainList,
    isTagged: true,
    answer: async ({ supervisor, query: { view } }) => ({ domains: (await supervisor.list()).map(seenAs(view)) }),
  }),
  post({
    id: "createDomain",
    path: "/v1/domains",
    summary: "Start a domain, anew or where it was saved; or make a place for one that another agent will send",
    body: MakeDomain,
    result: z.union([DomainInfo, AwaitedDomain]),
    refusals: [409],
    slow: (body) => ("awaits" in body ? undefined : { kind: "spec" in body ? "create" : "restore", ...CANCELLABLE }),
    answer({ supervisor, body }, work) {
      const { overcommit = false } = body;
      if ("awaits" in body) return supervisor.await(body.awaits, overcommit);
      const options = { paused: body.paused ?? false, overcommit };
      if ("spec" in body) return supervisor.create(body.spec, options, work);
      return supervisor.restore(body.restore, options, body.name, work);
    },
  }),
  get({
    id: "getDomain",
    path: "/v1/domains/{ref}",
    summary: "One domain",
    query: ViewQuery,
    result: Domain,
    isTagged: true,
    answer: async ({ supervisor, ref, query: { view } }) => seenAs(view)(await supervisor.call(ref, "info", {})),
  }),
  get({
    id: "awaitEnd",
    path: "/v1/domains/{ref}/end",
    summary: "Wait for a domain's end",
    result: DomainEnded,
    answer: async ({ supervisor, ref }) => (await supervisor.ended(ref))!,
  }),
  get({
    id: "getLog",
    path: "/v1/domains/{ref}/log",
    summary: "What the hypervisor had to say of a domain",
    result: Log,
    answer: ({ supervisor, ref }) => ({ log: supervisor.log(ref) }),
  }),
  get({
    id: "awaitArrival",
    path: "/v1/domains/{domid}/arrival",
    summary: "Wait until a domain that another agent sends runs here; 404 if it does not and will not",
    result: DomainInfo,
    answer: ({ supervisor, ref }) => supervisor.arrivals.arrived(Number(ref)),
  }),
  post({
    id: "giveUpArrival",
    path: "/v1/domains/{domid}/give-up",
    summary: "Give up the place of a domain that will not come",
    body: NoBody,
    result: Nothing,
    isRepeatable: true,
    answer: ({ supervisor, ref }) => supervisor.arrivals.giveUp(Number(ref)).then(() => ({})),
  }),
  post({
    id: "forkDomain",
    path: "/v1/domains/{ref}/fork",
    summary: "Make copies that go on from where a domain is",
    body: ForkDomain,
    result: listOf(DomainInfo),
    refusals: [409],
    slow: () => ({ kind: "fork", ...CANCELLABLE }),
    answer: ({ supervisor, ref, body: { overcommit = false, ...rest } }, work) =>
      supervisor.fork(ref, { ...rest, overcommit }, work),
  }),
  post({
    id: "migrateDomain",
    path: "/v1/domains/{ref}/migrate",
    summary: "Move a domain to another agent while it runs",
    body: MigrateDomain,
    result: MigrationReport,
    refusals: [409, 502],
    slow: () => ({ kind: "migrate", ...CANCELLABLE }),
    answer: ({ supervisor, ref, body: { to, overcommit = false, copyStorage = false, postCopy = false } }, work) =>
      supervisor.migrate(ref, to, { overcommit, copyStorage, postCopy }, work),
  }),
  post({
    id: "saveDomain",
    path: "/v1/domains/{ref}/save",
    summary: "Write a domain to a file as it stands",
    body: SaveDomain,
    result: answer({ bytes: wholeNumber().describe("Before compression.") }),
    refusals: [409],
    slow: () => ({ kind: "save", ...CANCELLABLE }),
    answer: ({ supervisor, ref, body }, work) => supervisor.save(ref, body, work),
  }),
  post({
    id: "snapshotDomain",
    path: "/v1/domains/{ref}/snapshot",
    summary: "Write a domain to a file as it is at a moment, while it runs on",
    body: SnapshotDomain,
    result: SnapshotReport,
    refusals: [409],
    slow: () => ({ kind: "snapshot", ...CANCELLABLE }),
    answer: ({ supervisor, ref, body: { path } }, work) => supervisor.snapshot(ref, path, work),
  }),
  post({
    id: "shutdownDomain",
    path: "/v1/domains/{ref}/shutdown",
    summary: "Ask the guest to power off or reboot",
    body: ShutdownDomain,
    result: z.union([DomainEnded, Nothing]),
    refusals: [409],
    isRepeatable: true,
    slow: ({ wait }) => (wait === true ? { kind: "shutdown", canCancel: false } : undefined),
    async answer({ supervisor, ref, body: { request, wait } }, work) {
      const end = wait === true ? supervisor.ended(ref) : undefined;
      await supervisor.call(ref, "shutdown", { request });
      work.report({ kind: "shutdown", asked: true });
      return (await end) ?? {};
    },
  }),
];
