/**
 * Images in folders and archives: the OCI's layout as a folder or a tar archive, and what `docker save` writes.
 * @see OCI image-spec, image-layout.md; Docker's "image specification v1.2", combined image JSON and file system changesets
 */
import { createReadStream } from "node:fs";
import { open, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { addTar, FileTree, piecesOf, Spool } from "@xenoserver/storage";
import {
  asStrings,
  type BlobPlace,
  digestOf,
  imageOf,
  MAX_JSON_BYTES,
  type OciDigest,
  OciError,
  type OciImage,
  parseConfig,
  parseJson,
  parseManifest,
  wholeJson,
} from "./image-spec.ts";

const MAX_ARCHIVE_BYTES = 64 * 2 ** 30;
const REF_NAME = "org.opencontainers.image.ref.name";

/**
 * Opens an image in a folder or a tar archive.
 * @param tag  which one, if there are several
 * @throws OciError, StorageError
 */
export async function openPath(path: string, tag?: string): Promise<OciImage> {
  const isFolder = await stat(path).then(
    (found) => found.isDirectory(),
    (error: NodeJS.ErrnoException) => {
      throw new OciError(`${path}: ${error.code === "ENOENT" ? "no such file or folder" : error.message}`);
    },
  );
  return isFolder ? openFolder(path, tag) : openArchive(path, tag);
}

const blobPath = (digest: OciDigest): string => `blobs/sha256/${digest.slice("sha256:".length)}`;

async function openFolder(path: string, tag: string | undefined): Promise<OciImage> {
  const index = await readSmall(join(path, "index.json"), path);
  const place: BlobPlace = {
    name: path,
    blob: async ({ digest }) => createReadStream(join(path, blobPath(digest))),
    close: async () => {},
  };
  return imageOf(place, rootOf(index, path, tag));
}

async function readSmall(file: string, name: string): Promise<Uint8Array> {
  const size = (await stat(file).catch(() => undefined))?.size;
  if (size === undefined) throw new OciError(`${name}: has no index.json, expected an OCI image layout`);
  if (size > MAX_JSON_BYTES) throw new OciError(`${file}: is ${size} bytes, expected ≤ ${MAX_JSON_BYTES}`);
  return readFile(file);
}

/** The index itself if it is of one image; otherwise an index of what has the tag. */
function rootOf(index: Uint8Array, name: string, tag: string | undefined): Uint8Array {
  const parsed = parseManifest(index, name);
  if (parsed.kind === "image") return index;
  const names = [...new Set(parsed.manifests.map(({ annotations }) => annotations[REF_NAME] ?? ""))];
  if (tag === undefined && names.length <= 1) return index;
  const chosen = parsed.manifests.filter(({ annotations }) => annotations[REF_NAME] === tag);
  if (tag === undefined || chosen.length === 0) {
    const wanted = tag === undefined ? "has several images" : `has no image ${tag}`;
    throw new OciError(`${name}: ${wanted}, expected one of ${names.filter(Boolean).join(", ") || "none"}`);
  }
  const manifests = chosen.map(({ sizeBytes, platform, ...rest }) => ({
    ...rest,
    size: sizeBytes,
    ...(platform !== undefined && {
      platform: { os: platform.split("/")[0], architecture: platform.split("/")[1] },
    }),
  }));
  return Buffer.from(JSON.stringify({ schemaVersion: 2, manifests }));
}

/** Whether a file is a tar archive. */
export async function isTar(path: string): Promise<boolean> {
  const file = await open(path, "r").catch(() => undefined);
  if (file === undefined) return false;
  try {
    const magic = Buffer.alloc(5);
    await file.read(magic, 0, 5, 257);
    return magic.toString("latin1") === "ustar";
  } finally {
    await file.close();
  }
}

async function openArchive(path: string, tag: string | undefined): Promise<OciImage> {
  const spool = await Spool.create(MAX_ARCHIVE_BYTES);
  try {
    const files = new FileTree();
    await addTar(files, createReadStream(path), spool, { name: path });
    const index = files.file("index.json");
    const manifest = files.file("manifest.json");
    if (index !== undefined) {
      const place: BlobPlace = {
        name: path,
        blob: async ({ digest }) => piecesOf(fileIn(files, blobPath(digest), path).content),
        close: () => spool.close(),
      };
      return await imageOf(place, rootOf(await wholeJson(index.content, path), path, tag));
    }
    if (manifest === undefined)
      throw new OciError(
        `${path}: has neither index.json nor manifest.json, expected an archive of a container's image`,
      );
    return await dockerImage(files, await wholeJson(manifest.content, path), path, tag, spool);
  } catch (error) {
    await spool.close();
    throw error;
  }
}

function fileIn(files: FileTree, name: string, archive: string) {
  const file = files.file(name);
  if (file === undefined) throw new OciError(`${archive}: has no ${name}, which its manifest names`);
  return file;
}

/** As `docker save` wrote them before it wrote the OCI's layout beside. */
async function dockerImage(
  files: FileTree,
  manifest: Uint8Array,
  path: string,
  tag: string | undefined,
  spool: Spool,
): Promise<OciImage> {
  const list = parseJson(manifest, `${path}: manifest.json`);
  const entries = Array.isArray(list) ? (list as Record<string, unknown>[]) : [];
  const tagsOf = (entry: Record<string, unknown>): string[] => asStrings(entry?.["RepoTags"], `${path}: RepoTags`);
  const entry =
    entries.length === 1 && tag === undefined ? entries[0] : entries.find((one) => tagsOf(one).includes(tag ?? ""));
  if (entry === undefined)
    throw new OciError(
      `${path}: expected one of its images ${entries.flatMap(tagsOf).join(", ")}, such as oci:${path}:NAME`,
    );
  const configBytes = await wholeJson(fileIn(files, String(entry["Config"]), path).content, path);
  const config = parseConfig(configBytes, `${path}: configuration`);
  const layers = asStrings(entry["Layers"], `${path}: Layers`).map((name, n) => {
    const { content } = fileIn(files, name, path);
    return { name: `${path}: layer ${n + 1}`, sizeBytes: content.sizeBytes, open: async () => piecesOf(content) };
  });
  return { name: path, config, digest: digestOf(configBytes), layers, close: () => spool.close() };
}
