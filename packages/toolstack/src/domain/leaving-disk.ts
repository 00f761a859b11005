/** Disks that go along with a domain that moves. */
import { randomUUID } from "node:crypto";
import { rm } from "node:fs/promises";
import { dirname } from "node:path";
import { BlockSet, type Digest, type ImageStore, type OverlayStore, openDefaultStore } from "@xenoserver/storage";
import { overlayName } from "../cfg/disk.ts";
import type { DiskSpec } from "../cfg/index.ts";
import type { LeaveOptions, LeavingDisk } from "../migrate/leaving.ts";
import { pathOf, storedBytes } from "./disks.ts";
import type { HandoverStore } from "./handover-store.ts";

/** @returns undefined for a disk that has to be reachable where the domain goes */
export async function leaveWith(
  spec: DiskSpec,
  domain: string,
  store: HandoverStore,
  options: LeaveOptions,
): Promise<LeavingDisk | undefined> {
  if (spec.format === "image")
    return spec.readOnly ? leaveImage(spec, store) : leaveOverlay(store, spec.vdev, overlayName(domain, spec.vdev));
  return options.copyStorage === true ? leaveFile(spec, store, options.ownDisks) : undefined;
}

/** @returns what there is to send first, and what is written later */
function watched(store: HandoverStore, first: () => BlockSet): Pick<LeavingDisk, "collect" | "read"> {
  store.watch();
  let all: BlockSet | undefined = first();
  return {
    collect: () => {
      const written = store.collect();
      if (all === undefined) return written;
      written.addAll(all);
      all = undefined;
      return written;
    },
    read: (offset, into) => store.read(offset, [into]),
  };
}

async function leaveOverlay(store: HandoverStore, vdev: string, id: string): Promise<LeavingDisk> {
  const images = await openDefaultStore();
  const mark = randomUUID();
  await images.mark(id, mark);
  // What it is on and what was written on that belong together: a snapshot may put it on another image at any time later.
  const { base, blocks } = (store.inner as OverlayStore).written();
  return {
    offer: {
      kind: "overlay",
      ...{ vdev, base, mark },
      sizeBytes: store.info.sizeBytes,
      usedBytes: blocks.size * BLOCK_BYTES,
    },
    ...watched(store, () => blocks),
    chunk: (digest) => chunkOf(images, digest),
    stay: async () => {
      store.forget();
      await images.mark(id, undefined);
    },
    remove: async () => {
      store.forget();
      await images.removeOverlay(id);
    },
  };
}

const BLOCK_BYTES = 4096;

async function leaveImage({ target, vdev }: DiskSpec, store: HandoverStore): Promise<LeavingDisk> {
  const images = await openDefaultStore();
  const nothing = async (): Promise<void> => {};
  return {
    offer: {
      kind: "image",
      ...{ vdev, base: await images.resolve(target) },
      sizeBytes: store.info.sizeBytes,
      usedBytes: 0,
    },
    collect: () => new BlockSet(0),
    read: (offset, into) => store.read(offset, [into]),
    chunk: (digest) => chunkOf(images, digest),
    stay: nothing,
    remove: nothing,
  };
}

/** As it is kept; fetched first if it is elsewhere. */
async function chunkOf({ chunks }: ImageStore, digest: Digest): Promise<Uint8Array | undefined> {
  const file = await chunks.fetch(digest);
  if (file !== undefined) return file;
  await chunks.get(digest);
  return chunks.fetch(digest);
}

async function leaveFile(spec: DiskSpec, store: HandoverStore, ownDisks: string | undefined): Promise<LeavingDisk> {
  const { sizeBytes } = store.info;
  const path = pathOf(spec.target);
  return {
    offer: { kind: "file", vdev: spec.vdev, sizeBytes, usedBytes: Math.min(sizeBytes, storedBytes(spec, sizeBytes)) },
    ...watched(store, () => {
      const all = new BlockSet(sizeBytes);
      all.addBytes(0, sizeBytes);
      return all;
    }),
    stay: async () => store.forget(),
    // Anything else is somebody's, who may have other plans with it.
    remove: async () => {
      store.forget();
      if (dirname(path) === ownDisks) await rm(path, { force: true });
    },
  };
}
