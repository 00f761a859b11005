/** `xeno image` and `xeno disk`: what domains' disks are kept in. */
import type { BlockStore } from "@xenoserver/devices/block/store.ts";
import type { RemoteImages } from "@xenoserver/storage/images/remote.ts";
import { type Command, InvalidArgumentError, Option } from "commander";

/** Loaded when they are needed, so that running a domain does not pay for them. */
const storage = () => import("@xenoserver/storage/index.ts");

async function openStore(source?: RemoteImages) {
  const { openDefaultStore } = await storage();
  return openDefaultStore(source);
}

const UNITS: Readonly<Record<string, number>> = { "": 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 };

/** A size such as 10G, in bytes. */
export function parseSize(written: string): number {
  const match = /^(\d+(?:\.\d+)?)([KMGT]?)$/i.exec(written);
  const bytes = match === null ? 0 : Number(match[1]) * UNITS[match[2]!.toUpperCase()]!;
  if (!(bytes >= 512)) throw new InvalidArgumentError("Expected a size in bytes, perhaps with K, M, G or T.");
  return Math.ceil(bytes / 512) * 512;
}

const mib = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
const say = (line: string): void => void process.stdout.write(`${line}\n`);

/** Shows how far something has come, if a person watches. */
function meter(what: string): (part: number) => void {
  let shown = -1;
  return (part) => {
    const percent = Math.floor(part * 100);
    if (!process.stderr.isTTY || percent === shown) return;
    shown = percent;
    process.stderr.write(`\r${what} ${percent} %\x1b[K`);
  };
}

function endMeter(): void {
  if (process.stderr.isTTY) process.stderr.write("\r\x1b[K");
}

const formatOption = (formats: readonly string[]) =>
  new Option("--format <name>", "format of the file").choices([...formats]);

export function addDiskCommands(program: Command): void {
  const image = program.command("image").description("images: disks that never change, to clone domains' disks from");
  image
    .command("import")
    .description("make an image of a disk's file")
    .argument("<file>")
    .argument("<name>")
    .addOption(formatOption(["raw", "qcow2", "vhd"]))
    .option("--allow-backing", "let a qcow2 file name others that it is built upon")
    .action(importImage);
  image.command("ls").description("list images").action(listImages);
  image
    .command("rm")
    .description("forget a name; `gc` gives the space back")
    .argument("<name>")
    .action(async (name: string) => (await openStore()).remove(name));
  image
    .command("export")
    .description("write an image's disk to a file")
    .argument("<name>")
    .argument("<file>")
    .addOption(formatOption(["raw", "qcow2"]).default("raw"))
    .action(exportImage);
  image
    .command("push")
    .description("bring an image to where others find it: a folder, or s3://BUCKET/PREFIX")
    .argument("<name>")
    .argument("<place>")
    .action(pushImage);
  image
    .command("pull")
    .description("take over an image from such a place")
    .argument("<name>")
    .argument("<place>")
    .option("--lazy", "fetch its chunks when they are needed; $XENO_CHUNK_SOURCE has to name the place then")
    .action(pullImage);
  image
    .command("gc")
    .description("give back the space of what no image and no disk needs any more")
    .option("--now", "also of what was needed within the last hour")
    .action(collectGarbage);

  const disk = program.command("disk").description("domains' own disks");
  disk
    .command("create")
    .description("make an empty disk in a file")
    .argument("<file>")
    .argument("<size>", "such as 10G", parseSize)
    .addOption(formatOption(["raw", "qcow2"]).default("raw"))
    .action(createDisk);
  disk
    .command("ls")
    .description("list disks on images")
    .action(async () => (await (await openStore()).listOverlays()).forEach((id) => say(id)));
  disk
    .command("rm")
    .description("delete a disk on an image")
    .argument("<id>")
    .action(async (id: string) => (await openStore()).removeOverlay(id));
  disk
    .command("commit")
    .description("make an image of a disk that no domain uses")
    .argument("<id>")
    .argument("<image>")
    .action(commitDisk);
}

async function importImage(
  file: string,
  name: string,
  options: { format?: "raw" | "qcow2" | "vhd"; allowBacking?: boolean },
): Promise<void> {
  const { detectFormat, openImage } = await storage();
  const format = options.format ?? (await detectFormat(file));
  const source = await openImage(file, { format, readOnly: true, allowBacking: options.allowBacking === true });
  try {
    const digest = await (await openStore()).import(name, source, meter(`importing ${name}`));
    endMeter();
    say(`${name} ${digest.slice(0, 16)} ${mib(source.info.sizeBytes)} (${format})`);
  } finally {
    await source.close();
  }
}

async function listImages(): Promise<void> {
  const images = await (await openStore()).list();
  for (const { name, digest, sizeBytes } of images) say(`${name} ${digest.slice(0, 16)} ${mib(sizeBytes)}`);
}

async function exportImage(name: string, file: string, options: { format: "raw" | "qcow2" }): Promise<void> {
  const { copyDisk } = await storage();
  const source = await (await openStore()).openImage(name);
  const target = await newDisk(file, source.info.sizeBytes, options.format);
  await copyDisk(source, target, meter(`exporting ${name}`));
  endMeter();
  await target.close();
}

async function createDisk(file: string, sizeBytes: number, options: { format: "raw" | "qcow2" }): Promise<void> {
  await (await newDisk(file, sizeBytes, options.format)).close();
}

async function newDisk(file: string, sizeBytes: number, format: "raw" | "qcow2"): Promise<BlockStore> {
  const { createQcow2, openImage, RandomAccessFile } = await storage();
  if (format === "qcow2") await createQcow2(file, { sizeBytes });
  else await (await RandomAccessFile.create(file, sizeBytes)).close();
  return openImage(file, { format, readOnly: false });
}

async function pushImage(name: string, place: string): Promise<void> {
  const { openRemote } = await storage();
  const { sent, total } = await (await openStore()).push(name, await openRemote(place));
  say(`${name}: ${sent} of ${total} chunks were not there yet`);
}

async function pullImage(name: string, place: string, options: { lazy?: boolean }): Promise<void> {
  const { openRemote } = await storage();
  const remote = await openRemote(place);
  const digest = await (await openStore(remote)).pull(name, remote, options.lazy !== true);
  say(`${name} ${digest.slice(0, 16)}`);
}

async function collectGarbage(options: { now?: boolean }): Promise<void> {
  const store = await openStore();
  const { kept, trashed, deleted, deletedBytes } = await store.collect(options.now === true ? 0 : undefined);
  say(
    `${kept} chunks are needed, ${trashed} are not any more, ${deleted} were deleted: ${mib(deletedBytes)} are free again`,
  );
}

async function commitDisk(id: string, image: string): Promise<void> {
  const store = await openStore();
  const disk = await store.openOverlay(id);
  try {
    say(`${image} ${(await store.commit(disk, image)).slice(0, 16)}`);
  } finally {
    await disk.close();
  }
}
