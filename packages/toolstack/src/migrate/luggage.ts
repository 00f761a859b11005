/** What a domain that arrives brings along, on the side that it comes to: its disks, and the files that it is built from. */
import { randomUUID } from "node:crypto";
import { rmSync, statfsSync } from "node:fs";
import { join } from "node:path";
import type { BlockStore } from "@xenoserver/devices";
import {
  type ImageStore,
  isDigest,
  openDefaultStore,
  openImage,
  RandomAccessFile,
  SET_BLOCK_BYTES,
  syncFolder,
} from "@xenoserver/storage";
import { makeFolder } from "@xenoserver/storage/file-owner.ts";
import { overlayName } from "../cfg/disk.ts";
import type { DiskSpec, DomainConfig } from "../cfg/index.ts";
import { SaveError } from "../save/error.ts";
import { decodeBlocks } from "./block-record.ts";
import { sumOf } from "./leaving.ts";
import { LeftList } from "./left-list.ts";
import { type DiskOffer, type FileOffer, type Offer, pathOf } from "./offer.ts";
import type { Requests } from "./requests.ts";

/** Where what comes along may be put. */
export interface Places {
  /** The domain's own folder, which goes when the domain does. */
  readonly folder: string;
  /** For disks that are files: they stay when the domain ends. */
  readonly disks: string;
}

/** Bytes of a file that are still to be written count as taken. */
const SPARE_BYTES = 16 << 20;

export class Luggage {
  /** As it is here. */
  config: DomainConfig;
  readonly #offer: Offer;
  readonly #places: Places;
  readonly #requests: Requests;
  readonly #left: LeftList;
  /** By its place in the offer; a store that a device has taken over is still written to by nobody else. */
  readonly #stores = new Map<number, BlockStore>();
  readonly #handedOver = new Set<number>();
  /** Disks that come from the sender's hands; the others are reached here. */
  readonly #sizes: (number | undefined)[];

  private constructor(config: DomainConfig, offer: Offer, places: Places, requests: Requests) {
    this.config = config;
    this.#offer = offer;
    this.#places = places;
    this.#requests = requests;
    this.#left = new LeftList(places.folder);
    this.#sizes = offer.disks.map(() => undefined);
  }

  /**
   * Makes room for what the domain cannot reach from here, and fetches what does not change.
   * @throws Error  there is no room, or something of the same name; nothing is left then
   */
  static async fetch(config: DomainConfig, offer: Offer, places: Places, requests: Requests): Promise<Luggage> {
    const luggage = new Luggage(config, offer, places, requests);
    try {
      for (const file of offer.files) await luggage.#fetchFile(file);
      for (const [place, disk] of offer.disks.entries()) await luggage.#fetchDisk(place, disk);
      return luggage;
    } catch (error) {
      await luggage.discard();
      throw error;
    }
  }

  /** The places in the offer of disks whose blocks are to be sent. */
  get wanted(): number[] {
    return [...this.#offer.disks.keys()].filter((place) => this.#sizes[place] !== undefined);
  }

  async #fetchFile(file: FileOffer): Promise<void> {
    const here = pathOf(this.config, file.key)!;
    if (file.stays && (await sumOf(here).catch(() => undefined))?.sha256 === file.sha256) return;
    const path = join(this.#places.folder, file.key);
    rmSync(path, { force: true });
    await this.#requests.file(file, path);
    const { sha256 } = await sumOf(path);
    if (sha256 !== file.sha256) throw new SaveError(`${file.key}: has the SHA-256 ${sha256}, expected ${file.sha256}`);
    const { shim } = this.config;
    if (file.key !== "pvshim_path") this.config = { ...this.config, [file.key]: path };
    else if (shim !== undefined) this.config = { ...this.config, shim: { ...shim, path } };
  }

  async #fetchDisk(place: number, offer: DiskOffer): Promise<void> {
    const spec = this.config.disks!.find(({ vdev }) => vdev === offer.vdev)!;
    const fits = (spec.format === "image") === (offer.kind !== "file");
    if (!fits)
      throw new SaveError(`disk ${spec.vdev}: comes as ${offer.kind}, expected what its format ${spec.format} says`);
    if (offer.kind === "file") return this.#makeFile(place, offer, spec);
    const images = await openDefaultStore(this.#requests);
    if (offer.kind === "image") await this.#bringImage(images, offer.base, spec);
    else await this.#makeOverlay(images, place, offer, spec);
  }

  async #makeOverlay(
    images: ImageStore,
    place: number,
    offer: DiskOffer & { kind: "overlay" },
    { vdev }: DiskSpec,
  ): Promise<void> {
    const id = overlayName(this.config.name, vdev);
    if (await images.hasOverlay(id)) {
      if ((await images.markOf(id)) === offer.mark) return;
      throw new SaveError(
        `disk ${vdev}: there is a disk ${id} with other contents here; expected none, as after: xeno disk rm ${id}`,
      );
    }
    refuseWithoutRoom(vdev, offer.usedBytes, await images.freeBytes());
    this.#left.add({ overlays: [id] });
    const digest = await images.resolve(offer.base);
    await images.bring(digest, () => images.clone(digest, id));
    const overlay = await images.openOverlay(id);
    this.#stores.set(place, overlay);
    if (overlay.info.sizeBytes < offer.sizeBytes) await overlay.grow(offer.sizeBytes);
    if (overlay.info.sizeBytes !== offer.sizeBytes)
      throw new SaveError(
        `disk ${vdev}: has ${offer.sizeBytes} bytes, expected ≥ ${overlay.info.sizeBytes} of its image`,
      );
    this.#sizes[place] = offer.sizeBytes;
  }

  async #bringImage(images: ImageStore, base: string, spec: DiskSpec): Promise<void> {
    const { target, vdev } = spec;
    const digest = await images.resolve(base);
    const known = await images.resolve(target).catch(() => undefined);
    const hasOther = isDigest(target) || (known !== undefined && known !== digest);
    const name = hasOther ? `${overlayName(this.config.name, vdev)}:moved-${randomUUID().slice(0, 8)}` : target;
    await images.bring(digest, async () => {
      if (known === digest && !isDigest(target)) return;
      this.#left.add({ images: [name] });
      await images.tag(digest, name);
    });
    this.#replaceDisk({ ...spec, target: name });
  }

  async #makeFile(place: number, { vdev, sizeBytes, usedBytes }: DiskOffer, spec: DiskSpec): Promise<void> {
    const { disks } = this.#places;
    makeFolder(disks, 0o700);
    const { bavail, bsize } = statfsSync(disks);
    refuseWithoutRoom(vdev, usedBytes, bavail * bsize);
    const path = join(disks, `${overlayName(this.config.name, vdev)}-${randomUUID().slice(0, 8)}.raw`);
    this.#left.add({ files: [path] });
    await (await RandomAccessFile.create(path, sizeBytes)).close();
    await syncFolder(disks);
    this.#stores.set(place, await openImage(path, { format: "raw", readOnly: false }));
    this.#sizes[place] = sizeBytes;
    this.#replaceDisk({ ...spec, target: path, format: "raw" });
  }

  #replaceDisk(spec: DiskSpec): void {
    const disks = this.config.disks!.map((disk) => (disk.vdev === spec.vdev ? spec : disk));
    this.config = { ...this.config, disks };
  }

  /** Writes blocks that came. @throws RangeError  they belong nowhere @throws StorageError */
  async take(payload: Buffer): Promise<void> {
    const { disk, offset, lengthBytes, bytes } = decodeBlocks(payload, this.#sizes);
    const store = this.#stores.get(disk)!;
    const isHole = bytes === undefined && this.#offer.disks[disk]!.kind === "overlay";
    // An overlay remembers that a block is zero; of a file that is discarded nobody knows what it reads as.
    if (isHole && lengthBytes % SET_BLOCK_BYTES === 0) await store.discard(offset, lengthBytes);
    else await store.write(offset, [bytes ?? new Uint8Array(lengthBytes)]);
  }

  /** All that came is on the disk, and survives this machine's end. */
  async flush(): Promise<void> {
    await Promise.all([...this.#stores.values()].map((store) => store.flush()));
  }

  /** Disks that came, and are open. */
  get vdevs(): ReadonlySet<string> {
    return new Set([...this.#stores.keys()].map((place) => this.#offer.disks[place]!.vdev));
  }

  /** A disk that has come, for its device, which closes it; undefined for others, and the second time. */
  handOver(vdev: string): BlockStore | undefined {
    const place = this.#offer.disks.findIndex((disk) => disk.vdev === vdev);
    const store = this.#stores.get(place);
    if (store === undefined || this.#handedOver.has(place)) return undefined;
    this.#handedOver.add(place);
    // A disk that is only read is opened as what it is from now on.
    const isReadOnly = this.config.disks?.find((disk) => disk.vdev === vdev)?.readOnly === true;
    return isReadOnly ? readOnly(store) : store;
  }

  /** The domain runs here: what came stays. */
  async keep(): Promise<void> {
    await this.#left.forget();
  }

  /** The domain does not come: nothing stays but chunks, until the next collection. Devices have closed what they took over. */
  async discard(): Promise<void> {
    for (const [place, store] of this.#stores) if (!this.#handedOver.has(place)) await store.close();
    this.#stores.clear();
    await this.#left.remove();
  }
}

const readOnly = (store: BlockStore): BlockStore => ({
  info: { ...store.info, readOnly: true },
  read: (offset, into) => store.read(offset, into),
  write: (offset, from) => store.write(offset, from),
  flush: () => store.flush(),
  discard: (offset, lengthBytes) => store.discard(offset, lengthBytes),
  close: () => store.close(),
});

function refuseWithoutRoom(vdev: string, neededBytes: number, freeBytes: number): void {
  if (neededBytes + SPARE_BYTES > freeBytes)
    throw new SaveError(`disk ${vdev}: needs ${neededBytes} bytes here, expected ≤ ${freeBytes} that are free`);
}
