/**
 * What containers' images say of themselves: JSON from strangers, checked as far as it is used.
 * @see OCI image-spec: manifest.md, image-index.md, config.md, descriptor.md
 */
import { createHash } from "node:crypto";
import { type Content, readContent, StorageError } from "@xenoserver/storage";

/** An image that cannot be had or used. One sentence. */
export class OciError extends StorageError {}

/** "sha256:" and 64 hexadecimal digits. */
export type OciDigest = string & { readonly __brand: "OciDigest" };

export interface Descriptor {
  readonly mediaType: string;
  readonly digest: OciDigest;
  readonly sizeBytes: number;
  readonly platform?: string;
  readonly annotations: Readonly<Record<string, string>>;
}

/** What a container runs and how. */
export interface ProcessConfig {
  readonly entrypoint: readonly string[];
  readonly cmd: readonly string[];
  /** NAME=VALUE each. */
  readonly env: readonly string[];
  readonly cwd: string;
  /** "user", "uid" or either with ":group"; empty for root. */
  readonly user: string;
}

export interface ImageConfig {
  readonly platform: string;
  /** SHA-256 of each layer's archive when it is unpacked. */
  readonly diffIds: readonly OciDigest[];
  readonly process: ProcessConfig;
}

/** A layer as it is kept: a tar archive, perhaps packed. Its bytes are compared with its digest as they are read. */
export interface Layer {
  readonly name: string;
  /** 0 if it is not known. */
  readonly sizeBytes: number;
  open(): Promise<AsyncIterable<Uint8Array>>;
}

/** An image in some place, of which nothing was unpacked yet. */
export interface OciImage {
  /** What messages call it. */
  readonly name: string;
  readonly config: ImageConfig;
  /** Of its configuration: names the image wherever it is. */
  readonly digest: OciDigest;
  readonly layers: readonly Layer[];
  close(): Promise<void>;
}

export const MAX_JSON_BYTES = 4 << 20;
export const PLATFORM = "linux/amd64";

export const isOciDigest = (text: unknown): text is OciDigest =>
  typeof text === "string" && /^sha256:[0-9a-f]{64}$/.test(text);

export const digestOf = (bytes: Uint8Array): OciDigest =>
  `sha256:${createHash("sha256").update(bytes).digest("hex")}` as OciDigest;

type Json = Readonly<Record<string, unknown>>;
const isObject = (value: unknown): value is Json =>
  typeof value === "object" && value !== null && !Array.isArray(value);

export function parseJson(bytes: Uint8Array, name: string): unknown {
  try {
    return JSON.parse(Buffer.from(bytes).toString("utf8"));
  } catch {
    throw new OciError(`${name}: is no JSON`);
  }
}

function asObject(value: unknown, name: string): Json {
  if (!isObject(value)) throw new OciError(`${name}: expected an object`);
  return value;
}

function asList(value: unknown, name: string): readonly unknown[] {
  if (!Array.isArray(value)) throw new OciError(`${name}: expected a list`);
  return value;
}

export function asStrings(value: unknown, name: string): string[] {
  if (value === undefined || value === null) return [];
  return asList(value, name).map((item) => {
    if (typeof item !== "string" || item.includes("\0")) throw new OciError(`${name}: expected strings without NUL`);
    return item;
  });
}

function asDescriptor(value: unknown, name: string): Descriptor {
  const { mediaType, digest, size, platform, annotations } = asObject(value, name);
  if (!isOciDigest(digest))
    throw new OciError(
      `${name}: digest is ${JSON.stringify(digest)?.slice(0, 80)}, expected sha256: and 64 hex digits`,
    );
  if (!Number.isSafeInteger(size) || (size as number) < 0)
    throw new OciError(`${name}: size is ${size}, expected bytes`);
  const labels = isObject(annotations)
    ? Object.entries(annotations).filter(([, text]) => typeof text === "string")
    : [];
  return {
    mediaType: typeof mediaType === "string" ? mediaType : "",
    digest,
    sizeBytes: size as number,
    annotations: Object.fromEntries(labels) as Record<string, string>,
    ...(isObject(platform) && { platform: `${platform["os"]}/${platform["architecture"]}` }),
  };
}

/** A document that names others: either one image, or images for several platforms. */
export type Manifest =
  | { readonly kind: "image"; readonly config: Descriptor; readonly layers: readonly Descriptor[] }
  | { readonly kind: "index"; readonly manifests: readonly Descriptor[] };

export function parseManifest(bytes: Uint8Array, name: string): Manifest {
  const document = asObject(parseJson(bytes, name), name);
  if (document["schemaVersion"] !== 2)
    throw new OciError(`${name}: schemaVersion is ${String(document["schemaVersion"])}, expected 2`);
  if (document["manifests"] !== undefined) {
    const manifests = asList(document["manifests"], `${name}: manifests`);
    return { kind: "index", manifests: manifests.map((item, n) => asDescriptor(item, `${name}: manifest ${n}`)) };
  }
  const layers = asList(document["layers"], `${name}: layers`);
  return {
    kind: "image",
    config: asDescriptor(document["config"], `${name}: config`),
    layers: layers.map((item, n) => asDescriptor(item, `${name}: layer ${n}`)),
  };
}

/** @throws OciError  there is none for this platform */
export function forPlatform(manifests: readonly Descriptor[], name: string): Descriptor {
  const found = manifests.find(({ platform }) => platform === PLATFORM);
  if (found !== undefined) return found;
  const only = manifests.length === 1 ? manifests[0] : undefined;
  if (only !== undefined && only.platform === undefined) return only;
  const there = [...new Set(manifests.map(({ platform }) => platform ?? "unknown"))].join(", ") || "none";
  throw new OciError(`${name}: is for ${there}, expected ${PLATFORM}`);
}

export function parseConfig(bytes: Uint8Array, name: string): ImageConfig {
  const document = asObject(parseJson(bytes, name), name);
  const rootfs = asObject(document["rootfs"], `${name}: rootfs`);
  const diffIds = asList(rootfs["diff_ids"], `${name}: diff_ids`);
  if (!diffIds.every(isOciDigest)) throw new OciError(`${name}: diff_ids: expected digests`);
  const config =
    document["config"] === undefined || document["config"] === null
      ? {}
      : asObject(document["config"], `${name}: config`);
  const text = (key: string): string => {
    const value = config[key] ?? "";
    if (typeof value !== "string" || value.includes("\0")) throw new OciError(`${name}: ${key}: expected a string`);
    return value;
  };
  return {
    platform: `${String(document["os"])}/${String(document["architecture"])}`,
    diffIds,
    process: {
      entrypoint: asStrings(config["Entrypoint"], `${name}: Entrypoint`),
      cmd: asStrings(config["Cmd"], `${name}: Cmd`),
      env: asStrings(config["Env"], `${name}: Env`).filter((word) => /^[^=]+=/.test(word)),
      cwd: text("WorkingDir") || "/",
      user: text("User"),
    },
  };
}

/** A place that keeps documents and layers under their digests. */
export interface BlobPlace {
  readonly name: string;
  blob(descriptor: Pick<Descriptor, "digest" | "sizeBytes" | "mediaType">): Promise<AsyncIterable<Uint8Array>>;
  close(): Promise<void>;
}

/**
 * From a manifest, or an index of several, to the image.
 * @throws OciError  it is not what it says, or for another platform
 */
export async function imageOf(place: BlobPlace, root: Uint8Array): Promise<OciImage> {
  let bytes = root;
  for (let depth = 0; depth < 4; depth++) {
    const manifest = parseManifest(bytes, place.name);
    if (manifest.kind === "image") return imageIn(place, manifest.config, manifest.layers);
    bytes = await document(place, forPlatform(manifest.manifests, place.name));
  }
  throw new OciError(`${place.name}: has an index of indexes of indexes, expected an image`);
}

async function imageIn(place: BlobPlace, config: Descriptor, layers: readonly Descriptor[]): Promise<OciImage> {
  return {
    name: place.name,
    config: parseConfig(await document(place, config), `${place.name}: configuration`),
    digest: config.digest,
    layers: layers.map((layer, n) => ({
      name: `${place.name}: layer ${n + 1} of ${layers.length}`,
      sizeBytes: layer.sizeBytes,
      open: async () => checked(await place.blob(layer), layer, `${place.name}: layer ${n + 1}`),
    })),
    close: () => place.close(),
  };
}

/** A small document, whole. */
async function document(place: BlobPlace, descriptor: Descriptor): Promise<Uint8Array> {
  const name = `${place.name}: ${descriptor.digest.slice(0, 19)}`;
  if (descriptor.sizeBytes > MAX_JSON_BYTES)
    throw new OciError(`${name}: is ${descriptor.sizeBytes} bytes, expected ≤ ${MAX_JSON_BYTES}`);
  const pieces: Uint8Array[] = [];
  for await (const piece of checked(await place.blob(descriptor), descriptor, name)) pieces.push(piece);
  return Buffer.concat(pieces);
}

/** Passes bytes on, and throws at their end, or as soon as they are too many, if they are not what the descriptor says. */
export async function* checked(
  pieces: AsyncIterable<Uint8Array>,
  { digest, sizeBytes }: Pick<Descriptor, "digest" | "sizeBytes">,
  name: string,
): AsyncGenerator<Uint8Array> {
  const hash = createHash("sha256");
  let size = 0;
  for await (const piece of pieces) {
    size += piece.length;
    if (size > sizeBytes) throw new OciError(`${name}: is longer than ${sizeBytes} bytes, as its size is given`);
    hash.update(piece);
    yield piece;
  }
  if (size !== sizeBytes) throw new OciError(`${name}: has ${size} bytes, expected ${sizeBytes}`);
  const actual = `sha256:${hash.digest("hex")}`;
  if (actual !== digest) throw new OciError(`${name}: its digest is ${actual}, expected ${digest}`);
}

/** A small file of an archive, whole. */
export const wholeJson = (content: Content, name: string): Promise<Uint8Array> =>
  readContent(content, MAX_JSON_BYTES, name);
