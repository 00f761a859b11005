/** What an image brings to a configuration that names no kernel. */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { contentOf, Ext4Image, FileTree, ImageStore } from "@xenoserver/storage";
import { type CfgSetting, parseCfg } from "../cfg/index.ts";
import { bootFromImage } from "./boot-settings.ts";

const folder = mkdtempSync(join(tmpdir(), "xeno-boot-"));
const storeBefore = process.env["XENO_STORE"];
let store: ImageStore;

before(async () => {
  process.env["XENO_STORE"] = join(folder, "store");
  store = await ImageStore.open(join(folder, "store"));
  await keep("debian:12", "first");
});
after(() => {
  if (storeBefore === undefined) delete process.env["XENO_STORE"];
  else process.env["XENO_STORE"] = storeBefore;
  rmSync(folder, { recursive: true });
});

/** An image under a name, with a kernel that consists of a text. */
async function keep(name: string, kernel: string): Promise<void> {
  const tree = new FileTree();
  tree.put("which", { type: "file", owner: { mode: 0o644, uid: 0, gid: 0, mtime: 0 }, content: contentOf(kernel) });
  const disk = Ext4Image.make(tree, { sizeBytes: 8 << 20, uuid: Buffer.alloc(16, 1) });
  const files = { kernel: contentOf(kernel), ramdisk: contentOf(`${kernel} ramdisk`) };
  await store.import(name, disk, undefined, { files, about: { cmdline: "ro quiet", agent: "1" } });
}

const textOf = (settings: Map<string, CfgSetting>, key: string): string | undefined => {
  const value = settings.get(key)?.value;
  return value?.kind === "atom" ? value.text : undefined;
};
const fileOf = (settings: Map<string, CfgSetting>, key: string): string => readFileSync(textOf(settings, key)!, "utf8");

test("kernel, ramdisk and command line come from the image of the first disk", async () => {
  const settings = parseCfg('disk = ["debian:12,image,xvdb"]\nextra = "mine"\n', "x.cfg");
  assert.equal((await bootFromImage(settings))?.about?.["agent"], "1");
  assert.deepEqual([fileOf(settings, "kernel"), fileOf(settings, "ramdisk")], ["first", "first ramdisk"]);
  assert.deepEqual([textOf(settings, "root"), textOf(settings, "extra")], ["/dev/xvdb", "ro quiet mine"]);
});

test("a command line, a ramdisk and a kernel that are given stay", async () => {
  const settings = parseCfg('disk = ["debian:12,image,xvda"]\ncmdline = "all mine"\nramdisk = "/own"\n', "x.cfg");
  await bootFromImage(settings);
  assert.deepEqual([textOf(settings, "cmdline"), textOf(settings, "ramdisk")], ["all mine", "/own"]);
  assert.equal(settings.has("root"), false);
  const own = parseCfg('disk = ["nothing,image,xvda"]\nkernel = "/own"\n', "x.cfg");
  assert.equal(await bootFromImage(own), undefined);
});

test("a disk that is there goes on with the kernel of its own image", async () => {
  await store.clone("debian:12", "old-xvda");
  await keep("debian:12", "second");
  const boot = async (name: string): Promise<string> => {
    const settings = parseCfg(`name = "${name}"\ndisk = ["debian:12,image,xvda"]\n`, "x.cfg");
    await bootFromImage(settings);
    return fileOf(settings, "kernel");
  };
  assert.deepEqual([await boot("old"), await boot("new")], ["first", "second"]);
});

test("an image that is not there is named", async () => {
  const settings = parseCfg('disk = ["nothing,image,xvda"]\n', "x.cfg");
  await assert.rejects(bootFromImage(settings), /x\.cfg:1: disk xvda: image nothing: there is none of this name/);
});
