/** A folder stands in for cgroupfs here: what is written where. What a kernel makes of it, apps/cli/src/confinement.test.ts shows where it can. */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { after, test } from "node:test";
import { configOf } from "@xenoserver/toolstack/control/index.ts";
import { DomainGroups } from "./domain-groups.ts";
import { EMPTY, isInMemory, limitsOf, together, writtenByDisk } from "./group-limits.ts";
import { belowOwn, groupFolderOf, openDomainsGroup, spareBytesIn } from "./own-group.ts";

const MIB = 2 ** 20;
const folder = mkdtempSync(join(tmpdir(), "xeno-groups-"));
after(() => rmSync(folder, { recursive: true, force: true }));

/** What the kernel has in a new group. */
function standIn(path: string, controllers: string, processes: readonly number[]): string {
  mkdirSync(path, { recursive: true });
  const files = {
    "cgroup.type": "domain\n",
    "cgroup.controllers": `${controllers}\n`,
    "cgroup.subtree_control": "\n",
    "cgroup.procs": processes.map((pid) => `${pid}\n`).join(""),
  };
  for (const [name, text] of Object.entries(files)) writeFileSync(join(path, name), text);
  return path;
}
const read = (...path: string[]): string => readFileSync(join(...path), "utf8");

test("a process's group is found where it is mounted", () => {
  const mounts = (root: string, at: string): string =>
    `30 23 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n31 23 0:28 ${root} ${at} rw,nosuid shared:4 - cgroup2 cgroup2 rw\n`;
  const at = (cgroup: string, root = "/", mount = "/sys/fs/cgroup"): string | undefined =>
    groupFolderOf(`4:memory:/elsewhere\n0::${cgroup}\n`, mounts(root, mount));
  assert.equal(at("/"), "/sys/fs/cgroup/");
  assert.equal(at("/a.slice/b.service"), "/sys/fs/cgroup/a.slice/b.service");
  assert.equal(at("/docker/1/x", "/docker/1"), "/sys/fs/cgroup/x");
  assert.equal(at("/docker/12", "/docker/1"), undefined, "a part of a name is no folder");
  assert.equal(at("/../other"), undefined, "outside of the container");
  assert.equal(at("/a", "/", "/sys/a\\040b"), "/sys/a b/a");
  assert.equal(groupFolderOf("4:memory:/x\n", mounts("/", "/sys/fs/cgroup")), undefined, "version 1 only");
});

test("an agent that is alone in its group goes to a leaf, and domains' groups get their controllers", () => {
  const own = standIn(join(folder, "alone"), "cpu memory pids", [process.pid, process.ppid]);
  standIn(join(own, "xenoserver"), "memory pids", []);
  mkdirSync(join(own, "agent"));
  // The folder does not do what the kernel does: it is not empty when they have gone.
  assert.equal(belowOwn(own), undefined, "the last write stands, which is no list of controllers");
  assert.equal(read(own, "agent", "cgroup.procs"), String(process.ppid));
  assert.equal(read(own, "cgroup.subtree_control"), "+pids", "and not the one of processors, which would end weights");
  assert.equal(read(own, "xenoserver", "cgroup.subtree_control"), "+pids");
});

test("an agent that was started in the leaf of an earlier one has the group above", () => {
  const above = standIn(join(folder, "above"), "memory", []);
  const leaf = standIn(join(above, "agent"), "", [process.pid, 1]);
  const domains = standIn(join(above, "xenoserver"), "memory", []);
  for (const path of [above, domains]) writeFileSync(join(path, "cgroup.subtree_control"), "memory\n");
  assert.deepEqual(belowOwn(leaf), { folder: domains, controllers: ["memory"] });
});

test("a group of others, or without a controller of use, is left as it is", () => {
  const shared = standIn(join(folder, "shared"), "memory pids", [process.pid, 1]);
  assert.equal(belowOwn(shared), undefined);
  const useless = standIn(join(folder, "useless"), "hugetlb", [process.pid]);
  assert.equal(belowOwn(useless), undefined);
  for (const own of [shared, useless]) {
    assert.equal(existsSync(join(own, "agent")), false);
    assert.equal(read(own, "cgroup.subtree_control"), "\n");
  }
  assert.equal(openDomainsGroup("0"), undefined);
  assert.equal(openDomainsGroup(join(folder, "nowhere")), undefined);
});

test("a process's group has its limits, and goes when the process's folder has gone", async () => {
  const within = { folder: join(folder, "within"), controllers: ["memory"] as const };
  const records = join(folder, "records");
  const domain = join(folder, "domains", "3");
  mkdirSync(domain, { recursive: true });
  const groups = new DomainGroups(records, within);
  const procs = groups.make(domain, EMPTY)!;
  const group = join(procs, "..");
  assert.match(basename(group), /^domain-3-[0-9a-f]{8}$/);
  assert.deepEqual(readdirSync(group), [], "no limits where no controller is");
  writeFileSync(join(group, "memory.max"), "max\n");
  groups.limit(domain, { memoryBytes: 5 * MIB, tasks: 7 });
  assert.equal(read(group, "memory.max"), String(5 * MIB));
  groups.liftMemory(domain);
  assert.equal(read(group, "memory.max"), "max");
  await groups.sweep();
  assert.ok(existsSync(group), "its process's folder is there");
  // The kernel removes a group with the files that it has in it.
  rmSync(join(group, "memory.max"));
  rmSync(domain, { recursive: true });
  await new DomainGroups(records, undefined).sweep();
  assert.equal(existsSync(group), false, "by an agent that makes none itself");
  assert.deepEqual(readdirSync(records), []);
  assert.equal(new DomainGroups(records, undefined).make(domain, EMPTY), undefined);
});

test("a limit has room for all that the guest may ever have, and for its files", { skip: isInMemory(folder) }, () => {
  const kernel = join(folder, "kernel");
  writeFileSync(kernel, new Uint8Array(3 * MIB));
  const of = (more: object) => limitsOf(configOf({ kernel, name: "one", ...more }, "t").config, folder);
  assert.equal(of({ memory: 64, maxmem: 256 }).memoryBytes, (256 + 512 + 64 + 3) * MIB);
  assert.equal(of({ memory: 64, vcpus: 2 }).memoryBytes, (64 + 512 + 128 + 3) * MIB);
  const both = together([of({ memory: 64 }), of({ memory: 32 })]);
  assert.equal(both.memoryBytes, (64 + 32 + 2 * (512 + 64 + 3)) * MIB);
  assert.equal(together([EMPTY, of({ memory: 64 })]).memoryBytes, undefined);
});

test("what counts files as memory has no limit of memory", { skip: !isInMemory("/dev/shm") }, () => {
  const of = (disk: string) =>
    limitsOf(configOf({ kernel: "/k", name: "one", disk: [disk] }, "t").config, "/proc").memoryBytes;
  assert.equal(of("/dev/shm/not/there.img,raw,xvda"), undefined);
  assert.notEqual(of("/dev/shm/not/there.img,raw,xvda,r"), undefined);
  assert.deepEqual(writtenByDisk("/dev/shm/a.img,raw,xvda"), ["/dev/shm/a.img"]);
  assert.deepEqual(writtenByDisk("no disk, at all"), []);
});

test("what is spare is what the tightest of the groups leaves", () => {
  const outer = standIn(join(folder, "outer"), "memory", []);
  const inner = standIn(join(outer, "inner"), "memory", []);
  const limit = (path: string, max: string, current: number, idle: number): void => {
    writeFileSync(join(path, "memory.max"), `${max}\n`);
    writeFileSync(join(path, "memory.current"), `${current}\n`);
    writeFileSync(join(path, "memory.stat"), `anon 1\ninactive_file ${idle}\n`);
  };
  limit(inner, "max", 10, 0);
  limit(outer, "1000", 700, 50);
  assert.equal(spareBytesIn(inner), 350);
  limit(inner, "100", 10, 0);
  assert.equal(spareBytesIn(inner), 90);
  assert.equal(spareBytesIn(folder), Number.POSITIVE_INFINITY);
});
