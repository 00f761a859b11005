/** `xeno disk`: domains' own disks. */
import type { Command } from "commander";
import { formatOption, newDisk, openStore, parseSize, say } from "./store-access.ts";

export function addDiskCommands(program: Command): void {
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

async function createDisk(file: string, sizeBytes: number, options: { format: "raw" | "qcow2" }): Promise<void> {
  await (await newDisk(file, sizeBytes, options.format)).close();
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
