/** `xeno image import`: disks' files and containers' images. */
import { existsSync } from "node:fs";
import { endMeter, interruptible, meter, mib, openStore, progress, say, storage } from "./store-access.ts";

export interface ImportOptions {
  readonly format?: "raw" | "qcow2" | "vhd";
  readonly allowBacking?: boolean;
  readonly size?: number;
  readonly diskOnly?: boolean;
  readonly plainHttp?: boolean;
  readonly mirror?: string;
  readonly keyring?: string;
}

const CONTAINER_SCHEMES = /^(oci|docker|oci-archive|docker-archive):/;

/** @returns the exit status */
export async function importCommand(source: string, name: string, options: ImportOptions): Promise<number> {
  return (await isContainer(source, options))
    ? importContainer(source, name, options)
    : importDisk(source, name, options);
}

async function isContainer(source: string, { format }: ImportOptions): Promise<boolean> {
  if (format !== undefined) return false;
  if (existsSync(source)) return (await import("@xenoserver/toolstack/images/oci/index.ts")).isTar(source);
  return CONTAINER_SCHEMES.test(source);
}

async function importDisk(file: string, name: string, options: ImportOptions): Promise<number> {
  const { detectFormat, openImage } = await storage();
  const format = options.format ?? (await detectFormat(file));
  const source = await openImage(file, { format, readOnly: true, allowBacking: options.allowBacking === true });
  try {
    const digest = await (await openStore()).import(name, source, meter(`importing ${name}`));
    endMeter();
    say(`${name} ${digest.slice(0, 16)} ${mib(source.info.sizeBytes)} (${format})`);
    return 0;
  } finally {
    await source.close();
  }
}

function importContainer(reference: string, name: string, options: ImportOptions): Promise<number> {
  const show = meter(`keeping ${name}`);
  return interruptible(async (signal) => {
    const { importOci, openOci } = await import("@xenoserver/toolstack/images/oci/index.ts");
    const store = await openStore();
    const credentials = process.env["XENO_REGISTRY_CREDENTIALS"];
    const image = await openOci(reference, {
      ...(options.plainHttp && { plainHttp: true }),
      ...(credentials && { credentials }),
    });
    try {
      const digest = await importOci(store, image, {
        name,
        ...(options.size !== undefined && { sizeBytes: options.size }),
        ...(options.diskOnly !== true && { source: await packageSource(options) }),
        progress: (line) => {
          signal.throwIfAborted();
          progress(line);
        },
        meter: (part) => {
          signal.throwIfAborted();
          show(part);
        },
      });
      endMeter();
      const { sizeBytes, usedBytes } = await store.describe(name);
      say(`${name} ${digest.slice(0, 16)} ${mib(sizeBytes)}, ${mib(usedBytes)} in use (container)`);
    } finally {
      await image.close();
    }
  });
}

async function packageSource({ mirror, keyring }: ImportOptions) {
  const { openPackageSource } = await import("@xenoserver/toolstack/guest/index.ts");
  return openPackageSource({
    progress,
    ...(mirror !== undefined && { mirror }),
    ...(keyring !== undefined && { keyring }),
  });
}
