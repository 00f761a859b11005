/** Domains whose configuration names no kernel: the image that their first disk is on may bring one. */
import { type ImageExtras, openDefaultStore, StorageError } from "@xenoserver/storage";
import { type DiskSpec, readDisks } from "../cfg/disk.ts";
import { type CfgSetting, ConfigError } from "../cfg/index.ts";
import { Complaint } from "../cfg/readers.ts";

/**
 * Fills in kernel, ramdisk and command line from the image of the first disk. Leaves settings alone that name a kernel or have
 * no such disk: what is wrong with them, `domainConfig` says.
 * @returns what came with the image, if the domain boots from one
 * @throws ConfigError  there is no such image, or it brings no kernel
 */
export async function bootFromImage(settings: Map<string, CfgSetting>): Promise<ImageExtras | undefined> {
  const disk = settings.has("kernel") ? undefined : firstDisk(settings);
  if (disk?.format !== "image") return undefined;
  const setting = settings.get("disk")!;
  const set = (key: string, text: string): void => {
    settings.set(key, { key, value: { kind: "atom", text, quoted: true }, origin: setting.origin });
  };
  try {
    const store = await openDefaultStore();
    // A disk that is there already goes on with the kernel of the image that it is on, whatever its name stands for now.
    const extras = await extrasOf(store, disk, textOf(settings, "name") ?? "domain");
    const { files = {}, about = {} } = extras;
    const { kernel, ramdisk } = files;
    if (kernel === undefined)
      throw new ConfigError(
        `${setting.origin}: kernel is missing, and image ${disk.target} brings none; expected kernel = "PATH"`,
      );
    set("kernel", await store.unpackFile(kernel));
    if (ramdisk !== undefined && !settings.has("ramdisk")) set("ramdisk", await store.unpackFile(ramdisk));
    if (settings.has("cmdline")) return extras;
    const { cmdline = "" } = about;
    if (!settings.has("root")) set("root", `/dev/${disk.vdev}`);
    set("extra", [cmdline, textOf(settings, "extra")].filter(Boolean).join(" "));
    return extras;
  } catch (error) {
    if (!(error instanceof StorageError)) throw error;
    throw new ConfigError(`${setting.origin}: disk ${disk.vdev}: ${error.message}`, { cause: error.cause });
  }
}

async function extrasOf(
  store: Awaited<ReturnType<typeof openDefaultStore>>,
  { target, vdev, readOnly }: DiskSpec,
  domain: string,
): Promise<ImageExtras> {
  const id = `${domain}-${vdev}`;
  const there = !readOnly && (await store.hasOverlay(id));
  return store.extras(there ? await store.baseOf(id) : target);
}

function firstDisk(settings: ReadonlyMap<string, CfgSetting>): DiskSpec | undefined {
  const value = settings.get("disk")?.value;
  try {
    return value === undefined ? undefined : readDisks(value)[0];
  } catch (error) {
    if (error instanceof Complaint) return undefined;
    throw error;
  }
}

function textOf(settings: ReadonlyMap<string, CfgSetting>, key: string): string | undefined {
  const value = settings.get(key)?.value;
  return value?.kind === "atom" ? value.text : undefined;
}
