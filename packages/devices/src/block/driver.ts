/** A disk: what it offers its guest, and how the guest's rings are taken up. */
import { GrantError, type RingIndices } from "../ring/index.ts";
import {
  type BackendDriver,
  type BackendHost,
  type ConnectContext,
  type Connection,
  DeviceError,
  type FrontendKeys,
  type Nodes,
} from "../xenbus/index.ts";
import { BlockConnection } from "./connection.ts";
import { BLKIF_LAYOUTS, SECTOR_BYTES, VDISK_READONLY } from "./protocol.ts";
import { BlockQueue } from "./queue.ts";
import { RateLimiter, type RateLimits } from "./rate-limit.ts";
import { type BlockStats, noStats } from "./stats.ts";
import type { BlockStore } from "./store.ts";

export interface DiskConfig {
  readonly store: BlockStore;
  /** The guest's name for the disk: "xvda". */
  readonly vdev: string;
  /** Its number, by which xenstore knows it. */
  readonly devid: number;
  readonly maxQueues: number;
  readonly limits?: RateLimits;
}

const MAX_RING_PAGE_ORDER = 4;
const MAX_INDIRECT_SEGMENTS = 256;
const PHYSICAL_SECTOR_BYTES = 4096;
const MAX_GRANT_REF = 0xffffffff;

export class BlockDriver implements BackendDriver {
  readonly deviceClass = "vbd";
  readonly stateVersion = 1;
  readonly stats: BlockStats = noStats();
  readonly #host: BackendHost;
  readonly #config: DiskConfig;
  readonly #limiter: RateLimiter;

  constructor(host: BackendHost, config: DiskConfig) {
    this.#host = host;
    this.#config = config;
    this.#limiter = new RateLimiter(config.limits ?? {});
  }

  frontendNodes(): Nodes {
    return { "virtual-device": String(this.#config.devid), "device-type": "disk" };
  }

  backendNodes(): Nodes {
    const { store, vdev, maxQueues } = this.#config;
    const { readOnly, discardGranularityBytes } = store.info;
    const discard: Nodes =
      readOnly || discardGranularityBytes === undefined
        ? {}
        : {
            "feature-discard": "1",
            "discard-enable": "1",
            "discard-granularity": String(discardGranularityBytes),
            "discard-alignment": "0",
            "discard-secure": "0",
          };
    return {
      ...discard,
      dev: vdev,
      type: "file",
      mode: readOnly ? "r" : "w",
      removable: "0",
      bootable: "1",
      "hotplug-status": "connected",
      "feature-flush-cache": "1",
      "feature-barrier": "1",
      // The guest would use the same pages for all requests and copy each of them, which costs it more than granting.
      "feature-persistent": "0",
      "feature-max-indirect-segments": String(MAX_INDIRECT_SEGMENTS),
      "max-ring-page-order": String(MAX_RING_PAGE_ORDER),
      "max-ring-pages": String(2 ** MAX_RING_PAGE_ORDER),
      "multi-queue-max-queues": String(maxQueues),
    };
  }

  /** What the guest is told of the disk when it connects, and when the disk has grown. */
  properties(): Nodes {
    const { sizeBytes, readOnly } = this.#config.store.info;
    const isWhole = sizeBytes % PHYSICAL_SECTOR_BYTES === 0;
    return {
      sectors: String(sizeBytes / SECTOR_BYTES),
      "sector-size": String(SECTOR_BYTES),
      "physical-sector-size": String(isWhole ? PHYSICAL_SECTOR_BYTES : SECTOR_BYTES),
      info: String(readOnly ? VDISK_READONLY : 0),
    };
  }

  connect(context: ConnectContext): Connection {
    const { frontend, name, fail } = context;
    const { grants, channels, log } = this.#host;
    const protocol = frontend.read("protocol") ?? "x86_64-abi";
    const layout = Object.hasOwn(BLKIF_LAYOUTS, protocol) ? BLKIF_LAYOUTS[protocol] : undefined;
    if (layout === undefined) {
      const found = JSON.stringify(protocol.slice(0, 40));
      throw new DeviceError(`${name}: protocol is ${found}, expected ${Object.keys(BLKIF_LAYOUTS).join(" or ")}`);
    }
    const queueCount = frontend.readUnsigned("multi-queue-num-queues", {
      min: 1,
      max: this.#config.maxQueues,
      absent: 1,
    });
    const { store } = this.#config;
    const connection = new BlockConnection({
      name,
      store,
      grants,
      log,
      limiter: this.#limiter,
      stats: this.stats,
      properties: this.properties(),
    });
    try {
      for (let n = 0; n < queueCount; n++) {
        const folder = queueCount === 1 ? "" : `queue-${n}/`;
        const at = (context.saved as readonly RingIndices[] | undefined)?.[n];
        const queue = new BlockQueue({
          name: queueCount === 1 ? name : `${name} queue ${n}`,
          grants,
          channels,
          layout,
          maxIndirectSegments: MAX_INDIRECT_SEGMENTS,
          ringRefs: ringRefs(frontend, folder),
          guestPort: frontend.readUnsigned(`${folder}event-channel`, { max: 0xffffffff }),
          ...(at !== undefined && { at }),
          mayTake: () => connection.mayTake(),
          begin: (from, request) => connection.begin(from, request),
          fail,
        });
        connection.addQueue(queue);
      }
    } catch (error) {
      void connection.close();
      throw error instanceof GrantError ? new DeviceError(`${name}: ring: ${error.message}`) : error;
    }
    // The guest may have sent requests before we were there to be notified.
    setImmediate(() => connection.serveAll());
    return connection;
  }
}

/** A ring of one page is named `ring-ref`, a longer one `ring-ref0`, `ring-ref1` and so on. */
function ringRefs(frontend: FrontendKeys, folder: string): number[] {
  const order = frontend.readUnsigned("ring-page-order", { max: MAX_RING_PAGE_ORDER, absent: 0 });
  const key = (n: number): string => {
    if (order > 0) return `${folder}ring-ref${n}`;
    return frontend.read(`${folder}ring-ref`) === undefined ? `${folder}ring-ref0` : `${folder}ring-ref`;
  };
  return Array.from({ length: 2 ** order }, (_, n) => frontend.readUnsigned(key(n), { max: MAX_GRANT_REF }));
}
