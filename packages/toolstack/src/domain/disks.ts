/** Opens what a domain's disks are kept in. */
import { existsSync, statSync } from "node:fs";
import { BlockDriver, type BlockStore, type RateLimits } from "@xenoserver/devices";
import { openDefaultStore, openImage, StorageError } from "@xenoserver/storage";
import { ConfigError, type DiskSpec } from "../cfg/index.ts";
import type { PreparedDevice } from "./devices.ts";
import { HandoverStore } from "./handover-store.ts";

/** More queues than vcpus are of no use, and Linux uses no more than four. */
const MAX_QUEUES = 4;

/** @throws ConfigError  the file or image cannot be used */
export async function prepareDisk(spec: DiskSpec, domain: string, vcpus: number): Promise<PreparedDevice> {
  const store = await HandoverStore.open(() => open(spec, domain));
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
    close: () => store.close(),
  };
}

/** What a disk's file takes of its host, holes not counted; of a disk in the image store, and of a device, its whole size. */
function storedBytes({ target, format }: DiskSpec, sizeBytes: number): number {
  if (format === "image") return sizeBytes;
  const found = statSync(pathOf(target), { throwIfNoEntry: false });
  return found?.isFile() === true ? found.blocks * STAT_BLOCK_BYTES : sizeBytes;
}

const STAT_BLOCK_BYTES = 512;

const asDiskError = ({ vdev }: DiskSpec, error: unknown): unknown =>
  error instanceof StorageError ? new ConfigError(`disk ${vdev}: ${error.message}`, { cause: error.cause }) : error;

async function open(spec: DiskSpec, domain: string): Promise<BlockStore> {
  try {
    const { target, format, readOnly } = spec;
    if (format === "image") return await openFromStore(spec, domain);
    return await openImage(pathOf(target), { format, readOnly });
  } catch (error) {
    throw asDiskError(spec, error);
  }
}

/** What a domain writes on an image is kept under the domain's and the disk's name, and is there again the next time. */
async function openFromStore({ target, vdev, readOnly }: DiskSpec, domain: string): Promise<BlockStore> {
  const images = await openDefaultStore();
  if (readOnly) return images.openImage(target);
  const id = `${domain}-${vdev}`;
  if (!(await images.hasOverlay(id))) await images.clone(target, id);
  return images.openOverlay(id);
}

/** xl looks for relative paths below /dev; so do we, for those that name nothing here. */
function pathOf(target: string): string {
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
