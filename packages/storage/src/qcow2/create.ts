/** New qcow2 images. */
import { StorageError } from "../error.ts";
import { RandomAccessFile } from "../raw/file.ts";
import { encodeHeader } from "./header.ts";

export interface NewImage {
  /** A multiple of 512. */
  readonly sizeBytes: number;
  /** 9 to 21; the default is 16, clusters of 64 KiB. */
  readonly clusterBits?: number;
  readonly backing?: { readonly path: string; readonly format: string };
}

/** @throws StorageError  there is a file of that name, or it cannot be made */
export async function createQcow2(path: string, { sizeBytes, clusterBits = 16, backing }: NewImage): Promise<void> {
  if (sizeBytes % 512 !== 0 || sizeBytes <= 0)
    throw new StorageError(`${path}: size is ${sizeBytes} bytes, expected a multiple of 512`);
  const cluster = 2 ** clusterBits;
  const l1Entries = Math.ceil(sizeBytes / (cluster * (cluster / 8)));
  const l1Clusters = Math.ceil((l1Entries * 8) / cluster);
  // Header, refcount table, its first block, L1 table: counted by that block, so a small cluster limits L1's length.
  const used = 3 + l1Clusters;
  if (used > cluster / 2)
    throw new StorageError(`${path}: clusters of ${cluster} bytes are too small for ${sizeBytes} bytes`);
  const header = encodeHeader({
    clusterBits,
    sizeBytes,
    l1Entries,
    l1Offset: 3 * cluster,
    refcountTableOffset: cluster,
    refcountTableClusters: 1,
    backingFile: backing?.path,
    backingFormat: backing?.format,
  });
  const table = new Uint8Array(cluster);
  new DataView(table.buffer).setBigUint64(0, BigInt(2 * cluster));
  const block = new Uint8Array(cluster);
  const counts = new DataView(block.buffer);
  for (let n = 0; n < used; n++) counts.setUint16(n * 2, 1);
  const file = await RandomAccessFile.create(path, 0);
  try {
    await file.write(0, [header, table, block, new Uint8Array(l1Clusters * cluster)]);
    await file.flush();
  } finally {
    await file.close();
  }
}
