/** Opens what a domain's disks are kept in. */
import { randomUUID } from "node:crypto";
import { existsSync, statSync } from "node:fs";
import { BlockDriver, type BlockStore, type RateLimits } from "@xenoserver/devices";
import { OverlayStore, openDefaultStore, openImage, StorageError } from "@xenoserver/storage";
import { keptDiskName, overlayName } from "../cfg/disk.ts";
import { ConfigError, type DiskSpec } from "../cfg/index.ts";
import type { DisksOnImages, PreparedDevice, PrepareOptions } from "./devices.ts";
import { HandoverStore } from "./handover-store.ts";
import { leaveWith } from "./leaving-disk.ts";

/** More queues than vcpus are of no use, and Linux uses no more than four. */
const MAX_QUEUES = 4;

/** @throws ConfigError  the file or image cannot be used */
export async function prepareDisk(
  spec: DiskSpec,
  domain: string,
  vcpus: number,
  { disks: onImages, diskOf }: Pick<PrepareOptions, "disks" | "diskOf"> = {},
): Promise<PreparedDevice> {
  let expected = onImages;
  const store = await HandoverStore.open(async () => diskOf?.(spec.vdev) ?? open(spec, domain, expected));
  expected = "known";
  let driver: BlockDriver | undefined;
  return {
    deviceClass: "vbd",
    devid: spec.devid,
    driver: (host) => {
      driver = new BlockDriver(host, {
        store: spec.discard ? store : withoutDiscard(store),
        vdev: spec.vdev,
        devid: spec.devid,
        maxQueues: Math.min(vcpus, MAX_QUEUES),
        limits: limitsOf(spec),
      });
      return driver;
    },
    ...(store.canGrow && {
      grow: async (sizeBytes: number) => {
        await store.grow(sizeBytes).catch((error: unknown) => {
          throw asDiskError(spec, error);
        });
        return driver?.properties() ?? {};
      },
    }),
    counters: () => {
      const { reads = 0, writes = 0, flushes = 0, discards = 0, readBytes = 0, writtenBytes = 0 } = driver?.stats ?? {};
      return {
        kind: "disk",
        vdev: spec.vdev,
        devid: spec.devid,
        sizeBytes: store.info.sizeBytes,
        storedBytes: storedBytes(spec, store.info.sizeBytes),
        ...{ reads, writes, flushes, discards, readBytes, writtenBytes },
      };
    },
    flush: () => (store.info.readOnly ? Promise.resolve() : store.flush()),
    release: () => store.release(),
    retake: () => store.retake(),
    leave: (options) => leaveWith(spec, domain, store, options),
    ...(!spec.readOnly && { freeze: () => freeze(spec, domain, store.inner) }),
    close: () => store.close(),
  };
}

/** What a disk's file takes of its host, holes not counted; of a disk in the image store, and of a device, its whole size. */
export function storedBytes({ target, format }: DiskSpec, sizeBytes: number): number {
  if (format === "image") return sizeBytes;
  const found = statSync(pathOf(target), { throwIfNoEntry: false });
  return found?.isFile() === true ? found.blocks * STAT_BLOCK_BYTES : sizeBytes;
}

const STAT_BLOCK_BYTES = 512;

const asDiskError = ({ vdev }: DiskSpec, error: unknown): unknown =>
  error instanceof StorageError ? new ConfigError(`disk ${vdev}: ${error.message}`, { cause: error.cause }) : error;

async function open(spec: DiskSpec, domain: string, onImages: DisksOnImages | undefined): Promise<BlockStore> {
  try {
    const { target, format, readOnly } = spec;
    if (format === "image") return await openFromStore(spec, domain, onImages);
    return await openImage(pathOf(target), { format, readOnly });
  } catch (error) {
    throw asDiskError(spec, error);
  }
}

/** What a domain writes on an image is kept under the domain's and the disk's name, and is there again the next time. */
async function openFromStore(
  { target, vdev, readOnly }: DiskSpec,
  domain: string,
  onImages: DisksOnImages | undefined,
): Promise<BlockStore> {
  const images = await openDefaultStore();
  if (readOnly) return images.openImage(target);
  const id = overlayName(domain, vdev);
  const isThere = await images.hasOverlay(id);
  if (!isThere && onImages === "known")
    throw new ConfigError(`disk ${vdev}: ${domain} has none in this image store, expected the one that it wrote to`);
  if (!isThere) await images.clone(target, id);
  else if (onImages === "new")
    throw new ConfigError(
      `disk ${vdev}: ${domain} has one already, with other contents than the snapshot knows; expected another name for the domain`,
    );
  return images.openOverlay(id);
}

/** Makes an image of a disk as it is. @throws ConfigError  it is not on an image */
async function freeze(spec: DiskSpec, domain: string, store: BlockStore): Promise<() => Promise<DiskSpec>> {
  if (!(store instanceof OverlayStore))
    throw new ConfigError(
      `disk ${spec.vdev}: is on ${spec.target} itself, expected a disk on an image or one that is only read`,
    );
  const images = await openDefaultStore();
  const { promise: frozen, resolve } = Promise.withResolvers<void>();
  const name = keptDiskName(domain, spec.vdev, randomUUID().slice(0, 8));
  const committed = images.commit(store, name, resolve);
  await Promise.race([frozen, committed]);
  committed.catch(() => {});
  return async () => {
    await committed;
    return { ...spec, target: name };
  };
}

/** xl looks for relative paths below /dev; so do we, for those that name nothing here. */
export function pathOf(target: string): string {
  const below = `/dev/${target}`;
  return !target.startsWith("/") && !existsSync(target) && existsSync(below) ? below : target;
}

const limitsOf = ({ bytesPerSecond, requestsPerSecond, burstSeconds }: DiskSpec): RateLimits => ({
  ...(bytesPerSecond !== undefined && { bytesPerSecond }),
  ...(requestsPerSecond !== undefined && { requestsPerSecond }),
  ...(burstSeconds !== undefined && { burstSeconds }),
});

function withoutDiscard(store: BlockStore): BlockStore {
  return {
    get info() {
      const { sizeBytes, readOnly } = store.info;
      return { sizeBytes, readOnly };
    },
    read: (offset, into) => store.read(offset, into),
    write: (offset, from) => store.write(offset, from),
    flush: () => store.flush(),
    discard: async () => {},
    close: () => store.close(),
  };
}
