/** `xeno image`: disks that never change, and how they are made. */
import { type Command, Option } from "commander";
import { collected } from "./collected.ts";
import type { BuildOptions } from "./image-build-command.ts";
import type { ImportOptions } from "./image-import-command.ts";
import { endMeter, formatOption, meter, mib, newDisk, openStore, parseSize, say, storage } from "./store-access.ts";

export function addImageCommands(program: Command, setStatus: (status: number) => void): void {
  const image = program.command("image").description("images: disks that never change, to clone domains' disks from");
  image
    .command("build")
    .description("make an image of Debian packages, with its kernel")
    .argument("<source>", "such as debian:12 or debian:bookworm")
    .argument("<name>")
    .option("--package <name>", "add a package, with what it depends on; may be repeated", collected)
    .option("--size <size>", "of the disk", parseSize, 2 * 2 ** 30)
    .addOption(
      new Option("--flavour <name>", "which kernel; only the generic one has 9p")
        .choices(["cloud", "generic"])
        .default("cloud"),
    )
    .option("--hostname <name>", "what the system calls itself", "debian")
    .option("--ssh-key <file>", "let this public key log in as root", collected)
    .addOption(new Option("--mirror <url>", "Debian archive to use instead of the machine's").env("XENO_DEBIAN_MIRROR"))
    .addOption(new Option("--keyring <file>", "keys that sign the mirror's archive").env("XENO_DEBIAN_KEYRING"))
    .action(async (source: string, name: string, options: BuildOptions) => {
      const { buildCommand } = await import("./image-build-command.ts");
      setStatus(await buildCommand(source, name, options));
    });
  image
    .command("import")
    .description("make an image of a disk's file, or of a container's image")
    .argument("<source>", "a disk's file; an archive of an image; oci:FOLDER, oci:ARCHIVE:TAG, oci:HOST/NAME:TAG")
    .argument("<name>")
    .addOption(formatOption(["raw", "qcow2", "vhd"]))
    .option("--allow-backing", "let a qcow2 file name others that it is built upon")
    .option("--size <size>", "of the disk of a container's image", parseSize)
    .option("--disk-only", "do not look for a kernel that boots a container's image")
    .option("--plain-http", "speak to a registry without TLS")
    .addOption(new Option("--mirror <url>", "Debian archive that the kernel comes from").env("XENO_DEBIAN_MIRROR"))
    .addOption(new Option("--keyring <file>", "keys that sign the mirror's archive").env("XENO_DEBIAN_KEYRING"))
    .action(async (source: string, name: string, options: ImportOptions) => {
      const { importCommand } = await import("./image-import-command.ts");
      setStatus(await importCommand(source, name, options));
    });
  image.command("ls").description("list images").action(listImages);
  image
    .command("rm")
    .description("forget a name; `gc` gives the space back")
    .argument("<name>")
    .action(async (name: string) => (await openStore()).remove(name));
  image.command("info").description("say what an image is").argument("<name>").action(describeImage);
  image
    .command("tag")
    .description("give an image another name")
    .argument("<image>")
    .argument("<name>")
    .action(async (name: string, other: string) => {
      say(`${other} ${(await (await openStore()).tag(name, other)).slice(0, 16)}`);
    });
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
}

async function listImages(): Promise<void> {
  const images = await (await openStore()).list();
  for (const { name, digest, sizeBytes } of images) say(`${name} ${digest.slice(0, 16)} ${mib(sizeBytes)}`);
}

async function describeImage(name: string): Promise<void> {
  const image = await (await openStore()).describe(name);
  const { files = {}, about = {} } = image.extras;
  const rows: (readonly [string, string])[] = [
    ["digest", image.digest],
    ["size", `${mib(image.sizeBytes)}, ${mib(image.usedBytes)} of it in use`],
    ...Object.entries(about).filter(([, value]) => value !== ""),
    ...Object.entries(files).map(
      ([key, file]) => [key, `${mib(file.sizeBytes)}, ${file.digest.slice(0, 16)}`] as const,
    ),
  ];
  const width = Math.max(...rows.map(([key]) => key.length));
  for (const [key, value] of rows) say(`${key.padEnd(width)}  ${value}`);
}

async function exportImage(name: string, file: string, options: { format: "raw" | "qcow2" }): Promise<void> {
  const { copyDisk } = await storage();
  const source = await (await openStore()).openImage(name);
  const target = await newDisk(file, source.info.sizeBytes, options.format);
  await copyDisk(source, target, meter(`exporting ${name}`));
  endMeter();
  await target.close();
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
